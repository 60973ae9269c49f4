// Writes this worker's part of checkpoints in the background, from copies that training does not touch.

import Checkpoint
import Configuration
import Dispatch
import Foundation
import Kernels
import Training
import Wire

final class CheckpointSaver: @unchecked Sendable {
  private let queue = DispatchQueue(label: "ress.checkpoint")
  private let condition = NSCondition()
  private var underWay = 0

  /// - Parameters:
  ///   - links: which shard holds each tensor, from the worker that writes `model.h5`.
  ///   - done: called on the writing thread.
  func save(
    _ shard: Shard, to writer: CheckpointWriter, place: Int, links: [(name: String, shard: Int)]?,
    done: @escaping @Sendable (Result<[CheckpointManifest.File], CheckpointError>) -> Void
  ) {
    condition.lock()
    underWay += 1
    condition.unlock()
    queue.async { [self] in
      done(Result { () throws(CheckpointError) in try CheckpointSaver.write(shard, writer, place, links) })
      condition.lock()
      underWay -= 1
      condition.broadcast()
      condition.unlock()
    }
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
