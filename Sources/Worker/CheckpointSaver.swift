// Writes this worker's part of checkpoints in the background, from copies that training does not touch.
//
// A part that cannot be written (a full disk, no descriptors, a file system that is gone for a moment) is tried again from the same
// copy until it is written, or until the next checkpoint's part takes its place. Training goes on meanwhile: what the workers hold is
// newer than any checkpoint, and to stop would throw it away.

import CLinux
import Checkpoint
import Configuration
import Dispatch
import Foundation
import Kernels
import Training
import Wire

final class CheckpointSaver: @unchecked Sendable {
  typealias Files = [CheckpointManifest.File]

  /// What is to be written, and how often that has failed.
  private struct Work {
    var number: Int
    var write: () throws(CheckpointError) -> Files
    var done: @Sendable (Result<Files, CheckpointError>) -> Void
    var failures = 0
    var reason = ""
  }

  private let condition = NSCondition()
  /// Jobs of the writing thread, in order, and whether there is one.
  private var jobs: [@Sendable () -> Void] = []
  private var isWriting = false
  private var underWay = 0
  private var lastNumber = 0
  /// What has failed and waits to be tried again, and when it failed.
  private var waiting: Int?
  private var failedAt: ContinuousClock.Instant?
  private var isClosed = false
  private let firstRetry: Duration
  private static let slowestRetry = Duration.seconds(30)
  /// Training has the processors first: of two cores that compute, a thread with this value gets a tenth. Nobody waits for the file but
  /// the next checkpoint and the run's end, when the processors are free.
  private static let nice: Int32 = 10

  /// - Parameter firstRetry: what could not be written is tried again after this long, then after twice as long each time.
  init(firstRetry: Duration = .seconds(1)) { self.firstRetry = firstRetry }

  private func locked<Result>(_ body: () -> Result) -> Result {
    condition.lock()
    defer { condition.unlock() }
    return body()
  }

  // MARK: the writing thread

  /// Runs `job` on the writing thread, after those that wait for it already.
  private func run(_ job: @escaping @Sendable () -> Void) {
    locked {
      jobs.append(job)
      guard !isWriting else { return }
      isWriting = true
      // A thread of its own, which ends when nothing is left to write: a priority that was lowered stays so.
      let thread = Thread { [self] in
        ress_yield_to_others(CheckpointSaver.nice)
        while let job = next() { job() }
      }
      thread.name = "ress-checkpoint"
      thread.start()
    }
  }

  /// Nil where the thread is to end.
  private func next() -> (@Sendable () -> Void)? {
    locked {
      guard jobs.isEmpty else { return jobs.removeFirst() }
      isWriting = false
      return nil
    }
  }

  // MARK: writing

  /// - Parameters:
  ///   - write: tries to write; called on the writing thread, and again where it throws.
  ///   - done: called on the writing thread with the files, and with each error that is not the one before.
  func save(
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

  /// Under the lock. What failed before is not tried again.
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

  /// Nothing is tried again from now on. What is being written is finished.
  func close() {
    locked {
      isClosed = true
      giveUpWaiting()
    }
  }

  /// Waits until everything is written, asking `abandoned` now and then; it is told when the last attempt failed, which is now while
  /// the next one is waited for. Without `insisting` it does not wait for what has failed.
  func finish(insisting: Bool, abandoned: (ContinuousClock.Instant?) -> Bool) {
    condition.lock()
    defer { condition.unlock() }
    while underWay > 0 && !abandoned(waiting != nil ? .now : failedAt) {
      if !insisting && waiting != nil { return }
      _ = condition.wait(until: Date().addingTimeInterval(0.05))
    }
  }

  static func write(
    _ shard: Shard, _ writer: CheckpointWriter, _ place: Int, _ links: [(name: String, shard: Int)]?
  ) throws(CheckpointError) -> Files {
    let tensors = shard.layout.pieces.enumerated().map { number, piece in
      NamedTensor(name: piece.name, shape: piece.entry.shape, values: shard.values(number))
    }
    var files = [try writer.writeShard(place, tensors)]
    if let links { files.append(try writer.writeModel(links)) }
    return files
  }
}
