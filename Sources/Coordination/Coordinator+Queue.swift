// Submissions and what users ask of runs, and whose turn it is: higher priority first, then who came first. Nobody overtakes a
// run that waits for workers, so none waits for ever.

import Configuration
import Wire

extension Coordinator {
  /// Who submitted a run, by its name or identifier; nil where nobody proved who they were, or there is none.
  package func owner(of run: String) -> PublicKey? {
    find(run)?.record.submission.owner
  }

  mutating func submit(_ submission: Submission, from peer: PeerID, _ turn: inout Turn) {
    let name = submission.configuration.run
    // A command has checked it, but not every program that can reach the socket is our command.
    do throws(ConfigurationError) {
      try submission.configuration.check()
    } catch {
      return turn.add(
        .send(
          peer,
          .refused(reason: "the run cannot be accepted: " + error.problems.map(\.description).joined(separator: "; "))
        ))
    }
    if let key = submission.key,
      let same = runs.first(where: {
        $0.record.submission.key == key && $0.record.submission.owner == submission.owner
      })
    {
      guard same.record.name == name, same.record.configuration.decidesSameNumbers(as: submission.configuration) else {
        let reason =
          "the key '\(key)' belongs to the submission of run \(same.record.name) (\(same.id)), which has another "
          + (same.record.name == name ? "configuration" : "name") + "; another run needs another --key"
        return turn.add(.send(peer, .refused(reason: reason)))
      }
      // Said twice, because the first answer did not arrive.
      return turn.add(.send(peer, .submitted(run: same.id, name: same.record.name, after: 0)))
    }
    if let other = runs.first(where: { $0.id.description == name && $0.record.name != name }) {
      let reason = "'\(name)' is the identifier of run \(other.record.name); choose another name with --set run=NAME"
      return turn.add(.send(peer, .refused(reason: reason)))
    }
    if let same = runs.last(where: { $0.record.name == name }) {
      if !same.record.state.isAtRest {
        let reason = "run \(name) is \(same.record.state.rawValue) already; follow or cancel it, or choose another name"
        return turn.add(.send(peer, .refused(reason: reason)))
      }
      if submission.resume == .newest, let index = index(of: same.id) {
        // The same run goes on, under its name, identifier and curve.
        submitAgain(index, submission)
        turn.add(.log("run \(name) (\(same.id)) was submitted again"))
        turn.add(.send(peer, .submitted(run: same.id, name: name, after: same.record.eventCount)))
        return enqueue(same.id, "submitted again", &turn)
      }
    }
    var id: RunID
    repeat {
      counters.submissions += 1
      var x = (seed ^ counters.submissions) &* 0x9E37_79B9_7F4A_7C15
      x = (x ^ (x >> 29)) &* 0xBF58_476D_1CE4_E5B9
      id = RunID((x ^ (x >> 32)) | 1)
    } while index(of: id) != nil || runs.contains { $0.record.name == id.description }
    runs.append(Run(record: RunRecord(id: id, submission: submission, place: 0), since: turn.now))
    if runs.count > Coordinator.endedRunLimit, let old = runs.firstIndex(where: \.record.state.isEnd) {
      runs.remove(at: old)
    }
    turn.add(.log("run \(name) (\(id)) was submitted"))
    turn.add(.send(peer, .submitted(run: id, name: name, after: 0)))
    enqueue(id, "submitted", &turn)
  }

  private mutating func submitAgain(_ index: Int, _ submission: Submission) {
    let before = runs[index].record
    runs[index].record.submission = submission
    runs[index].record.data = nil
    runs[index].record.forgiveLeftOut()
    guard before.wasEverPrepared else { return }
    let sameNumbers =
      before.configuration.decidesSameNumbers(as: submission.configuration) && submission.acceptsOtherData != true
    // Where it has no checkpoint of its own it begins from the one that it was first submitted to begin from.
    if submission.resume == .newest, case .checkpoint = before.submission.resume,
      sameNumbers || before.unprovenStep == 0
    {
      runs[index].record.submission.resume = before.submission.resume
    }
    // Its folder is looked at as for a new run: the numbers of the steps on record are no longer its own.
    if !sameNumbers {
      runs[index].record.step = 0
      runs[index].record.wasEverPrepared = false
      runs[index].record.leftOut = nil
    }
  }

  /// To the end of the queue.
  mutating func enqueue(_ id: RunID, _ reason: String, _ turn: inout Turn) {
    guard let index = index(of: id) else { return }
    counters.place += 1
    runs[index].record.place = counters.place
    runs[index].record.wish = nil
    runs[index].record.fruitless = 0
    runs[index].record.wasPlaced = false
    runs[index].record.firstGeneration = counters.generation + 1
    runs[index].record.generations = []
    runs[index].faultAt = nil
    enter(.idle, index, at: turn.now)
    change(id, to: .queued, reason, &turn)
  }

  mutating func change(
    _ name: String, _ change: RunChange, from peer: PeerID, _ turn: inout Turn
  ) {
    guard let run = find(name), let index = index(of: run.id) else { return refuseRun(name, peer, &turn) }
    let record = run.record
    func refuse(_ reason: String) { turn.add(.send(peer, .refused(reason: reason))) }
    func accept(_ sentence: String) {
      turn.add(.send(peer, .accepted(run: run.id, name: record.name, sentence)))
    }
    switch change {
    case .cancel:
      if record.state.isEnd { return refuse("run \(record.name) has ended: \(record.reason)") }
      accept("run \(record.name) is cancelled")
      end(run.id, .cancelled, "cancelled on request", &turn)
    case .pause:
      if record.state.isAtRest { return refuse("run \(record.name) is \(record.state.rawValue): \(record.reason)") }
      if record.phase.hasWorkers {
        accept("run \(record.name) will pause behind a checkpoint at the end of its step")
        runs[index].record.wish = .pause(reason: "paused on request")
      } else {
        accept("run \(record.name) is paused")
        rest(run.id, "paused on request", &turn)
      }
    case .abandon(let reason):
      if record.state.isAtRest { return refuse("run \(record.name) is \(record.state.rawValue): \(record.reason)") }
      accept("run \(record.name) is paused")
      rest(run.id, reason, &turn)
    case .resume:
      if record.state == .finished {
        return refuse(
          "run \(record.name) is finished; raise training.steps and submit it with --resume to train it further")
      }
      guard record.state.isAtRest else {
        return refuse("run \(record.name) is \(record.state.rawValue): \(record.reason)")
      }
      let directory = record.configuration.checkpoint.directory
      if let newer = runs.last(where: {
        $0.record.name == record.name && $0.record.configuration.checkpoint.directory == directory
      }), newer.id != run.id {
        return refuse(
          "run \(record.name) (\(run.id)) cannot go on: its folder belongs to run \(newer.record.name) (\(newer.id)), which was "
            + "submitted after it")
      }
      accept("run \(record.name) waits for its turn")
      runs[index].record.forgiveLeftOut()
      enqueue(run.id, "resumed on request", &turn)
    case .scale(let workers):
      let units = record.configuration.training.batchSequences / record.configuration.training.unitSequences
      guard (1...units).contains(workers) else {
        return refuse(
          "run \(record.name) has \(units) units a step, so it can have 1 to \(units) workers, not \(workers)")
      }
      if record.state.isEnd { return refuse("run \(record.name) has ended: \(record.reason)") }
      runs[index].record.submission.configuration.cluster.workers = workers
      let minimum = min(workers, record.configuration.cluster.minimumWorkers)
      runs[index].record.submission.configuration.cluster.minimumWorkers = minimum
      accept("run \(record.name) will have \(workers) workers as soon as they are here")
      runs[index].growsAtOnce = true
      tell(run.id, .said("scaled to \(workers) workers on request"), &turn)
      if record.phase.hasWorkers && record.roster.count > workers && record.wish == nil {
        runs[index].record.wish = .renew(reason: "scaled to \(workers) workers")
      }
    case .repair(let step, let generation, let shards): repair(run, step, generation, shards, peer, &turn)
    }
  }

  /// Asks whoever still holds the shards of a damaged checkpoint to write them again.
  private func repair(
    _ run: Run, _ step: Int, _ generation: UInt32, _ shards: [Int], _ peer: PeerID, _ turn: inout Turn
  ) {
    func refuseRepair(_ reason: String) {
      let hint = "an older checkpoint, resumed, computes it again to the same bits"
      turn.add(.send(peer, .refused(reason: "\(reason); \(hint)")))
    }
    var orders: [(PeerID, HeldShard)] = []
    for index in shards {
      let holder = members.values.sorted { $0.id < $1.id }.lazy.compactMap { member in
        member.heartbeat.held.first {
          $0.run == run.id && $0.generation == generation && $0.step == step && $0.index == index
        }.map { (member.peer, $0) }
      }.first
      guard let holder else {
        return refuseRepair("no worker holds shard \(index) of step \(step) in its memory any more")
      }
      orders.append(holder)
    }
    guard let layout = run.record.generations.first(where: { $0.number == generation }) else {
      return refuseRepair("generation \(generation), which wrote the checkpoint, is forgotten")
    }
    for (holder, shard) in orders {
      var order = RewriteOrder(
        shard: shard, units: layout.roster.map(\.units), experts: layout.roster.map(\.experts),
        folder: run.record.folder)
      order.roots = roots.isEmpty ? nil : roots
      turn.add(.send(holder, .rewrite(order)))
    }
    turn.add(
      .send(
        peer,
        .accepted(
          run: run.id, name: run.record.name,
          "\(shards.count) shard\(shards.count == 1 ? " is" : "s are") being written again from memory")))
  }

  /// Gives workers to those whose turn it is.
  mutating func schedule(_ turn: inout Turn) {
    let waiting = runs.filter { !$0.record.state.isAtRest && !$0.record.phase.hasWorkers && $0.record.phase != .saving }
      .sorted { ($1.record.priority, $0.record.place) < ($0.record.priority, $1.record.place) }
    var blocker: String?
    for run in waiting {
      guard let index = index(of: run.id) else { continue }
      if let blocker {
        if run.record.state == .queued { change(run.id, to: .queued, "waits behind run \(blocker)", &turn) }
        continue
      }
      switch run.record.phase {
      case .idle: prepare(run.id, again: run.record.wasEverPrepared, &turn)
      case .waiting:
        if case .pause(let reason)? = run.record.wish {
          rest(run.id, reason, &turn)
          continue
        }
        runs[index].record.wish = nil
        place(run.id, &turn)
      case .preparing, .loading, .training, .halting, .collecting, .saving: break
      }
      if runs[index].record.phase == .waiting || runs[index].record.phase == .preparing { blocker = run.record.name }
    }
    if blocker == nil { grow(&turn) }
    for run in runs where run.record.phase == .training && run.record.wish != nil {
      beginHalt(run.id, &turn)
    }
  }

  mutating func prepare(_ id: RunID, again: Bool, _ turn: inout Turn) {
    guard let index = index(of: id) else { return }
    runs[index].record.phase = .preparing
    if !again { change(id, to: .placing, "the run's folder is being looked at", &turn) }
    turn.add(.prepareRun(id, runs[index].record.submission, again: again))
  }

  mutating func finishPreparing(
    _ id: RunID, _ preparation: Event.Preparation, _ turn: inout Turn
  ) {
    guard let index = index(of: id), runs[index].record.phase == .preparing else {
      // Cancelled or paused meanwhile: the folder was taken for nothing.
      if case .ready(let folder, _, _, _, _, _, _, _) = preparation,
        self.index(of: id).map({ runs[$0].record.state.isAtRest }) ?? true
      {
        turn.add(.releaseFolder(id, folder: folder))
      }
      return
    }
    switch preparation {
    case .refused(let reason): end(id, .failed, reason, &turn)
    case .ready(let folder, let checkpoint, let firstStep, let proof, let notes, let data, let leftOut, let token):
      expectData(index, data)
      let steps = runs[index].record.configuration.training.steps
      let isFirst = runs[index].record.step == 0 || !runs[index].record.wasEverPrepared
      runs[index].record.folder = folder
      runs[index].record.start = checkpoint.map { .checkpoint(path: $0) } ?? .fresh
      runs[index].record.startsFromMemory = false
      runs[index].record.firstStep = firstStep
      runs[index].record.wasEverPrepared = true
      runs[index].record.token = token
      if checkpoint != nil { runs[index].record.checkpointStep = firstStep }
      if isFirst {
        runs[index].record.step = firstStep
        runs[index].record.evaluatedStep = firstStep
        runs[index].record.examinedStep = firstStep
        runs[index].marks = [:]
      }
      if leftOut <= runs[index].record.configuration.training.skipAtMost {
        runs[index].record.leaveOut(firstStep, count: leftOut)
      }
      // Another dataset gives another step.
      if let proof, runs[index].record.submission.acceptsOtherData != true { runs[index].marks[proof.step] = proof }
      enter(.waiting, index, at: turn.now)
      for note in notes { tell(id, .said(note), &turn) }
      if isFirst || !runs[index].record.wasPlaced {
        tell(
          id, .began(name: runs[index].record.name, firstStep: firstStep, steps: steps, checkpoint: checkpoint),
          &turn)
        for note in runs[index].record.submission.notes ?? [] { tell(id, .said(note), &turn) }
      }
      if firstStep < runs[index].record.step {
        tell(
          id,
          .said(
            "steps \(firstStep + 1) to \(runs[index].record.step) are computed again, and compared with what was recorded"
          ), &turn)
      }
      if firstStep > steps {
        end(
          id, .finished,
          "the checkpoint is of step \(firstStep), and training.steps is \(steps), so nothing is left to do; raise training.steps to go on",
          &turn)
      } else if firstStep == steps, leftOut > 0 {
        rest(id, Coordinator.unfinished(leftOut, of: steps), &turn)
      } else if firstStep == steps {
        end(id, .finished, "all \(steps) steps were done before; raise training.steps to go on", &turn)
      }
    }
  }

  /// Marks the beginning of a phase.
  mutating func enter(_ phase: RunRecord.Phase, _ index: Int, at now: Instant) {
    runs[index].record.phase = phase
    runs[index].since = now
  }

  /// Without workers until someone resumes it.
  mutating func rest(_ id: RunID, _ reason: String, _ turn: inout Turn) { end(id, .paused, reason, &turn) }

  /// The run's last event, unless it is resumed. Its workers are told to stop and are free again.
  mutating func end(_ id: RunID, _ state: RunState, _ reason: String, _ turn: inout Turn) {
    guard let index = index(of: id), !runs[index].record.state.isEnd else { return }
    let generation = runs[index].record.generation?.number ?? 0
    for peer in members.keys.sorted() where members[peer]!.run == id { release(peer, generation, reason, &turn) }
    runs[index].record.phase = .idle
    runs[index].record.generation = nil
    runs[index].record.generations = []
    runs[index].record.wish = nil
    runs[index].record.saves = [:]
    runs[index].faultAt = nil
    change(id, to: state, reason, &turn)
    let folder = runs[index].record.folder
    if state.isAtRest, !folder.isEmpty { turn.add(.releaseFolder(id, folder: folder)) }
  }
}

extension RunRecord {
  var priority: Int { configuration.cluster.priority }
}

extension RunConfiguration {
  /// Whether a step of the one gives the bits of the same step of the other.
  func decidesSameNumbers(as other: RunConfiguration) -> Bool {
    var mine = self, theirs = other
    // A longer run has another schedule, unless the rate is constant.
    for key in [\RunConfiguration.cluster] { mine[keyPath: key] = theirs[keyPath: key] }
    mine.checkpoint = theirs.checkpoint
    mine.training.evaluateEvery = theirs.training.evaluateEvery
    mine.training.evaluateSequences = theirs.training.evaluateSequences
    mine.training.clinicEvery = theirs.training.clinicEvery
    mine.training.recompute = theirs.training.recompute
    theirs.run = mine.run
    return mine == theirs
  }
}
