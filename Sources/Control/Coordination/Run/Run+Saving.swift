// The run's part in the commit of a checkpoint (Checkpoints.swift describes the protocol).

import Configuration
import Wire

extension Run {
  /// A worker has written its files of a checkpoint. After the last worker's report the checkpoint is committed.
  mutating func saved(_ index: Int, step: Int, _ files: [CheckpointManifest.File], _ turn: inout Turn) {
    guard let generation = phase.generation,
      let all = checkpoints.take(files, from: index, step: step, of: generation.roster.count)
    else { return }
    var manifest = CheckpointManifest(
      run: name, runIdentifier: id.description, step: step, configuration: configuration,
      loss: steps.mark(of: step)?.loss, files: all, writer: turn.settings.program, created: "",
      generation: generation.number, data: data, leftOut: steps.leftOutInARow(step),
      numerics: generation.roster.first?.worker.fingerprint, from: from)
    manifest.validationLoss = steps.validationLoss(of: step)
    let standing = steps.standing(at: step)
    manifest.evaluations = standing == EvaluationStanding() ? nil : standing
    if let old = checkpoints.enqueue(manifest) {
      say("the checkpoint of step \(old) is given up for newer ones: the disk is slower than the run saves", &turn)
    }
    commitNext(&turn)
  }

  /// Begins the oldest commit that is due, one at a time.
  mutating func commitNext(_ turn: inout Turn) {
    if let manifest = checkpoints.next(at: turn.now) { turn.add(.commit(id, manifest, folder: folder)) }
  }

  mutating func committed(_ step: Int, path: String, _ members: inout Members, _ turn: inout Turn) {
    guard checkpoints.committed(step) else { return commitNext(&turn) }
    if let mark = steps.mark(of: step + 1) {
      turn.add(.prove(checkpoint: path, mark))
    } else {
      checkpoints.awaitProof(of: path, step: step)
    }
    tell(.saved(step: step, path: path), &turn)
    finishIfDone(&members, &turn)
    commitNext(&turn)
  }

  /// Stores the results of the step after the newest checkpoint, by which a later resume verifies that it continues
  /// from the same state.
  mutating func prove(_ turn: inout Turn) {
    if let (path, mark) = checkpoints.takeProof(steps) { turn.add(.prove(checkpoint: path, mark)) }
  }

  /// A commit failed although the workers' files are on disk. It is tried again until it succeeds, while training
  /// continues: a stop would lose the workers' state, which is newer than any checkpoint.
  mutating func commitFailed(
    _ step: Int, _ reason: String, isFinal: Bool, _ members: inout Members, _ turn: inout Turn
  ) {
    guard checkpoints.refused(step) else { return commitNext(&turn) }
    let problem = "the checkpoint of step \(step) could not be written: \(reason)"
    if isFinal {
      checkpoints.giveUp(step)
      let isLast = step == lastStep
      if !state.isAtRest, isLast || phase.isSaving {
        // Nothing newer will come: the run ends with what there is.
        return rest(
          problem + "; ress resume \(name) continues from the newest checkpoint that there is", &members, &turn)
      }
      say(problem + "; training continues", &turn)
    } else if checkpoints.retry(step, reason, at: turn.now) {
      say(problem + "; it is tried again while training continues", &turn)
    }
    commitNext(&turn)
  }
}
