// The state of the cluster, as `ress status` and the dashboard show it.

import Wire

extension Coordinator {
  /// - Parameter now: the coordinator's own time.
  func status(steady now: Instant) -> ClusterStatus {
    let heartbeats = Dictionary(
      members.inOrder.map { ($0.description.name, (incarnation: $0.description.incarnation, $0.heartbeat)) },
      uniquingKeysWith: { $1 })
    return ClusterStatus(
      runs: runs.all.map { run in
        run.status { worker in
          heartbeats[worker.name].flatMap { $0.incarnation == worker.incarnation ? $0.1 : nil }
        }
      },
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
  /// - Parameter heartbeat: the last one of a worker; nil where it is not connected.
  fileprivate func status(_ heartbeat: (WorkerDescription) -> Heartbeat?) -> ClusterStatus.Run {
    var shown = ClusterStatus.Run(
      id: id, name: name, state: state, reason: reason, step: steps.step, steps: configuration.training.steps,
      priority: priority, generation: generation?.number ?? 0, workers: roster.map(\.worker.name),
      minimumWorkers: configuration.cluster.minimumWorkers, wantedWorkers: configuration.cluster.workers,
      checkpointStep: checkpoints.newestStep, goodput: account.goodput)
    shown.memberships = memberships ?? (generation == nil ? 0 : nil)
    shown.forecast = submission.forecast
    shown.eventCount = eventCount
    let busy = ledger.busy
    // A single worker has no others to wait for.
    let waits = busy.count > 1 ? busy.map { max(0, ledger.stepSeconds - $0) } : []
    shown.actual = Forecast(
      stepSeconds: ledger.stepSeconds > 0 ? ledger.stepSeconds : nil,
      waitSeconds: waits.isEmpty ? nil : waits.reduce(0, +) / Double(waits.count), memoryBytes: ledger.memoryBytes,
      sentBytes: ledger.sentBytes.map { Int($0) }, checkpointBytes: checkpoints.byteCount)
    guard let generation, !roster.isEmpty else { return shown }
    shown.shares = roster.enumerated().map { index, entry in
      let heard = heartbeat(entry.worker), isHere = heard?.generation == generation.number
      let awaited = isHere ? heard?.waitingFor ?? [] : []
      return ClusterStatus.Share(
        worker: entry.worker.name, busySeconds: busy.indices.contains(index) ? busy[index] : nil,
        waitSeconds: waits.indices.contains(index) ? waits[index] : nil,
        sentBytes: ledger.sent.indices.contains(index) ? Int(ledger.sent[index]) : nil,
        memoryBytes: heard?.memoryBytes,
        lastShare: ledger.lastShares.indices.contains(index) ? ledger.lastShares[index] : nil,
        waitsFor: awaited.filter { roster.indices.contains($0) }.map { roster[$0].worker.name })
    }
    return shown
  }
}
