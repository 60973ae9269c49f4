// Learning a tokenizer from files: pieces of text go round the threads to be counted, and the sums are learned from.

import Foundation
import Synchronization

extension BytePairTraining {
  /// Counts all that the sources hold. The same sources give the same counts, on any number of threads.
  /// - Parameter progress: told the bytes of text that were read.
  package mutating func read(
    _ sources: [String], field: String = "text", threads: Int, progress: (Int) -> Void = { _ in }
  ) throws {
    let reader = DocumentReader(field: field)
    var counters = Array(repeating: self, count: max(1, threads))
    var batch: [[UInt8]] = [], waiting = 0, done = 0
    func count() {
      let pieces = batch
      counters.withUnsafeMutableBufferPointer { counters in
        nonisolated(unsafe) let counters = counters
        DispatchQueue.concurrentPerform(iterations: counters.count) { thread in
          for number in stride(from: thread, to: pieces.count, by: counters.count) {
            pieces[number].withUnsafeBufferPointer { counters[thread].read($0) }
          }
        }
      }
      done += waiting
      (batch, waiting) = ([], 0)
      progress(done)
    }
    for file in try SourceFile.expand(sources) {
      try reader.read(file.path) { piece in
        batch.append(piece.bytes)
        waiting += piece.bytes.count
        if waiting >= Self.batchBytes { count() }
      }
    }
    count()
    for counter in counters { add(counter) }
  }

  private static let batchBytes = 16 << 20
}
