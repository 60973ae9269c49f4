// Before a run gets workers, its folder is examined: unfinished checkpoints are removed, the checkpoint to begin from
// is found, and a folder that belongs to another run is refused.

import Configuration
import Wire

extension Run {
  /// - Parameter again: whether the folder is known to be the run's own, so that recorded steps are kept.
  mutating func prepare(again: Bool, _ turn: inout Turn) {
    phase = .preparing(after: phase.generation, then: phase.pending)
    if !again { change(to: .placing, "the run's folder is being examined", &turn) }
    turn.add(.prepareRun(id, submission, again: again, from: from))
  }

  mutating func finishPreparing(_ preparation: Event.Preparation, _ members: inout Members, _ turn: inout Turn) {
    guard phase.isPreparing else {
      // The run was cancelled or paused in the meantime, so it does not need the folder.
      if case .ready(let beginning) = preparation, state.isAtRest {
        turn.add(.releaseFolder(id, folder: beginning.folder))
      }
      return
    }
    switch preparation {
    case .refused(let reason): end(.failed, reason, &members, &turn)
    case .ready(let beginning):
      begin(from: beginning, &turn)
      endIfNothingIsLeft(beginning.firstStep, beginning.leftOut, &members, &turn)
    }
  }

  private mutating func begin(from beginning: Event.Beginning, _ turn: inout Turn) {
    let firstStep = beginning.firstStep, leftOut = beginning.leftOut
    expectData(beginning.data)
    let isFirst = steps.step == 0 || !wasEverPrepared
    folder = beginning.folder
    token = beginning.token
    from = beginning.from
    wasEverPrepared = true
    if beginning.checkpoint != nil { checkpoints.begin(from: firstStep) }
    if isFirst { steps.begin(after: firstStep) }
    if leftOut <= configuration.training.skipAtMost {
      steps.leaveOut(firstStep, count: leftOut, newestCheckpoint: checkpoints.newestStep)
    }
    steps.stand(at: firstStep, beginning.evaluations)
    // Another dataset changes the steps, and other numerics change their last bits.
    if let proof = beginning.proof, submission.keepsNumbers { steps.expect(proof) }
    let start =
      beginning.checkpoint.map { StartState.checkpoint(path: $0) } ?? from.map { .weights($0) } ?? .fresh
    enter(.waiting(.disk(start, firstStep: firstStep), after: phase.generation, then: phase.pending), at: turn.now)
    for note in beginning.notes { say(note, &turn) }
    if isFirst, beginning.checkpoint != nil, submission.acceptsOtherNumerics == true {
      say(
        "a checkpoint of other numerics is accepted, as --accept-numerics asks: later steps may differ in their last "
          + "bits from those of the program that wrote it", &turn)
    }
    if isFirst || !wasPlaced {
      tell(
        .began(
          name: name, firstStep: firstStep, steps: configuration.training.steps, checkpoint: beginning.checkpoint),
        &turn)
      if case .weights(let source) = start { say("it begins with the weights of \(source.spoken)", &turn) }
      for note in submission.notes ?? [] { say(note, &turn) }
    }
    if firstStep < steps.step {
      say("steps \(firstStep + 1) to \(steps.step) are computed again, and compared with what was recorded", &turn)
    }
  }

  private mutating func endIfNothingIsLeft(
    _ firstStep: Int, _ leftOut: Int, _ members: inout Members, _ turn: inout Turn
  ) {
    let count = configuration.training.steps
    if firstStep > count {
      end(
        .finished,
        "the checkpoint is of step \(firstStep), and training.steps is \(count), so nothing is left to do; raise training.steps to continue",
        &members, &turn)
    } else if let reason = earlyEnd(at: firstStep) {
      end(.finished, reason + "; raise training.stop_after to continue", &members, &turn)
    } else if firstStep == count, leftOut > 0 {
      rest(Run.unfinished(leftOut, of: count), &members, &turn)
    } else if firstStep == count {
      end(
        .finished,
        "\(count == 1 ? "its only step was" : "all \(count) steps were") done before; raise training.steps to continue",
        &members, &turn)
    }
  }

  /// The run is submitted again under its name: it keeps its identifier and its curve.
  mutating func resubmit(_ submission: Submission) {
    let before = self.submission
    self.submission = submission
    data = nil
    steps.forgiveLeftOut(atMost: configuration.training.skipAtMost)
    guard wasEverPrepared else { return }
    let sameNumbers =
      before.configuration.decidesSameNumbers(as: submission.configuration) && submission.keepsNumbers
    // Without a checkpoint of its own, the run begins from the checkpoint that its first submission named.
    if submission.resume == .newest, case .checkpoint = before.resume, sameNumbers || checkpoints.unprovenStep == 0 {
      self.submission.resume = before.resume
    }
    // The folder is examined as for a new run, because the recorded steps are no longer part of its curve.
    if !sameNumbers {
      steps.forget()
      wasEverPrepared = false
      from = nil
    }
  }
}

extension Submission {
  /// Whether steps after the checkpoint must give the numbers that they gave before.
  fileprivate var keepsNumbers: Bool { acceptsOtherData != true && acceptsOtherNumerics != true }
}

extension RunConfiguration {
  /// Whether two configurations give the same bits in a step.
  package func decidesSameNumbers(as other: RunConfiguration) -> Bool {
    var mine = self, theirs = other
    // A longer run has another schedule, unless the rate is constant.
    mine.cluster = theirs.cluster
    mine.checkpoint = theirs.checkpoint
    mine.training.evaluateEvery = theirs.training.evaluateEvery
    mine.training.evaluateSequences = theirs.training.evaluateSequences
    mine.training.stopAfter = theirs.training.stopAfter
    mine.training.clinicEvery = theirs.training.clinicEvery
    mine.training.recompute = theirs.training.recompute
    theirs.run = mine.run
    return mine == theirs
  }
}
