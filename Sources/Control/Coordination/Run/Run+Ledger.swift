// How a run acts on the findings of its ledger.

import Configuration
import Wire

extension Run {
  /// Inspects the workers. Some findings are only reported, others end the generation.
  mutating func keepLedger(_ members: inout Members, _ turn: inout Turn) {
    guard phase.hasWorkers, let generation = phase.generation else { return }
    let workers = workers(in: members)
    let findings = ledger.inspect(workers, phase: phase, since: since, patience: patience, at: turn.now)
    for finding in findings { act(on: finding, workers, generation, &members, &turn) }
  }

  private mutating func act(
    on finding: Finding, _ workers: [(index: Int, member: Member)], _ generation: Generation,
    _ members: inout Members, _ turn: inout Turn
  ) {
    func worker(_ index: Int) -> Member { workers.first { $0.index == index }!.member }
    switch finding {
    case .silent(let index, let step):
      let worker = worker(index)
      let silence = (turn.now - worker.lastHeard).spoken
      say("step \(step + 1): worker \(worker.description.spoken) has been silent for \(silence)", &turn)
    case .waits(let index, let step):
      let worker = worker(index)
      let seconds = Duration.nanoseconds(Int64(worker.heartbeat.waitingSeconds * 1e9)).spoken
      say(
        "step \(step + 1): worker \(worker.description.name) has waited \(seconds) for \(worker.heartbeat.waiting!)",
        &turn)
    case .slow: break
    case .strayed(let index):
      let worker = worker(index)
      let time = (turn.now - worker.strayedAt!).spoken
      missing(
        index,
        "worker \(worker.description.spoken) has not worked for the run for \(time), although its heartbeats arrive",
        &members, &turn)
    case .blocked(let index):
      let worker = worker(index)
      putAside(worker, &members, turn)
      missing(
        index, "worker \(worker.description.spoken) has been waiting for \(worker.heartbeat.waiting!) without progress",
        &members, &turn)
    case .stuck(let index):
      let worker = worker(index)
      putAside(worker, &members, turn)
      let waiting = workers.filter { $0.member.heartbeat.waitingFor.contains(index) }.map(\.member.description.name)
      let others = waiting.isEmpty ? "" : ", and \(waiting.joined(separator: ", ")) wait for it"
      // It may never answer, so the run does not wait for its report of what it holds.
      members.release(worker.peer, generation.number, "it made no progress", &turn)
      let still = Ledger.still(worker, since, turn.now).spoken
      missing(
        index,
        "worker \(worker.description.spoken) has done nothing for \(still) in step \(worker.heartbeat.step + 1), although its heartbeats arrive\(others)",
        &members, &turn)
    case .deadlock: recover("every worker waits for another", &members, &turn)
    }
  }

  /// Takes a step's times and loads into account.
  mutating func weigh(_ record: StepRecord, _ members: inout Members, _ turn: inout Turn) {
    ledger.weigh(record)
    measureMove(record, &turn)
    guard case .training(let generation, nil) = phase else { return }
    letSlowGo(generation, &members, &turn)
    if phase.pending == nil { moveExperts(generation) }
  }

  /// Replaces a worker that was much slower than the others for the whole patience, or continues without it.
  private mutating func letSlowGo(_ generation: Generation, _ members: inout Members, _ turn: inout Turn) {
    let minimum = configuration.cluster.minimumWorkers
    for slow in ledger.slowWorkers(of: generation.roster.count, at: turn.now) {
      let worker = generation.roster[slow.index].worker
      let sentence = "worker \(worker.spoken) computes \(slow.factor) times as long as the others"
      if ledger.isNew(.slow(index: slow.index)) { say(sentence, &turn) }
      let hasSpare = members.inOrder.contains {
        $0.run == nil && $0.description.fingerprint == worker.fingerprint && $0.aside[id] == nil
          && Placement.isReachable($0.description, for: self)
      }
      guard slow.since + patience < turn.now, hasSpare || generation.roster.count > minimum,
        let member = self.worker(slow.index, in: members)
      else { continue }
      putAside(member, &members, turn)
      phase.pending = .renew(reason: sentence + " and is put aside")
      return
    }
  }

  private mutating func moveExperts(_ generation: Generation) {
    let seconds = account.changeSeconds
    guard
      let move = ledger.worthwhileMove(configuration, generation, step: steps.step, changeSeconds: seconds)
        ?? ledger.worthwhileCopies(configuration, generation, step: steps.step, changeSeconds: seconds)
    else { return }
    var generation = generation
    generation.promise = move.promise
    phase.generation = generation
    phase.pending = .renew(
      reason:
        "\(move.what): a step of \(Run.milliseconds(move.promise.stepSecondsBefore)) should take "
        + "\(Run.milliseconds(move.promise.stepSecondsExpected))")
  }

  /// After a move of experts, measures some steps and reports the result.
  private mutating func measureMove(_ record: StepRecord, _ turn: inout Turn) {
    // The first steps of a generation are slower, and steps of the previous generation do not count.
    guard case .training(var generation, nil) = phase, var promise = generation.promise, ledger.generationSteps > 5,
      promise.steps < PlacementPromise.measuredSteps
    else { return }
    promise.steps += 1
    promise.seconds += record.seconds
    generation.promise = promise
    phase.generation = generation
    guard promise.steps == PlacementPromise.measuredSteps else { return }
    ledger.judge(promise)
    say(
      "since the change of the experts, a step takes \(Run.milliseconds(promise.seconds / Double(promise.steps))); "
        + "\(Run.milliseconds(promise.stepSecondsExpected)) were expected, and it "
        + "took \(Run.milliseconds(promise.stepSecondsBefore)) before", &turn)
  }

  private static func milliseconds(_ seconds: Double) -> String { "\(Int(seconds * 1000 + 0.5)) ms" }
}
