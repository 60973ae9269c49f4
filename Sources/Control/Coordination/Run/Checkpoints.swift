// A run's checkpoints on their way to the disk. Each worker reports the files it has written; when those of all workers are there, the
// checkpoint waits for its commit, which the disk does one at a time. What the disk refuses is tried again. The step after a committed
// checkpoint is its proof: a later resume can see that it found the same state.

import Configuration
import Wire

struct Checkpoints: Equatable, Sendable {
  /// Commits that wait for the disk, at most; where the disk is slower than that, the oldest are given up.
  private static let waitingLimit = 8

  /// The newest checkpoint that was committed, as the number of steps in it.
  private(set) var newestStep: Int?
  /// Size of the newest checkpoint whose files are all on disk.
  private(set) var byteCount: Int?
  /// Files of checkpoints that are being saved, by step and place in the roster.
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

  /// Nothing is being saved or waits for the disk.
  var areSettled: Bool { saves.isEmpty && commits.isEmpty }

  /// The run begins from a checkpoint that the disk has found.
  mutating func begin(from step: Int) { newestStep = step }

  /// A generation is over, and with it the checkpoints of which some files are missing.
  mutating func forgetSaves() { saves = [:] }

  /// Takes one worker's files. Returns the files of all workers, in order of their names, when these were the last.
  mutating func take(_ files: [CheckpointManifest.File], from place: Int, step: Int, of count: Int)
    -> [CheckpointManifest.File]?
  {
    saves[step, default: [:]][place] = files
    guard let parts = saves[step], parts.count == count else { return nil }
    return (0..<count).flatMap { parts[$0]! }.sorted { $0.name < $1.name }
  }

  /// Puts a checkpoint whose files are all on disk into the queue for its commit. Returns the step of one that is given up for it.
  mutating func enqueue(_ manifest: CheckpointManifest) -> Int? {
    // A worker writes its parts in their order, and gives up one that it could not write for the next: an older checkpoint that is not
    // whole by now never will be.
    saves = saves.filter { $0.key > manifest.step }
    commits[manifest.step] = manifest
    byteCount = manifest.files.reduce(0) { $0 + min($1.byteCount, 1 << 50) }
    let waiting = commits.keys.filter { $0 != underWay }.sorted()
    guard waiting.count > Checkpoints.waitingLimit else { return nil }
    giveUp(waiting[0])
    return waiting[0]
  }

  /// The commit that the disk is to do now: the oldest that is due, unless the disk is busy with another.
  mutating func next(at now: Instant) -> CheckpointManifest? {
    guard underWay == nil else { return nil }
    underWay = commits.keys.sorted().first { step in retries[step].map { $0.at <= now } ?? true }
    return underWay.map { commits[$0]! }
  }

  /// The disk has committed a checkpoint. Returns whether the run waited for it.
  mutating func committed(_ step: Int) -> Bool {
    if underWay == step { underWay = nil }
    guard commits[step] != nil else { return false }
    giveUp(step)
    newestStep = max(step, newestStep ?? 0)
    return true
  }

  /// The disk has refused a commit. Returns whether the run waited for it.
  mutating func refused(_ step: Int) -> Bool {
    if underWay == step { underWay = nil }
    return commits[step] != nil
  }

  mutating func giveUp(_ step: Int) {
    commits[step] = nil
    retries[step] = nil
  }

  /// Tries a commit again after a while. Returns whether the reason is another one than the last time.
  mutating func retry(_ step: Int, _ reason: String, at now: Instant) -> Bool {
    let before = retries[step]
    retries[step] = CommitRetry(after: before, reason: reason, at: now)
    return before?.reason != reason
  }

  /// The proof of this checkpoint is awaited, unless that of a newer one is.
  mutating func awaitProof(of path: String, step: Int) {
    guard unproven == nil || step >= unprovenStep else { return }
    unproven = path
    unprovenStep = step
  }

  /// The checkpoint whose proof is awaited, and its proof, when that is known. It is returned once.
  mutating func takeProof(_ log: StepLog) -> (path: String, mark: StepMark)? {
    guard let path = unproven, let mark = log.mark(of: unprovenStep + 1) else { return nil }
    unproven = nil
    return (path, mark)
  }
}

/// When a commit that the disk refused is tried again: after a second, then after twice as long each time, up to a minute.
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
