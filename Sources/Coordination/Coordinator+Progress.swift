// What a generation gets done: steps, evaluations, checkpoints, the end.

import Configuration
import Wire

extension Coordinator {
  mutating func stepDone(_ id: RunID, _ record: StepRecord, _ turn: inout Turn) {
    guard let index = index(of: id) else { return }
    let mark = StepMark(step: record.step, loss: record.loss, gradientNorm: record.gradientNorm)
    runs[index].generationSteps += 1
    runs[index].lastStepAt = turn.now
    if record.step <= runs[index].record.step {
      runs[index].record.goodput.fault += record.seconds
      if let before = runs[index].marks[record.step], !before.agrees(with: mark) {
        return rest(
          id,
          "step \(record.step) was computed again and differs: loss \(record.loss) where \(before.loss) was recorded; "
            + "a worker computes wrongly, or what it began from was changed", &turn)
      }
    } else {
      if let proof = runs[index].marks[record.step], !proof.agrees(with: mark) {
        return rest(
          id,
          "step \(record.step), the first after its checkpoint, differs from what it gave when the checkpoint was written: loss "
            + "\(record.loss) instead of \(proof.loss); the configuration, the data or the machine is another one",
          &turn)
      }
      runs[index].record.step = record.step
      runs[index].record.fruitless = 0
      account(record, index)
      tell(id, .stepped(record), &turn)
      sayLeftOut(id, record, &turn)
    }
    stopIfLeftOut(id, record, &turn)
    runs[index].marks[record.step] = mark
    runs[index].marks[record.step - Coordinator.markLimit] = nil
    prove(id, &turn)
    weigh(id, record, &turn)
  }

  private mutating func sayLeftOut(_ id: RunID, _ record: StepRecord, _ turn: inout Turn) {
    guard let reason = record.skipped else { return }
    tell(id, .said("step \(record.step) was not applied: \(reason)"), &turn)
  }

  /// A step was not applied. One bad sequence is no reason to stop; several in a row mean that the run does not come out of it. The
  /// workers count as well and stop at that step by themselves, whenever this is heard of; here it gets its reason. A run whose last step
  /// was not applied is not finished either.
  private mutating func stopIfLeftOut(_ id: RunID, _ record: StepRecord, _ turn: inout Turn) {
    guard let reason = record.skipped, let index = index(of: id) else { return }
    runs[index].record.leaveOut(record.step)
    let training = runs[index].record.configuration.training
    let count = runs[index].record.leftOutInARow(record.step)
    let isTooMany = count > training.skipAtMost
    guard isTooMany || record.step == training.steps else { return }
    if case .pause? = runs[index].record.wish { return }
    runs[index].record.wish = .pause(
      reason: isTooMany
        ? "\(count) steps in a row could not be applied, the last because \(reason); lower optimizer.learning_rate or "
          + "optimizer.clip and submit it again with --resume"
        : Coordinator.unfinished(count, of: training.steps))
  }

  static func unfinished(_ count: Int, of steps: Int) -> String {
    let what = count == 1 ? "the last of \(steps) steps was" : "the last \(count) of \(steps) steps were"
    return what
      + " not applied, so the run is not finished; raise training.steps, or lower optimizer.learning_rate and go on "
      + "from an older checkpoint with --resume PATH"
  }

  /// A step that was done before the generation and not recorded, because whoever reports them died. All that computed it tell
  /// of it; the first counts.
  mutating func recordMissing(_ id: RunID, _ record: StepRecord, _ turn: inout Turn) {
    guard let index = index(of: id), record.step == runs[index].record.step + 1 else { return }
    runs[index].record.step = record.step
    runs[index].marks[record.step] = StepMark(step: record.step, loss: record.loss, gradientNorm: record.gradientNorm)
    account(record, index)
    tell(id, .stepped(record), &turn)
    sayLeftOut(id, record, &turn)
    stopIfLeftOut(id, record, &turn)
    prove(id, &turn)
  }

  /// Where the step's time went.
  private mutating func account(_ record: StepRecord, _ index: Int) {
    let slowest = record.busy.max() ?? record.seconds
    let mean = record.busy.isEmpty ? record.seconds : record.busy.reduce(0, +) / Double(record.busy.count)
    runs[index].record.goodput.useful += min(mean, record.seconds)
    runs[index].record.goodput.straggler += max(0, min(slowest, record.seconds) - mean)
    runs[index].record.goodput.checkpoint += record.stall
    runs[index].record.goodput.exchange += max(0, record.seconds - max(slowest, mean))
  }

  mutating func evaluated(_ id: RunID, _ record: EvaluationRecord, _ turn: inout Turn) {
    guard let index = index(of: id), record.step > runs[index].record.evaluatedStep else { return }
    runs[index].record.evaluatedStep = record.step
    tell(id, .evaluated(record), &turn)
  }

  /// A look at the router. What is wrong with it is said in the run's story.
  mutating func examined(_ id: RunID, _ record: RouterRecord, _ turn: inout Turn) {
    guard let index = index(of: id), record.step > runs[index].record.examinedStep ?? 0 else { return }
    runs[index].record.examinedStep = record.step
    tell(id, .examined(record), &turn)
    for sentence in runs[index].clinic.look(record, keys: runs[index].record.configuration.model.keys) {
      tell(id, .said(sentence), &turn)
    }
  }

  // MARK: checkpoints

  /// Commits that wait for the disk, at most; where it is slower than that the oldest are given up.
  private static let commitLimit = 8

  /// One worker's files of a checkpoint are on disk. When all are, the checkpoint is committed.
  mutating func saved(
    _ id: RunID, _ place: Int, step: Int, _ files: [CheckpointManifest.File], _ turn: inout Turn
  ) {
    guard let index = index(of: id) else { return }
    runs[index].record.saves[step, default: [:]][place] = files
    let record = runs[index].record
    guard let saves = record.saves[step], saves.count == record.roster.count else { return }
    let all = record.roster.indices.flatMap { saves[$0]! }.sorted { $0.name < $1.name }
    let manifest = CheckpointManifest(
      run: record.name, runIdentifier: record.id.description, step: step, configuration: record.configuration,
      loss: runs[index].marks[step]?.loss, files: all, writer: program, created: "",
      generation: record.generation!.number, data: record.data, leftOut: record.leftOutInARow(step))
    // A worker writes its parts in their order, and gives up one that it could not write for the next: what is not whole by turn.now
    // never will be.
    runs[index].record.saves = record.saves.filter { $0.key > step }
    runs[index].record.commits[step] = manifest
    runs[index].record.checkpointBytes = all.reduce(0) { $0 + min($1.byteCount, 1 << 50) }
    let waiting = runs[index].record.commits.keys.filter { $0 != runs[index].commitUnderWay }.sorted()
    if waiting.count > Coordinator.commitLimit {
      runs[index].record.commits[waiting[0]] = nil
      runs[index].commitRetries[waiting[0]] = nil
      tell(
        id,
        .said("the checkpoint of step \(waiting[0]) is given up for newer ones: the disk is slower than they come"),
        &turn)
    }
    commitNext(id, &turn)
  }

  /// Hands the disk the oldest checkpoint whose turn it is, one at a time.
  mutating func commitNext(_ id: RunID, _ turn: inout Turn) {
    guard let index = index(of: id), runs[index].commitUnderWay == nil else { return }
    let run = runs[index]
    let due = run.record.commits.keys.sorted().first { step in run.commitRetries[step].map { $0.at <= turn.now } ?? true }
    guard let due else { return }
    runs[index].commitUnderWay = due
    turn.add(.commit(id, run.record.commits[due]!, folder: run.record.folder))
  }

  mutating func committed(_ id: RunID, step: Int, path: String, _ turn: inout Turn) {
    guard let index = index(of: id) else { return }
    commitEnded(index, step)
    guard runs[index].record.commits.removeValue(forKey: step) != nil else {
      return commitNext(id, &turn)
    }
    runs[index].commitRetries[step] = nil
    runs[index].record.checkpointStep = max(step, runs[index].record.checkpointStep ?? 0)
    if let mark = runs[index].marks[step + 1] {
      turn.add(.prove(checkpoint: path, mark))
    } else if runs[index].record.unproven == nil || step >= runs[index].record.unprovenStep {
      runs[index].record.unproven = path
      runs[index].record.unprovenStep = step
    }
    tell(id, .saved(step: step, path: path), &turn)
    restIfSaved(id, &turn)
    finishIfDone(id, &turn)
    commitNext(id, &turn)
  }

  private mutating func commitEnded(_ index: Int, _ step: Int) {
    if runs[index].commitUnderWay == step { runs[index].commitUnderWay = nil }
  }

  /// Writes what the step after the newest checkpoint gave, once it is known: whoever resumes from it can see that the same
  /// state was found.
  private mutating func prove(_ id: RunID, _ turn: inout Turn) {
    guard let index = index(of: id), let path = runs[index].record.unproven,
      let mark = runs[index].marks[runs[index].record.unprovenStep + 1]
    else { return }
    runs[index].record.unproven = nil
    turn.add(.prove(checkpoint: path, mark))
  }

  /// The workers' files are on disk, and the disk did not let them count. That is tried again until it does, while training goes on:
  /// to stop would throw away what the workers hold, which is newer than any checkpoint.
  mutating func commitFailed(
    _ id: RunID, step: Int, _ reason: String, isFinal: Bool, _ turn: inout Turn
  ) {
    guard let index = index(of: id) else { return }
    commitEnded(index, step)
    guard runs[index].record.commits[step] != nil else { return commitNext(id, &turn) }
    let problem = "the checkpoint of step \(step) could not be written: \(reason)"
    if isFinal {
      runs[index].record.commits[step] = nil
      runs[index].commitRetries[step] = nil
      let isLast = step == runs[index].record.configuration.training.steps
      if !runs[index].record.state.isAtRest, isLast || runs[index].record.phase == .saving {
        // Nothing newer will come: the run ends with what there is.
        return rest(
          id, problem + "; ress resume \(runs[index].record.name) goes on from the newest checkpoint that there is",
          &turn)
      }
      tell(id, .said(problem + "; training goes on"), &turn)
    } else {
      let before = runs[index].commitRetries[step]
      runs[index].commitRetries[step] = CommitRetry(after: before, reason: reason, at: turn.now)
      if before?.reason != reason {
        tell(id, .said(problem + "; it is tried again, and training goes on"), &turn)
      }
    }
    commitNext(id, &turn)
  }

  // MARK: the end

  mutating func workerFinished(_ id: RunID, _ place: Int, _ turn: inout Turn) {
    guard let index = index(of: id) else { return }
    runs[index].record.generation!.finished.insert(place)
    finishIfDone(id, &turn)
  }

  /// A run is finished when its last checkpoint counts.
  private mutating func finishIfDone(_ id: RunID, _ turn: inout Turn) {
    guard let index = index(of: id), !runs[index].record.state.isAtRest else { return }
    let record = runs[index].record
    let steps = record.configuration.training.steps
    let workersDone = record.generation.map { $0.finished.count == $0.roster.count } ?? false
    guard record.step >= steps, record.commits.isEmpty, record.saves.isEmpty, workersDone,
      record.checkpointStep == steps
    else { return }
    end(id, .finished, "all \(steps) steps are done", &turn)
  }
}

/// When a checkpoint that the disk refused is handed to it again: after a second, then after twice as long each time, up to a minute.
struct CommitRetry: Equatable, Sendable {
  var at: Instant
  var delay: Duration
  var reason: String

  init(after before: CommitRetry?, reason: String, at now: Instant) {
    delay = before.map { min($0.delay * 2, .seconds(60)) } ?? .seconds(1)
    at = now + delay
    self.reason = reason
  }
}
