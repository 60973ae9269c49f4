// Before a run can have workers, the disk looks at its folder: it removes unfinished saves, finds the checkpoint to begin from, and
// refuses a folder that is not the run's.

import Configuration
import Wire

extension Run {
  /// - Parameter again: the folder is the run's own already, so recorded steps stay.
  mutating func prepare(again: Bool, _ turn: inout Turn) {
    phase = .preparing(after: phase.generation, then: phase.pending)
    if !again { change(to: .placing, "the run's folder is being looked at", &turn) }
    turn.add(.prepareRun(id, submission, again: again))
  }

  mutating func finishPreparing(_ preparation: Event.Preparation, _ members: inout Members, _ turn: inout Turn) {
    guard case .preparing(let generation, let pending) = phase else {
      // It was cancelled or paused in the meantime, so the folder is not needed.
      if case .ready(let folder, _, _, _, _, _, _, _) = preparation, state.isAtRest {
        turn.add(.releaseFolder(id, folder: folder))
      }
      return
    }
    switch preparation {
    case .refused(let reason): end(.failed, reason, &members, &turn)
    case .ready(let folder, let checkpoint, let firstStep, let proof, let notes, let data, let leftOut, let token):
      expectData(data)
      let isFirst = steps.step == 0 || !wasEverPrepared
      self.folder = folder
      self.token = token
      wasEverPrepared = true
      if checkpoint != nil { checkpoints.begin(from: firstStep) }
      if isFirst { steps.begin(after: firstStep) }
      if leftOut <= configuration.training.skipAtMost {
        steps.leaveOut(firstStep, count: leftOut, newestCheckpoint: checkpoints.newestStep)
      }
      // Another dataset gives another step, and other numerics other last bits.
      if let proof, submission.keepsNumbers { steps.expect(proof) }
      let start = checkpoint.map { StartState.checkpoint(path: $0) } ?? .fresh
      enter(.waiting(.disk(start, firstStep: firstStep), after: generation, then: pending), at: turn.now)
      for note in notes { say(note, &turn) }
      if isFirst, checkpoint != nil, submission.acceptsOtherNumerics == true {
        say(
          "a checkpoint of other numerics is accepted, as --accept-numerics asks: later steps may differ in their last "
            + "bits from those of the program that wrote it", &turn)
      }
      let count = configuration.training.steps
      if isFirst || !wasPlaced {
        tell(.began(name: name, firstStep: firstStep, steps: count, checkpoint: checkpoint), &turn)
        for note in submission.notes ?? [] { say(note, &turn) }
      }
      if firstStep < steps.step {
        say(
          "steps \(firstStep + 1) to \(steps.step) are computed again, and compared with what was recorded", &turn)
      }
      endIfNothingIsLeft(firstStep, leftOut, &members, &turn)
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
    mine.training.clinicEvery = theirs.training.clinicEvery
    mine.training.recompute = theirs.training.recompute
    theirs.run = mine.run
    return mine == theirs
  }
}
