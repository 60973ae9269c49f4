// Work on a run's folder: the checks before the run starts and before it continues without its workers' memory, the
// commit of checkpoints, and their proofs.

import Configuration
import Coordination
import Foundation
import RunFolder
import Wire

package enum RunFolderWork {
  /// Why a run cannot start as it was submitted; nil if it can. Changes nothing and reads only manifests.
  package static func complaint(_ submission: Submission) -> String? {
    do throws(FolderError) {
      if case .refused(let reason) = try beginning(submission, folder(of: submission), verifies: false, .none) {
        return reason
      }
      return nil
    } catch {
      return "\(error)"
    }
  }

  private static func folder(of submission: Submission) -> String {
    absolute(submission.configuration.checkpoint.directory) + "/" + submission.configuration.run
  }

  /// The start of a run.
  private enum Beginning {
    case refused(String)
    /// A checkpoint of the run, the weights of another run, or the seed; and sentences for the log, such as why newer
    /// checkpoints were skipped.
    case found(
      (path: String, manifest: CheckpointManifest, skipped: [String])?, from: WeightSource?, notes: [String])
  }

  private static func beginning(
    _ submission: Submission, _ folder: String, verifies: Bool, _ boundary: Boundary
  ) throws(FolderError) -> Beginning {
    var checkpoint: (path: String, manifest: CheckpointManifest, skipped: [String])?
    var notes: [String] = []
    switch submission.resume {
    case .no:
      if let last = CheckpointFolder.steps(folder).last {
        return .refused(
          "\(folder) already holds checkpoints (up to step \(last)); continue with --resume, "
            + "or choose another name with --set run=NAME")
      }
    case .newest:
      checkpoint = try CheckpointFolder.newest(folder, files: verifies, boundary)
      let steps = CheckpointFolder.steps(folder)
      // Paused, cancelled or killed before its first checkpoint: it starts again from step 0, with the same numbers.
      let hasBegun =
        steps.isEmpty
        && [MetricsFile(folder: folder).path, folder + "/" + Assignment.tokenName].contains {
          FileManager.default.fileExists(atPath: $0)
        }
      if hasBegun { notes.append("the run holds no checkpoint yet, so it begins again at step 0") }
      if checkpoint == nil && !hasBegun {
        return .refused(
          steps.isEmpty
            ? "there is nothing to resume: \(folder) holds no checkpoint"
            : (steps.count == 1
              ? "the only checkpoint in \(folder) does not verify"
              : "none of the \(steps.count) checkpoints in \(folder) verifies")
              + "; `ress checkpoint verify \(folder)` shows the damage"
        )
      }
    case .checkpoint(let path): checkpoint = try CheckpointFolder.resolve(absolute(path), files: verifies, boundary)
    }
    if let checkpoint, let reason = difference(checkpoint.manifest.configuration, submission.configuration) {
      return .refused("\(checkpoint.path) cannot be resumed: \(reason)")
    }
    guard checkpoint == nil, !submission.configuration.model.from.isEmpty else {
      return .found(checkpoint, from: checkpoint?.manifest.from, notes: notes)
    }
    let path = absolute(submission.configuration.model.from)
    let found = try CheckpointFolder.resolve(path, files: verifies, boundary)
    return .found(nil, from: try source(found.path, found.manifest, boundary), notes: notes + found.skipped)
  }

  private static func source(
    _ path: String, _ manifest: CheckpointManifest, _ boundary: Boundary
  ) throws(FolderError) -> WeightSource {
    WeightSource(
      path: path, run: manifest.run, step: manifest.step, sha256: try CheckpointFolder.digest(path, boundary))
  }

  /// Verifies the checkpoint that a run began with, for a beginning that must have the same weights. Returns the error,
  /// or nil.
  private static func change(of source: WeightSource, _ boundary: Boundary) throws(FolderError) -> String? {
    let reason = "the run begins again at step 0, with the weights of \(source.spoken), but "
    do throws(FolderError) {
      _ = try CheckpointFolder.verify(source.path, boundary)
      let digest = try CheckpointFolder.digest(source.path, boundary)
      return digest == source.sha256
        ? nil : reason + "there is now another checkpoint, whose SHA-256 is \(digest.prefix(12))…"
    } catch {
      guard !error.isPassing else { throw error }
      return reason + "\(error)"
    }
  }

  /// Prepares a run's folder before the run may start; with `again` the folder is the run's own, and its curve stays.
  /// Throws only errors that pass (no descriptor, no memory): the caller tries again. All others refuse the run.
  /// - Parameters:
  ///   - from: the checkpoint whose weights the run began with, if that is known; a run without checkpoints begins with
  ///     the same again.
  ///   - boundary: the folders in which the run's folder, its checkpoints and all their files must lie when they are
  ///     opened.
  package static func prepare(
    _ id: RunID, _ submission: Submission, again: Bool, from: WeightSource? = nil, _ boundary: Boundary = .none
  ) throws(FolderError) -> Event.Preparation {
    let name = folder(of: submission)
    do throws(FolderError) {
      guard !boundary.roots.isEmpty else {
        return try prepare(id, submission, again: again, from: from, in: name, boundary)
      }
      return try boundary.within(name, makes: true) { (pinned) throws(FolderError) in
        switch try prepare(id, submission, again: again, from: from, in: pinned.path, boundary) {
        case .refused(let reason): return .refused(reason: pinned.spoken(reason))
        case .ready(var beginning):
          beginning.folder = name
          beginning.checkpoint = beginning.checkpoint.map { pinned.spoken($0) }
          beginning.notes = beginning.notes.map { pinned.spoken($0) }
          return .ready(beginning)
        }
      }
    } catch {
      guard !error.isPassing else { throw error }
      return .refused(reason: "\(error)")
    }
  }

  private static func prepare(
    _ id: RunID, _ submission: Submission, again: Bool, from: WeightSource?, in folder: String, _ boundary: Boundary
  ) throws(FolderError) -> Event.Preparation {
    if again { return try prepareAgain(id, submission, from: from, folder, boundary) }
    let found: (path: String, manifest: CheckpointManifest, skipped: [String])?
    let source: WeightSource?
    let beginning: [String]
    switch try Self.beginning(submission, folder, verifies: true, boundary) {
    case .refused(let reason): return .refused(reason: reason)
    case .found(let checkpoint, let from, let notes): (found, source, beginning) = (checkpoint, from, notes)
    }
    if boundary.roots.isEmpty { try Durable.makeFolder(folder) }
    var notes = try CheckpointFolder.removeUnfinished(folder).map { "removed \($0), a save that was never completed" }
    notes += beginning
    guard let checkpoint = found else {
      try cutRecords(folder, after: 0)
      return .ready(
        Event.Beginning(
          folder: folder, checkpoint: nil, firstStep: 0, proof: nil, notes: notes, token: try writeToken(folder),
          from: source))
    }
    notes += checkpoint.skipped
    // Later checkpoints belong to a curve that this run leaves. They must not be its newest any more, but they are
    // kept.
    for name in try CheckpointFolder.setAside(folder, after: checkpoint.manifest.step) {
      notes.append("the run continues from an older checkpoint, so a newer one was set aside: \(name)")
    }
    try cutRecords(folder, after: checkpoint.manifest.step)
    if submission.configuration.checkpoint.keepBest > 0 { try CheckpointFolder.linkBest(folder, boundary) }
    return ready(folder, checkpoint.path, checkpoint.manifest, notes, token: try writeToken(folder), boundary)
  }

  /// The recorded steps that will be computed again.
  private static func cutRecords(_ folder: String, after step: Int) throws(FolderError) {
    try MetricsFile(folder: folder).cut(after: step)
    try MetricsFile(routerIn: folder).cut(after: step)
  }

  /// Writes the token that every worker must find in the run's folder, so that a worker that does not share the folder
  /// is detected before it computes.
  private static func writeToken(_ folder: String) throws(FolderError) -> String {
    let token = String(UInt64.random(in: .min ... .max), radix: 16)
    try Durable.write(Array(token.utf8), to: folder + "/" + Assignment.tokenName)
    return token
  }

  /// Returns an existing token: on a network file system workers may see a new one late.
  private static func keptToken(_ folder: String, _ boundary: Boundary) throws(FolderError) -> String {
    guard let token = try boundary.contents(of: folder + "/" + Assignment.tokenName), !token.isEmpty,
      token.count <= 64
    else { return try writeToken(folder) }
    return String(decoding: token, as: UTF8.self)
  }

  private static func ready(
    _ folder: String, _ path: String, _ manifest: CheckpointManifest, _ notes: [String], token: String,
    _ boundary: Boundary
  ) -> Event.Preparation {
    let proof = CheckpointFolder.readProof(path, boundary).map {
      StepMark(step: $0.step, loss: $0.loss, gradientNorm: $0.gradientNorm)
    }
    return .ready(
      Event.Beginning(
        folder: folder, checkpoint: path, firstStep: manifest.step, proof: proof, notes: notes, data: manifest.data,
        leftOut: manifest.leftOut ?? 0, token: token, from: manifest.from, evaluations: manifest.evaluations))
  }

  /// The newest state on disk of a run that continues: its own newest checkpoint, or else the checkpoint that it was
  /// started from.
  private static func prepareAgain(
    _ id: RunID, _ submission: Submission, from: WeightSource?, _ folder: String, _ boundary: Boundary
  ) throws(FolderError) -> Event.Preparation {
    if boundary.roots.isEmpty { try Durable.makeFolder(folder) }
    let token = try keptToken(folder, boundary)
    let notes = try CheckpointFolder.removeUnfinished(folder).map { "removed \($0), a save that was never completed" }
    if let newest = try CheckpointFolder.newest(folder, boundary) {
      // A run that started with an empty folder has only its own checkpoints there.
      guard submission.resume != .no || newest.manifest.runIdentifier == id.description else {
        return .refused(
          reason:
            "\(newest.path) belongs to another run of this name (\(newest.manifest.runIdentifier)); to continue from it, submit "
            + "the run again with --resume")
      }
      return ready(folder, newest.path, newest.manifest, notes + newest.skipped, token: token, boundary)
    }
    guard case .checkpoint(let path) = submission.resume else {
      if let from, let reason = try change(of: from, boundary) { return .refused(reason: reason) }
      let beginning = "the run holds no checkpoint yet, so it begins again at step 0"
      return .ready(
        Event.Beginning(
          folder: folder, checkpoint: nil, firstStep: 0, proof: nil, notes: notes + [beginning], token: token,
          from: from))
    }
    let first = try CheckpointFolder.resolve(absolute(path), boundary)
    return ready(folder, first.path, first.manifest, notes, token: token, boundary)
  }

  /// Commits a checkpoint, and removes those that checkpoint.keep does not keep.
  static func commit(
    _ id: RunID, _ unsigned: CheckpointManifest, folder: String, _ boundary: Boundary = .none, log: (String) -> Void
  ) -> Event {
    do throws(FolderError) {
      return try boundary.within(folder) { (pinned) throws(FolderError) in
        switch commit(id, unsigned, in: pinned.path, boundary, log: { log(pinned.spoken($0)) }) {
        case .committed(let id, let step, let path): .committed(id, step: step, path: pinned.spoken(path))
        case .commitFailed(let id, let step, let reason, let isFinal):
          .commitFailed(id, step: step, reason: pinned.spoken(reason), isFinal: isFinal)
        case let other: other
        }
      }
    } catch {
      return .commitFailed(id, step: unsigned.step, reason: "\(error)", isFinal: error.isFinal)
    }
  }

  private static func commit(
    _ id: RunID, _ unsigned: CheckpointManifest, in folder: String, _ boundary: Boundary, log: (String) -> Void
  ) -> Event {
    var manifest = unsigned
    manifest.created = now()
    do throws(FolderError) {
      let path = try CheckpointFolder.commit(manifest, folder: folder, boundary)
      let checkpoint = manifest.configuration.checkpoint
      do throws(FolderError) {
        try CheckpointFolder.removeUnfinished(folder, before: manifest.generation)
        if checkpoint.keepBest > 0 { try CheckpointFolder.linkBest(folder, boundary) }
        let removed = try CheckpointFolder.retain(
          folder, newest: checkpoint.keep, every: checkpoint.keepEvery, best: checkpoint.keepBest, boundary)
        for name in removed {
          log("run \(manifest.run): removed checkpoint \(name), according to checkpoint.keep")
        }
      } catch {
        log("run \(manifest.run): an old checkpoint could not be removed: \(error)")
      }
      return .committed(id, step: manifest.step, path: path)
    } catch {
      // The previous coordinator may have committed it and died before it stored that.
      let path = CheckpointFolder.finished(folder, step: manifest.step)
      if let there = try? CheckpointFolder.verify(path, boundary), there.files == manifest.files {
        return .committed(id, step: manifest.step, path: path)
      }
      return .commitFailed(id, step: manifest.step, reason: "\(error)", isFinal: error.isFinal)
    }
  }

  static func prove(_ checkpoint: String, _ mark: StepMark, _ boundary: Boundary = .none, log: (String) -> Void) {
    // A checkpoint that was removed meanwhile needs no proof.
    guard FileManager.default.fileExists(atPath: checkpoint) else { return }
    do throws(FolderError) {
      try CheckpointFolder.writeProof(
        ResumeProof(step: mark.step, loss: mark.loss, gradientNorm: mark.gradientNorm), in: checkpoint, boundary)
    } catch {
      log("\(error)")
    }
  }

  /// The configuration that must not change between a checkpoint and the run that continues from it: everything that
  /// decides the meaning of the weights and the next sequences. The rest (steps, optimizer, evaluation, cluster) may
  /// change.
  private static func difference(_ old: RunConfiguration, _ new: RunConfiguration) -> String? {
    func sentence<Value: Equatable>(_ key: String, _ x: Value, _ y: Value) -> String? {
      x == y ? nil : "\(key) was \(x) and is now \(y)"
    }
    if !old.model.hasSameMeaning(as: new.model) {
      let keys = ConfigurationEncoder.differences(old, new).filter {
        $0.key.hasPrefix("model.") && $0.key != "model.from"
      }
      let shown = keys.prefix(3).map { "\($0.key) was \($0.a) and is now \($0.b)" }.joined(separator: ", ")
      let more = keys.count > 3 ? ", and \(keys.count - 3) more keys of 'model' differ" : ""
      return "\(shown)\(more); use the configuration it was trained with"
    }
    return sentence("training.seed", old.training.seed, new.training.seed)
      ?? sentence("training.batch_sequences", old.training.batchSequences, new.training.batchSequences)
      ?? sentence("training.unit_sequences", old.training.unitSequences, new.training.unitSequences)
      ?? sentence("data.sequence_length", old.data.sequenceLength, new.data.sequenceLength)
      ?? (old.training.freeze == new.training.freeze
        ? nil
        : "training.freeze was \(old.training.freeze) and is now \(new.training.freeze), and the parts that were frozen have no moments; "
          + "begin a new run with its weights: --from")
  }

  static func absolute(_ path: String) -> String {
    path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
  }

  static func now() -> String {
    let formatter = ISO8601DateFormatter()
    return formatter.string(from: Date())
  }
}
