// Writes this worker's files of checkpoints in the background, while training continues.
//
// A file is written from a copy of the shard that training does not change (`LateCopy`). Where writing fails (a full
// disk, no file descriptors, a network file system that is unavailable), it is repeated from the same copy, at growing
// intervals, until it succeeds or until the next checkpoint replaces it. A failure does not stop training, because
// the state in the workers' memory is newer than any checkpoint, and stopping would lose it.
//
// Threads: `save`, `close` and `finish` are called by the training thread. Everything is written by one thread of
// low priority, which exists while there is work. `NSCondition` protects the fields below.

import CLinux
import Checkpoint
import Configuration
import Dispatch
import Foundation
import Kernels
import Training
import Wire

package final class CheckpointSaver: @unchecked Sendable {
  package typealias Files = [CheckpointManifest.File]

  /// One checkpoint's files to write, and how often that has failed.
  private struct Work {
    var number: Int
    var write: () throws(CheckpointError) -> Files
    var done: @Sendable (Result<Files, CheckpointError>) -> Void
    var failures = 0
    var reason = ""
  }

  private let condition = NSCondition()
  /// Jobs of the writing thread, in order; whether the thread exists.
  private var jobs: [@Sendable () -> Void] = []
  private var isWriting = false
  /// Saves that are neither done nor given up.
  private var underWay = 0
  private var lastNumber = 0
  /// Number of the save that has failed and waits for its next attempt, and the time of its failure.
  private var waiting: Int?
  private var failedAt: ContinuousClock.Instant?
  private var isClosed = false
  private let firstRetry: Duration
  private static let slowestRetry = Duration.seconds(30)
  /// Nice value of the writing thread. Training has priority: where all processors compute, a thread with this
  /// value gets about a tenth of one. Only the next checkpoint and the end of the run wait for a file, and
  /// processors are free then.
  private static let nice: Int32 = 10

  /// - Parameter firstRetry: time until the first repeated attempt; it doubles with each failure, up to 30 s.
  package init(firstRetry: Duration = .seconds(1)) { self.firstRetry = firstRetry }

  private func locked<Result>(_ body: () -> Result) -> Result {
    condition.lock()
    defer { condition.unlock() }
    return body()
  }

  // MARK: the writing thread

  /// Runs `job` on the writing thread, after the jobs before it.
  private func run(_ job: @escaping @Sendable () -> Void) {
    locked {
      jobs.append(job)
      guard !isWriting else { return }
      isWriting = true
      // A thread of its own, which ends when nothing is left to write: an unprivileged thread cannot raise its
      // priority again, so a pool's thread must not be used.
      let thread = Thread { [self] in
        ress_yield_to_others(CheckpointSaver.nice)
        while let job = next() { job() }
      }
      thread.name = "ress-checkpoint"
      thread.start()
    }
  }

  /// The next job; nil ends the thread.
  private func next() -> (@Sendable () -> Void)? {
    locked {
      guard jobs.isEmpty else { return jobs.removeFirst() }
      isWriting = false
      return nil
    }
  }

  // MARK: writing

  /// Writes in the background. It replaces an earlier save that has failed and waits for its next attempt.
  /// - Parameters:
  ///   - write: writes the files; called on the writing thread, and again after each error.
  ///   - done: called on the writing thread with the files, and with each error that differs from the error before
  ///     it.
  package func save(
    _ write: @escaping () throws(CheckpointError) -> Files,
    done: @escaping @Sendable (Result<Files, CheckpointError>) -> Void
  ) {
    let number = locked {
      giveUpWaiting()
      underWay += 1
      lastNumber += 1
      return lastNumber
    }
    nonisolated(unsafe) let work = Work(number: number, write: write, done: done)
    run { [self] in attempt(work) }
  }

  /// Gives up the save that waits for its next attempt. The caller holds the lock.
  private func giveUpWaiting() {
    guard waiting != nil else { return }
    waiting = nil
    failedAt = nil
    underWay -= 1
    condition.broadcast()
  }

  private func attempt(_ work: Work) {
    let result = Result { () throws(CheckpointError) in try work.write() }
    switch result {
    case .success: work.done(result)
    case .failure(let error):
      nonisolated(unsafe) var again = work
      again.failures += 1
      again.reason = "\(error)"
      if again.reason != work.reason { work.done(result) }
      let isTriedAgain = locked {
        guard work.number == lastNumber && !isClosed else { return false }
        waiting = work.number
        failedAt = .now
        condition.broadcast()
        return true
      }
      if isTriedAgain { return tryAgain(again) }
    }
    locked {
      underWay -= 1
      condition.broadcast()
    }
  }

  private func tryAgain(_ work: Work) {
    let delay = min(firstRetry * (1 << min(work.failures - 1, 10)), CheckpointSaver.slowestRetry)
    nonisolated(unsafe) let work = work
    DispatchQueue.global().asyncAfter(deadline: .now() + .nanoseconds(Int(delay.nanoseconds))) { [self] in
      run { [self] in
        let isWanted = locked {
          guard waiting == work.number else { return false }
          waiting = nil
          return true
        }
        if isWanted { attempt(work) }
      }
    }
  }

  /// Repeats nothing from now on. A file that is being written is completed.
  package func close() {
    locked {
      isClosed = true
      giveUpWaiting()
    }
  }

  /// Blocks until everything is written or `abandoned` returns true.
  ///
  /// `abandoned` is called repeatedly with the time of the last failure, which is the current time while a repeated
  /// attempt is due; nil where nothing failed. With it the caller can tell a disk that reports errors from one that
  /// hangs.
  /// - Parameter insisting: whether to wait for saves that have failed; otherwise returns when only those are left.
  package func finish(insisting: Bool, abandoned: (ContinuousClock.Instant?) -> Bool) {
    condition.lock()
    defer { condition.unlock() }
    while underWay > 0 && !abandoned(waiting != nil ? .now : failedAt) {
      if !insisting && waiting != nil { return }
      _ = condition.wait(until: Date().addingTimeInterval(0.05))
    }
  }

  /// Writes one shard's file, and with `links` also the file model.h5, which refers to the tensors of all shards.
  static func write(
    _ copy: LateCopy, _ writer: CheckpointWriter, _ place: Int, _ links: [(name: String, shard: Int)]?
  ) throws(CheckpointError) -> Files {
    let tensors = copy.layout.pieces.enumerated().map { number, piece in
      NamedTensor(name: piece.name, shape: piece.rows.shape) { copy.read(number, $0) }
    }
    var files = [try writer.writeShard(place, tensors)]
    if let links { files.append(try writer.writeModel(links)) }
    return files
  }
}
