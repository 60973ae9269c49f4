// The requests of users: submissions, and changes of runs.

import Configuration
import Wire

extension Coordinator {
  // MARK: submissions

  mutating func submit(_ submission: Submission, from peer: PeerID, _ turn: inout Turn) {
    let name = submission.configuration.run
    // The command has checked the configuration already, but other programs can send requests as well.
    do throws(ConfigurationError) {
      try submission.configuration.check()
    } catch {
      return turn.refuse(
        "the run cannot be accepted: " + error.problems.map(\.description).joined(separator: "; "), to: peer)
    }
    if let key = submission.key, let same = runs.submitted(with: key, by: submission.owner) {
      guard same.name == name, same.configuration.decidesSameNumbers(as: submission.configuration) else {
        return turn.refuse(
          "the key '\(key)' belongs to the submission of run \(same.name) (\(same.id)), which has another "
            + (same.name == name ? "configuration" : "name") + "; another run needs another --key", to: peer)
      }
      // The client repeats its request, because the first answer did not arrive.
      return turn.send(.submitted(run: same.id, name: same.name, after: 0), to: peer)
    }
    if let other = runs.find(name), other.name != name {
      return turn.refuse(
        "'\(name)' is the identifier of run \(other.name); choose another name with --set run=NAME", to: peer)
    }
    if let same = runs.newest(named: name) {
      guard same.state.isAtRest else {
        return turn.refuse(
          "run \(name) is \(same.state.rawValue) already; follow or cancel it, or choose another name", to: peer)
      }
      if submission.resume == .newest {
        runs[same.id].resubmit(submission)
        turn.log("run \(name) (\(same.id)) was submitted again")
        turn.send(.submitted(run: same.id, name: name, after: same.eventCount), to: peer)
        return enqueue(same.id, "submitted again", &turn)
      }
    }
    let id = newIdentifier()
    runs.add(Run(RunRecord(id: id, submission: submission), since: turn.now))
    turn.log("run \(name) (\(id)) was submitted")
    turn.send(.submitted(run: id, name: name, after: 0), to: peer)
    enqueue(id, "submitted", &turn)
  }

  /// An identifier that is not another run's identifier or name.
  private mutating func newIdentifier() -> RunID {
    var id: RunID
    repeat {
      counters.submissions += 1
      var x = (settings.seed ^ counters.submissions) &* 0x9E37_79B9_7F4A_7C15
      x = (x ^ (x >> 29)) &* 0xBF58_476D_1CE4_E5B9
      id = RunID((x ^ (x >> 32)) | 1)
    } while runs.find(id.description) != nil
    return id
  }

  func refuseRun(_ name: String, _ peer: PeerID, _ turn: inout Turn) {
    let known = runs.all.map(\.name)
    let hint = known.isEmpty ? "no run was submitted to this coordinator" : "it knows \(known.joined(separator: ", "))"
    turn.refuse("no run '\(name)'; \(hint)", to: peer)
  }

  // MARK: changes

  mutating func change(_ name: String, _ change: RunChange, from peer: PeerID, _ turn: inout Turn) {
    guard let run = runs.find(name) else { return refuseRun(name, peer, &turn) }
    if let reason = objection(to: change, run) { return turn.refuse(reason, to: peer) }
    let id = run.id
    func accept(_ sentence: String) { turn.send(.accepted(run: id, name: run.name, sentence), to: peer) }
    switch change {
    case .cancel:
      accept("run \(run.name) is cancelled")
      runs[id].end(.cancelled, "cancelled on request", &members, &turn)
    case .pause where run.phase.hasWorkers:
      accept("run \(run.name) will save a checkpoint at the end of this step and pause")
      runs[id].pause("paused on request", members, &turn)
    case .pause:
      accept("run \(run.name) is paused")
      runs[id].rest("paused on request", &members, &turn)
    case .abandon(let reason):
      accept("run \(run.name) is paused")
      runs[id].rest(reason, &members, &turn)
    case .resume:
      accept("run \(run.name) waits for its turn")
      runs[id].steps.forgiveLeftOut(atMost: run.configuration.training.skipAtMost)
      enqueue(id, "resumed on request", &turn)
    case .scale(let workers):
      accept(
        "run \(run.name) will have \(SpokenNumbers.count(workers, "worker")) as soon as \(SpokenNumbers.noun(workers, "it has", "they have")) joined"
      )
      runs[id].scale(to: workers, &turn)
    case .repair(let step, let generation, let shards): repair(run, step, generation, shards, peer, &turn)
    }
  }

  /// Why a change of a run is not possible; nil where it is.
  private func objection(to change: RunChange, _ run: Run) -> String? {
    switch change {
    case .cancel: return run.state.isEnd ? "run \(run.name) has ended: \(run.reason)" : nil
    case .pause, .abandon:
      return run.state.isAtRest ? "run \(run.name) is \(run.state.rawValue): \(run.reason)" : nil
    case .resume:
      if run.state == .finished {
        return
          "run \(run.name) is finished; raise training.steps, or training.stop_after where that ended it, and submit it with --resume to train it further"
      }
      guard run.state.isAtRest else { return "run \(run.name) is \(run.state.rawValue): \(run.reason)" }
      guard let newer = runs.owner(ofFolderOf: run), newer.id != run.id else { return nil }
      return
        "run \(run.name) (\(run.id)) cannot continue: its folder belongs to run \(newer.name) (\(newer.id)), which was "
        + "submitted after it"
    case .scale(let workers):
      let units = run.configuration.training.batchSequences / run.configuration.training.unitSequences
      guard (1...units).contains(workers) else {
        let most = units == 1 ? "1 worker" : "1 to \(units) workers"
        return
          "run \(run.name) has \(SpokenNumbers.count(units, "unit")) a step, so it can have \(most), not \(workers)"
      }
      return run.state.isEnd ? "run \(run.name) has ended: \(run.reason)" : nil
    case .repair: return nil
    }
  }

  /// Asks the workers that still hold the shards of a damaged checkpoint to write them again.
  private func repair(
    _ run: Run, _ step: Int, _ generation: UInt32, _ shards: [Int], _ peer: PeerID, _ turn: inout Turn
  ) {
    let hint = "an older checkpoint, resumed, computes it again to the same bits"
    var orders: [(PeerID, HeldShard)] = []
    for index in shards {
      let holder = members.inOrder.lazy.compactMap { member in
        member.heartbeat.held.first {
          $0.run == run.id && $0.generation == generation && $0.step == step && $0.index == index
        }.map { (member.peer, $0) }
      }.first
      guard let holder else {
        return turn.refuse(
          "no worker holds shard \(index) of step \(step) in its memory any more; \(hint)", to: peer)
      }
      orders.append(holder)
    }
    guard let layout = run.generations.first(where: { $0.number == generation }) else {
      return turn.refuse("generation \(generation), which wrote the checkpoint, is forgotten; \(hint)", to: peer)
    }
    for (holder, shard) in orders {
      var order = RewriteOrder(
        shard: shard, units: layout.roster.map(\.units), experts: layout.roster.map(\.experts), folder: run.folder)
      order.roots = settings.roots.isEmpty ? nil : settings.roots
      turn.send(.rewrite(order), to: holder)
    }
    let sentence = "\(SpokenNumbers.count(shards.count, "shard is", "shards are")) being written again from memory"
    turn.send(.accepted(run: run.id, name: run.name, sentence), to: peer)
  }
}
