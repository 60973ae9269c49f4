// The life of a run: submitted, prepared, placed, run, ended. One run at a time holds workers; the others wait in the order
// they came.

import Configuration
import Wire

extension Coordinator {
  mutating func submit(_ submission: Submission, from peer: PeerID, _ actions: inout [Action]) {
    let name = submission.configuration.run
    // A command has checked it, but not every program that can reach the socket is our command.
    do throws(ConfigurationError) {
      try submission.configuration.check()
    } catch {
      return actions.append(
        .send(
          peer,
          .refused(reason: "the run cannot be accepted: " + error.problems.map(\.description).joined(separator: "; "))
        ))
    }
    if let same = runs.last(where: { $0.name == name && !$0.state.isEnd }) {
      let reason = "run \(name) is \(same.state.rawValue) already; follow or cancel it, or choose another name"
      actions.append(.send(peer, .refused(reason: reason)))
      return
    }
    submissions += 1
    var x = (seed ^ submissions) &* 0x9E37_79B9_7F4A_7C15
    x = (x ^ (x >> 29)) &* 0xBF58_476D_1CE4_E5B9
    let id = RunID((x ^ (x >> 32)) | 1)
    runs.append(Run(id: id, submission: submission, followers: []))
    if runs.count > Coordinator.endedRunLimit, let old = runs.firstIndex(where: \.state.isEnd) { runs.remove(at: old) }
    actions.append(.log("run \(name) (\(id)) was submitted"))
    actions.append(.send(peer, .submitted(run: id, name: name)))
    tell(id, .state(.queued, reason: "submitted"), &actions)
  }

  mutating func follow(_ name: String, _ peer: PeerID, _ actions: inout [Action]) {
    guard let run = find(name), let index = index(of: run.id) else { return refuseRun(name, peer, &actions) }
    for event in run.events { actions.append(.send(peer, .event(event))) }
    if !run.state.isEnd && !run.followers.contains(peer) { runs[index].followers.append(peer) }
  }

  /// Starts what can start: the first run that waits, if no other holds workers.
  mutating func placeNext(_ actions: inout [Action]) {
    guard preparing == nil, let index = runs.firstIndex(where: { !$0.state.isEnd }) else { return }
    let run = runs[index]
    switch run.state {
    case .queued:
      preparing = run.id
      change(run.id, to: .placing, "the run's folder is being looked at", &actions)
      actions.append(.prepareRun(run.id, run.submission))
    case .placing where run.roster.isEmpty && !run.folder.isEmpty: place(index, &actions)
    case .placing, .running, .finished, .failed, .cancelled: return
    }
  }

  mutating func finishPreparing(_ id: RunID, _ preparation: Event.Preparation, _ actions: inout [Action]) {
    if preparing == id { preparing = nil }
    guard let index = index(of: id), runs[index].state == .placing else { return }
    switch preparation {
    case .refused(let reason): end(id, .failed, reason, &actions)
    case .ready(let folder, let checkpoint, let firstStep, let notes):
      runs[index].folder = folder
      runs[index].checkpoint = checkpoint
      runs[index].firstStep = firstStep
      runs[index].step = firstStep
      let steps = runs[index].submission.configuration.training.steps
      for note in notes { tell(id, .said(note), &actions) }
      tell(id, .began(name: runs[index].name, firstStep: firstStep, steps: steps, checkpoint: checkpoint), &actions)
      if firstStep >= steps {
        end(id, .finished, "all \(steps) steps were done before; raise training.steps to go on", &actions)
      }
    }
  }

  /// Gives the run its workers, or says what it waits for.
  private mutating func place(_ index: Int, _ actions: inout [Action]) {
    let run = runs[index]
    let configuration = run.submission.configuration
    let wanted = configuration.cluster.workers
    let free = members.values.filter { $0.run == nil }.sorted { $0.id < $1.id }
    guard free.count >= wanted else {
      let present =
        free.isEmpty
        ? "none is here" : "\(free.count) are here: " + free.map(\.description.name).joined(separator: ", ")
      return change(run.id, to: .placing, "waits for \(wanted) workers; \(present)", &actions)
    }
    // One fingerprint: workers whose arithmetic differs in a bit would make the curve depend on the cluster.
    let groups = Dictionary(grouping: free, by: \.description.fingerprint)
    let fitting = groups.values.filter { $0.count >= wanted }.min { $0[0].id < $1[0].id }
    guard let workers = fitting?.prefix(wanted) else {
      let first = free[0]
      let other = free.first { $0.description.fingerprint != first.description.fingerprint }!
      let reason =
        "\(wanted) workers with equal arithmetic are needed: \(first.description.spoken) computes as "
        + "\(first.description.fingerprint), \(other.description.spoken) as \(other.description.fingerprint)"
      return change(run.id, to: .placing, reason, &actions)
    }
    lastGeneration += 1
    let units = evenShares(
      of: configuration.training.batchSequences / configuration.training.unitSequences, among: wanted)
    let experts = evenShares(of: configuration.model.routedExperts, among: wanted)
    let roster = workers.enumerated().map { place, member in
      RosterEntry(
        worker: member.description, units: units[place], experts: configuration.model.experts(in: experts[place]))
    }
    runs[index].generation = lastGeneration
    runs[index].roster = workers.map(\.id)
    runs[index].ready = []
    runs[index].finished = []
    change(run.id, to: .placing, "\(wanted) workers load the model", &actions)
    tell(run.id, .placed(generation: lastGeneration, roster: roster), &actions)
    for (place, member) in workers.enumerated() {
      members[member.peer]!.run = run.id
      let assignment = Assignment(
        run: run.id, generation: lastGeneration, configuration: configuration, roster: roster, index: place,
        threads: configuration.cluster.threads, checkpoint: run.checkpoint, firstStep: run.firstStep,
        folder: runs[index].folder)
      actions.append(.send(member.peer, .assigned(assignment)))
    }
  }

  mutating func workerReady(_ member: Member, _ actions: inout [Action]) {
    guard let index = member.run.flatMap({ index(of: $0) }), runs[index].state == .placing else { return }
    runs[index].ready.insert(member.id)
    guard runs[index].ready.count == runs[index].roster.count else { return }
    let run = runs[index]
    let from = run.firstStep > 0 ? "goes on from step \(run.firstStep)" : "begins"
    change(run.id, to: .running, "\(from) with \(run.roster.count) workers", &actions)
    for id in run.roster {
      if let peer = self.member(id)?.peer { actions.append(.send(peer, .begin(generation: run.generation))) }
    }
  }

  mutating func stepDone(_ member: Member, _ record: StepRecord, _ actions: inout [Action]) {
    guard let index = member.run.flatMap({ index(of: $0) }) else { return }
    runs[index].step = record.step
    runs[index].losses[record.step] = record.loss
    runs[index].losses[record.step - 10_000] = nil
    tell(runs[index].id, .stepped(record), &actions)
  }

  /// One worker's files of a checkpoint are on disk. When all are, the checkpoint is committed.
  mutating func saved(_ member: Member, step: Int, _ files: [CheckpointManifest.File], _ actions: inout [Action]) {
    guard let index = member.run.flatMap({ index(of: $0) }) else { return }
    runs[index].saves[step, default: [:]][member.id] = files
    let run = runs[index]
    guard let saves = run.saves[step], saves.count == run.roster.count else { return }
    runs[index].saves[step] = nil
    runs[index].committing.insert(step)
    let all = run.roster.flatMap { saves[$0]! }.sorted { $0.name < $1.name }
    let manifest = CheckpointManifest(
      run: run.name, runIdentifier: run.id.description, step: step, configuration: run.submission.configuration,
      loss: run.losses[step], files: all, writer: program, created: "")
    actions.append(.commit(run.id, manifest, folder: run.folder))
  }

  mutating func committed(_ id: RunID, step: Int, path: String, _ actions: inout [Action]) {
    guard let index = index(of: id) else { return }
    runs[index].committing.remove(step)
    tell(id, .saved(step: step, path: path), &actions)
    finishIfDone(id, &actions)
  }

  mutating func workerFinished(_ member: Member, _ actions: inout [Action]) {
    guard let index = member.run.flatMap({ index(of: $0) }) else { return }
    runs[index].finished.insert(member.id)
    finishIfDone(runs[index].id, &actions)
  }

  /// A run is finished when every worker is and no checkpoint is under way.
  private mutating func finishIfDone(_ id: RunID, _ actions: inout [Action]) {
    guard let run = runs.first(where: { $0.id == id }), run.state == .running, run.finished.count == run.roster.count,
      run.committing.isEmpty, run.saves.isEmpty
    else { return }
    end(id, .finished, "all \(run.submission.configuration.training.steps) steps are done", &actions)
  }

  /// The run's last event. Its workers are told to stop and are free again.
  mutating func end(_ id: RunID, _ state: RunState, _ reason: String, _ actions: inout [Action]) {
    guard let index = index(of: id), !runs[index].state.isEnd else { return }
    let run = runs[index]
    if preparing == id { preparing = nil }
    for worker in run.roster {
      guard let member = member(worker), member.run == id else { continue }
      members[member.peer]!.run = nil
      actions.append(.send(member.peer, .stop(generation: run.generation, reason: reason)))
    }
    change(id, to: state, reason, &actions)
    runs[index].followers = []
    runs[index].saves = [:]
    runs[index].committing = []
  }
}
