// Training sequences that tests make themselves.

import Kernels
import Training

/// Given sequences, each of inputs and one more token.
final class ListSource: SequenceSource {
  private let sequences: [[Int32]]
  init(_ sequences: [[Int32]]) { self.sequences = sequences }

  var sequenceCount: Int { sequences.count }
  var length: Int { sequences[0].count - 1 }
  func read(_ sequence: Int, into buffer: inout SequenceBuffer) {
    buffer.tokens = Array(sequences[sequence].dropLast())
    buffer.targets = Array(sequences[sequence].dropFirst())
  }
}
