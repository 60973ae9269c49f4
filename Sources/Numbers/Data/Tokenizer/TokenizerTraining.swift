// Learns a tokenizer from files: pieces of text are counted by several threads, and the vocabulary is learned from
// the sums.

import Foundation
import Synchronization

extension BytePairTraining {
  /// Counts the pieces of all sources. The same sources give the same counts, with any number of threads.
  /// - Parameters:
  ///   - exclusions: paths to leave out, and a description of each.
  ///   - progress: called with the bytes of text read so far.
  ///   - note: called with a sentence for each thing that was left out.
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
