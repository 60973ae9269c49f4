// Writes this worker's part of checkpoints in the background, from copies that training does not touch.

import CLinux
import Checkpoint
import Configuration
import Foundation
import Kernels
import Training
import Wire

final class CheckpointSaver: @unchecked Sendable {
  private let condition = NSCondition()
  /// In order; one is written at a time.
  private var waiting: [@Sendable () -> Void] = []
  private var isWriting = false
  private var underWay = 0
  /// Training has the processors first: of two cores that compute, a thread with this value gets a tenth. Nobody waits for the file but
  /// the next checkpoint and the run's end, when the processors are free.
  private static let nice: Int32 = 10

  /// - Parameters:
  ///   - links: which shard holds each tensor, from the worker that writes `model.h5`.
  ///   - done: called on the writing thread.
  func save(
    _ shard: Shard, to writer: CheckpointWriter, place: Int, links: [(name: String, shard: Int)]?,
    done: @escaping @Sendable (Result<[CheckpointManifest.File], CheckpointError>) -> Void
  ) {
    condition.lock()
    defer { condition.unlock() }
    underWay += 1
    waiting.append {
      done(Result { () throws(CheckpointError) in try CheckpointSaver.write(shard, writer, place, links) })
    }
    guard !isWriting else { return }
    isWriting = true
    // A thread of its own: a priority that was lowered stays so.
    let thread = Thread { [self] in
      ress_yield_to_others(CheckpointSaver.nice)
      work()
    }
    thread.name = "ress-checkpoint"
    thread.start()
  }

  private func work() {
    condition.lock()
    while !waiting.isEmpty {
      let write = waiting.removeFirst()
      condition.unlock()
      write()
      condition.lock()
      underWay -= 1
      condition.broadcast()
    }
    isWriting = false
    condition.unlock()
  }

  /// Waits until everything is written, asking `abandoned` now and then.
  func finish(abandoned: () -> Bool) {
    condition.lock()
    defer { condition.unlock() }
    while underWay > 0 && !abandoned() { _ = condition.wait(until: Date().addingTimeInterval(0.05)) }
  }

  static func write(
    _ shard: Shard, _ writer: CheckpointWriter, _ place: Int, _ links: [(name: String, shard: Int)]?
  ) throws(CheckpointError) -> [CheckpointManifest.File] {
    let tensors = shard.layout.pieces.enumerated().map { number, piece in
      NamedTensor(name: piece.name, shape: piece.entry.shape, values: shard.values(number))
    }
    var files = [try writer.writeShard(place, tensors)]
    if let links { files.append(try writer.writeModel(links)) }
    return files
  }
}
