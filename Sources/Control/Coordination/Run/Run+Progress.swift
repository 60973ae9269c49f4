// The progress of a generation: steps, evaluations, measurements of the router, and the end of the run.

import Configuration
import Wire

extension Run {
  mutating func stepDone(_ record: StepRecord, _ members: inout Members, _ turn: inout Turn) {
    ledger.countStep()
    account.heardStep(at: turn.now)
    if record.step <= steps.step { account.addRepeated(record) }
    switch steps.take(record) {
    case .differs(let before):
      return rest(
        "step \(record.step) was computed again and differs: loss \(record.loss) where \(before.loss) was recorded; "
          + "a worker computes wrongly, or the state that it began with was changed", &members, &turn)
    case .differsFromProof(let proof): return rest(Run.differing(record, from: proof), &members, &turn)
    case .new:
      fruitless = 0
      addNew(record, &turn)
    case .again: break
    }
    pauseIfLeftOut(record)
    prove(&turn)
    weigh(record, &members, &turn)
  }

  /// A step that was computed before the generation began and was not recorded, because the worker that reports steps
  /// died. All workers that computed it report it, and the first report is taken.
  mutating func recordMissing(_ record: StepRecord, _ members: inout Members, _ turn: inout Turn) {
    guard record.step == steps.step + 1 else { return }
    if case .differsFromProof(let proof) = steps.take(record) {
      return rest(Run.differing(record, from: proof), &members, &turn)
    }
    addNew(record, &turn)
    pauseIfLeftOut(record)
    prove(&turn)
  }

  private static func differing(_ record: StepRecord, from proof: StepMark) -> String {
    "step \(record.step), the first after its checkpoint, differs from what it gave when the checkpoint was written: loss "
      + "\(record.loss) instead of \(proof.loss); the configuration, the data or the machine is another one"
  }

  private mutating func addNew(_ record: StepRecord, _ turn: inout Turn) {
    account.add(record)
    tell(.stepped(record), &turn)
    if let reason = record.skipped { say("step \(record.step) was not applied: \(reason)", &turn) }
  }

  /// If the step was not applied, decides whether the run pauses. One bad sequence is no reason to stop; several such
  /// steps in a row mean that the run does not recover. The workers count as well and stop at that step by themselves,
  /// so that where the run stops does not depend on when its reports arrive; here the pause gets its reason. A run
  /// whose last step was not applied is not finished either.
  private mutating func pauseIfLeftOut(_ record: StepRecord) {
    guard let reason = record.skipped else { return }
    steps.leaveOut(record.step, newestCheckpoint: checkpoints.newestStep)
    let training = configuration.training
    let count = steps.leftOutInARow(record.step)
    let isTooMany = count > training.skipAtMost
    guard isTooMany || record.step == training.steps else { return }
    if case .pause? = phase.pending { return }
    phase.pending = .pause(
      reason: isTooMany
        ? (count == 1
          ? "a step could not be applied, because " : "\(count) steps in a row could not be applied, the last because ")
          + "\(reason); lower optimizer.learning_rate or optimizer.clip and submit it again with --resume"
        : Run.unfinished(count, of: training.steps))
  }

  static func unfinished(_ count: Int, of steps: Int) -> String {
    let what = count == 1 ? "the last of \(steps) steps was" : "the last \(count) of \(steps) steps were"
    return what
      + " not applied, so the run is not finished; raise training.steps, or lower optimizer.learning_rate and continue "
      + "from an older checkpoint with --resume PATH"
  }

  mutating func evaluated(_ record: EvaluationRecord, _ turn: inout Turn) {
    if steps.take(record, newestCheckpoint: checkpoints.newestStep) { tell(.evaluated(record), &turn) }
  }

  /// The step after which the run ends: the last one, or an earlier one after which `training.stop_after` ends it. The
  /// workers count as well and end by themselves at that step.
  var lastStep: Int {
    steps.endingStep(stopAfter: configuration.training.stopAfter) ?? configuration.training.steps
  }

  /// Why the run ends after a step because of its evaluations; nil where it does not.
  func earlyEnd(at step: Int) -> String? {
    let limit = configuration.training.stopAfter
    let standing = steps.standing(at: step)
    guard standing.ends(after: limit) else { return nil }
    let count = SpokenNumbers.count(standing.sinceBest, "evaluation")
    guard let best = standing.bestStep, let loss = standing.bestLoss else {
      return "\(count) had no finite loss, and training.stop_after is \(limit)"
    }
    return
      "\(count) had no smaller loss than that of step \(best) (\(Run.rounded(loss))), and training.stop_after is \(limit)"
  }

  /// Four digits after the point.
  private static func rounded(_ loss: Double) -> String {
    let whole = (abs(loss) * 10_000).rounded()
    guard whole < 1e15 else { return String(loss) }
    let digits = String(10_000 + Int(whole) % 10_000).dropFirst()
    return "\(loss < 0 ? "-" : "")\(Int(whole) / 10_000).\(digits)"
  }

  /// A measurement of the router. Warnings become messages of the run.
  mutating func examined(_ record: RouterRecord, _ turn: inout Turn) {
    guard steps.takeExamination(of: record.step) else { return }
    tell(.examined(record), &turn)
    for sentence in clinic.look(record, keys: configuration.model.keys) { say(sentence, &turn) }
  }

  /// The workers have measured their connections.
  mutating func measured(_ line: ExpertCopies.Line) { ledger.line = line }

  mutating func workerFinished(_ index: Int, _ members: inout Members, _ turn: inout Turn) {
    guard var generation = phase.generation else { return }
    generation.finished.insert(index)
    phase.generation = generation
    finishIfDone(&members, &turn)
  }

  /// A run is finished when its last checkpoint is committed.
  mutating func finishIfDone(_ members: inout Members, _ turn: inout Turn) {
    let count = lastStep
    guard !state.isAtRest, steps.step >= count, checkpoints.areSettled, generation?.allFinished == true,
      checkpoints.newestStep == count
    else { return }
    let early = count < configuration.training.steps ? earlyEnd(at: count) : nil
    end(.finished, early ?? (count == 1 ? "its only step is done" : "all \(count) steps are done"), &members, &turn)
  }
}
