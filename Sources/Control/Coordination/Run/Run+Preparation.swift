// Before a run can have workers, the disk looks at its folder: it removes unfinished saves, finds the checkpoint to begin from, and
// refuses a folder that is not the run's.

import Configuration
import Wire

extension Run {
  /// - Parameter again: the folder is the run's own already, so recorded steps stay.
  mutating func prepare(again: Bool, _ turn: inout Turn) {
    phase = .preparing(after: phase.generation, then: phase.pending)
    if !again { change(to: .placing, "the run's folder is being looked at", &turn) }
    turn.add(.prepareRun(id, submission, again: again, from: from))
  }

  mutating func finishPreparing(_ preparation: Event.Preparation, _ members: inout Members, _ turn: inout Turn) {
    guard phase.isPreparing else {
      // It was cancelled or paused in the meantime, so the folder is not needed.
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
    // Another dataset gives another step, and other numerics other last bits.
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
        "the checkpoint is of step \(firstStep), and training.steps is \(count), so nothing is left to do; raise training.steps to go on",
        &members, &turn)
    } else if let reason = earlyEnd(at: firstStep) {
      end(.finished, reason + "; raise training.stop_after to go on", &members, &turn)
    } else if firstStep == count, leftOut > 0 {
      rest(Run.unfinished(leftOut, of: count), &members, &turn)
    } else if firstStep == count {
      end(.finished, "all \(count) steps were done before; raise training.steps to go on", &members, &turn)
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
    // Where it has no checkpoint of its own it begins from the one that it was first submitted to begin from.
    if submission.resume == .newest, case .checkpoint = before.resume, sameNumbers || checkpoints.unprovenStep == 0 {
      self.submission.resume = before.resume
    }
    // Its folder is looked at as for a new run: the numbers of the recorded steps are no longer its own.
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
  /// Whether a step of the one gives the bits of the same step of the other.
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
