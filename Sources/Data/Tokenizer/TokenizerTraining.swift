// Learning a tokenizer from files: pieces of text go round the threads to be counted, and the sums are learned from.

import Foundation
import Synchronization

extension BytePairTraining {
  /// Counts all that the sources hold. The same sources give the same counts, on any number of threads.
  /// - Parameters:
  ///   - exclusions: paths that are no text of the sources, and what each one is.
  ///   - progress: told the bytes of text that were read.
  ///   - note: told what was left out, a line each.
  package mutating func read(
    _ sources: [String], options: SourceOptions = SourceOptions(), threads: Int,
    leavingOut exclusions: [(path: String, what: String)] = [], progress: (Int) -> Void = { _ in },
    note: (String) -> Void = { _ in }
  ) throws {
    try checkSpecials()
    var list = try SourceList(sources, leavingOut: exclusions)
    list.notes.forEach(note)
    try list.look(options)
    try list.checkField(options, .lm)
    let reader = DocumentReader(options: options)
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
    for file in list.files {
      try reader.read(file) { piece in
        batch.append(piece.bytes)
        waiting += piece.bytes.count
        if waiting >= Self.batchBytes { count() }
      }
    }
    count()
    try reader.tally.check(options)
    reader.tally.notes.forEach(note)
    for counter in counters { add(counter) }
  }

  private static let batchBytes = 16 << 20
}
