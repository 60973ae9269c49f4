// Sequences that tests make themselves.

import Kernels
import Training

/// Given sequences, each of inputs and one more token.
final class ListSource: SequenceSource {
  private let sequences: [[Int32]]
  init(_ sequences: [[Int32]]) { self.sequences = sequences }

  var sequenceCount: Int { sequences.count }
  var length: Int { sequences[0].count - 1 }
  func read(_ sequence: Int, tokens: inout [Int32], targets: inout [Int32]) {
    tokens = Array(sequences[sequence].dropLast())
    targets = Array(sequences[sequence].dropFirst())
  }
}
