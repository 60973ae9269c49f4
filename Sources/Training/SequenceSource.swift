// Where training sequences come from. A prepared dataset is one; tests make their own.

import Data
import Model

package protocol SequenceSource: AnyObject {
  var sequenceCount: Int { get }
  /// Inputs of the longest sequence.
  var length: Int { get }
  /// Fills `tokens` (the sequence's inputs) and `targets` (as the model's head wants them, docs/model.md); a negative target counts
  /// nothing.
  func read(_ sequence: Int, tokens: inout [Int32], targets: inout [Int32]) throws
  /// Inputs of a sequence.
  func tokenCount(of sequence: Int) -> Int
  /// Targets of a sequence that count.
  func targetCount(of sequence: Int) -> Int
}

extension SequenceSource {
  package func tokenCount(of sequence: Int) -> Int { length }
  package func targetCount(of sequence: Int) -> Int { length }
}

/// Next-token prediction over a split of a prepared dataset.
package final class LanguageModelSource: SequenceSource {
  package let length: Int
  package let sequenceCount: Int
  private let split: TokenSplit
  private var buffer: [Int32] = []

  package init(_ split: TokenSplit, length: Int) {
    self.split = split
    self.length = length
    sequenceCount = split.sequenceCount(length: length)
  }

  package func read(_ sequence: Int, tokens: inout [Int32], targets: inout [Int32]) throws {
    try split.read(sequence: sequence, length: length, into: &buffer)
    if tokens.count != length { tokens = Array(repeating: 0, count: length) }
    if targets.count != length { targets = Array(repeating: 0, count: length) }
    for index in 0..<length {
      tokens[index] = buffer[index]
      targets[index] = buffer[index + 1]
    }
  }
}
