// The commit protocol of a run's checkpoints.
//
// 1. Each worker writes the file of its shard and reports it, in the background of later steps.
// 2. When the files of all workers of a step are reported, the checkpoint is queued for its commit: the coordinator
// writes the manifest and renames the folder. Before the rename the checkpoint does not exist; a crash at any earlier
// point leaves a folder that the next start removes.
// 3. One commit at a time is under way, because a slow disk would otherwise get more of them than it can finish. A
// commit that fails is tried again, after growing pauses, while training continues.
// 4. The results of the step after a committed checkpoint are stored with it as its proof, so that a later resume can
// verify that it continues from the same state.

import Configuration
import Wire

struct Checkpoints: Equatable, Sendable {
  /// Largest number of commits that wait for the disk. Beyond it, the oldest ones are given up.
  private static let waitingLimit = 8

  /// The step of the newest committed checkpoint.
  private(set) var newestStep: Int?
  /// Size of the newest checkpoint whose files are all on disk.
  private(set) var byteCount: Int?
  /// Files of checkpoints that are being saved, by step and index in the roster.
  private(set) var saves: [Int: [Int: [CheckpointManifest.File]]] = [:]
  /// Checkpoints that wait for the disk or are being committed, by step.
  private(set) var commits: [Int: CheckpointManifest] = [:]
  /// The checkpoint whose proof is awaited.
  private(set) var unproven: String?
  /// The step of the last checkpoint whose proof was awaited.
  private(set) var unprovenStep = 0
  /// The commit that the disk is working on.
  private var underWay: Int?
  private var retries: [Int: CommitRetry] = [:]

  init() {}

  init(_ record: RunRecord) {
    newestStep = record.checkpointStep
    byteCount = record.checkpointBytes
    saves = record.saves
    commits = record.commits
    unproven = record.unproven
    unprovenStep = record.unprovenStep
  }

  /// Whether no checkpoint is being written or waits for its commit.
  var areSettled: Bool { saves.isEmpty && commits.isEmpty }

  /// The run begins from a checkpoint that the disk has found.
  mutating func begin(from step: Int) { newestStep = step }

  /// A generation has ended: checkpoints of which files are missing will not be completed.
  mutating func forgetSaves() { saves = [:] }

  /// Takes one worker's files. Returns the files of all workers, in the order of their names, if these were the last
  /// ones.
  mutating func take(_ files: [CheckpointManifest.File], from index: Int, step: Int, of count: Int)
    -> [CheckpointManifest.File]?
  {
    saves[step, default: [:]][index] = files
    guard let parts = saves[step], parts.count == count else { return nil }
    return (0..<count).flatMap { parts[$0]! }.sorted { $0.name < $1.name }
  }

  /// Queues a checkpoint whose files are all on disk for its commit. Returns the step of a checkpoint that is given up
  /// for it.
  mutating func enqueue(_ manifest: CheckpointManifest) -> Int? {
    // A worker writes its files in the order of the steps and gives up a file that it could not write when the next one
    // is due. An older checkpoint that is not complete by now will therefore never be.
    saves = saves.filter { $0.key > manifest.step }
    commits[manifest.step] = manifest
    byteCount = manifest.files.reduce(0) { $0 + min($1.byteCount, 1 << 50) }
    let waiting = commits.keys.filter { $0 != underWay }.sorted()
    guard waiting.count > Checkpoints.waitingLimit else { return nil }
    giveUp(waiting[0])
    return waiting[0]
  }

  /// The commit to begin now: the oldest one that is due, unless another is under way.
  mutating func next(at now: Instant) -> CheckpointManifest? {
    guard underWay == nil else { return nil }
    underWay = commits.keys.sorted().first { step in retries[step].map { $0.at <= now } ?? true }
    return underWay.map { commits[$0]! }
  }

  /// A commit has succeeded. Returns whether the run waited for it.
  mutating func committed(_ step: Int) -> Bool {
    if underWay == step { underWay = nil }
    guard commits[step] != nil else { return false }
    giveUp(step)
    newestStep = max(step, newestStep ?? 0)
    return true
  }

  /// A commit has failed for good. Returns whether the run waited for it.
  mutating func refused(_ step: Int) -> Bool {
    if underWay == step { underWay = nil }
    return commits[step] != nil
  }

  mutating func giveUp(_ step: Int) {
    commits[step] = nil
    retries[step] = nil
  }

  /// Tries a commit again after a pause. Returns whether the reason differs from the last one.
  mutating func retry(_ step: Int, _ reason: String, at now: Instant) -> Bool {
    let before = retries[step]
    retries[step] = CommitRetry(after: before, reason: reason, at: now)
    return before?.reason != reason
  }

  /// Waits for the proof of this checkpoint, unless a newer one is waiting for its proof.
  mutating func awaitProof(of path: String, step: Int) {
    guard unproven == nil || step >= unprovenStep else { return }
    unproven = path
    unprovenStep = step
  }

  /// The checkpoint that waits for its proof, and the proof, once it is known. It is returned once.
  mutating func takeProof(_ log: StepLog) -> (path: String, mark: StepMark)? {
    guard let path = unproven, let mark = log.mark(of: unprovenStep + 1) else { return nil }
    unproven = nil
    return (path, mark)
  }
}

/// When a failed commit is tried again: after a second, then after twice as long each time, up to a minute.
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
