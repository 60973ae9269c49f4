// The state of the cluster, as `ress status` and the dashboard show it.

import Wire

extension Coordinator {
  /// - Parameter now: the coordinator's own time.
  func status(steady now: Instant) -> ClusterStatus {
    ClusterStatus(
      runs: runs.all.map(\.status),
      workers: members.inOrder.map { member in
        ClusterStatus.Worker(
          description: member.description, run: run(of: member).map { runs[$0].name },
          silentSeconds: (now - member.lastHeard).inSeconds, waiting: member.heartbeat.waiting)
      },
      gone: members.gone(at: now).map {
        ClusterStatus.Gone(
          description: $0.description, run: $0.run, reason: $0.reason, secondsAgo: (now - $0.at).inSeconds)
      })
  }

  /// The configuration, folder and owner of a run; nil where there is no such run.
  package func details(of id: RunID) -> RunDetails? {
    guard runs.contains(id) else { return nil }
    let run = runs[id], configuration = run.configuration
    return RunDetails(
      id: id, name: run.name, configuration: configuration,
      folder: run.folder.isEmpty ? "\(configuration.checkpoint.directory)/\(run.name)" : run.folder,
      owner: run.submission.owner, data: run.data)
  }
}

extension Run {
  fileprivate var status: ClusterStatus.Run {
    var shown = ClusterStatus.Run(
      id: id, name: name, state: state, reason: reason, step: steps.step, steps: configuration.training.steps,
      priority: priority, generation: generation?.number ?? 0, workers: roster.map(\.worker.name),
      minimumWorkers: configuration.cluster.minimumWorkers, wantedWorkers: configuration.cluster.workers,
      checkpointStep: checkpoints.newestStep, goodput: account.goodput)
    shown.memberships = memberships ?? (generation == nil ? 0 : nil)
    shown.forecast = submission.forecast
    shown.eventCount = eventCount
    shown.actual = Forecast(
      stepSeconds: ledger.stepSeconds > 0 ? ledger.stepSeconds : nil, memoryBytes: ledger.memoryBytes,
      sentBytes: ledger.sentBytes.map { Int($0) }, checkpointBytes: checkpoints.byteCount)
    return shown
  }
}
