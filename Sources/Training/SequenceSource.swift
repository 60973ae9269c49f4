// Where training sequences come from. A prepared dataset is one; tests make their own.

import Configuration
import Data
import Model

package protocol SequenceSource: AnyObject {
  var sequenceCount: Int { get }
  /// Inputs of the longest sequence.
  var length: Int { get }
  func read(_ sequence: Int, into buffer: inout SequenceBuffer) throws
  /// Inputs of a sequence.
  func tokenCount(of sequence: Int) -> Int
  /// Targets of a sequence that count.
  func targetCount(of sequence: Int) throws -> Int

  /// What an evaluation asks: sequences that are judged together.
  var questionCount: Int { get }
  func sequences(of question: Int) -> Range<Int>
  /// How the answers are judged beside their loss; nil: they are not.
  var judge: (any Judge)? { get }

  /// Which sequence comes when in training.
  func order(seed: UInt64) -> SequenceOrder
  /// Sequences of which not all is read.
  var cutCount: Int { get }
}

extension SequenceSource {
  package func tokenCount(of sequence: Int) -> Int { length }
  package func targetCount(of sequence: Int) -> Int { length }
  package var questionCount: Int { sequenceCount }
  package func sequences(of question: Int) -> Range<Int> { question..<question + 1 }
  package var judge: (any Judge)? { nil }
  package func order(seed: UInt64) -> SequenceOrder { .whole(Sampler(seed: seed, sequenceCount: sequenceCount)) }
  package var cutCount: Int { 0 }
}

/// Next-token prediction over a split of a prepared dataset.
package final class LanguageModelSource: SequenceSource {
  package let length: Int
  package let sequenceCount: Int
  private let split: TokenSplit
  private let documents: DocumentSequences?
  private var stretch: [Int32] = []
  package let judge: (any Judge)?

  /// - Parameter layout: with `.separate` a sequence never runs into the next document, whose separator is its last target.
  package init(
    _ split: TokenSplit, length: Int, layout: DocumentLayout = .packed, separator: Int32? = nil,
    tokenizer: Tokenizer? = nil
  ) throws(DataError) {
    judge = tokenizer.map { TextJudge($0) }
    self.split = split
    self.length = length
    documents =
      layout == .separate ? try DocumentSequences(split, length: length, hasSeparators: separator != nil) : nil
    sequenceCount = documents?.count ?? split.sequenceCount(length: length)
  }

  package func read(_ sequence: Int, into buffer: inout SequenceBuffer) throws {
    let inputs = range(of: sequence)
    try split.read(from: inputs.lowerBound, count: inputs.count + 1, into: &stretch)
    if buffer.tokens.count != inputs.count { buffer.tokens = Array(repeating: 0, count: inputs.count) }
    if buffer.targets.count != inputs.count { buffer.targets = Array(repeating: 0, count: inputs.count) }
    for index in 0..<inputs.count {
      buffer.tokens[index] = stretch[index]
      buffer.targets[index] = stretch[index + 1]
    }
  }

  package func tokenCount(of sequence: Int) -> Int { range(of: sequence).count }
  package func targetCount(of sequence: Int) -> Int { range(of: sequence).count }

  private func range(of sequence: Int) -> Range<Int> {
    documents?.range(of: sequence) ?? sequence * length..<(sequence + 1) * length
  }
}

/// Documents cut into sequences of their own: all of `length` but each document's last.
private struct DocumentSequences {
  private let length: Int
  /// First token of each document, and the end of the last one's inputs.
  private let starts: [Int]
  /// Sequences before each document, and in all.
  private let before: [Int]
  /// Whether a document's last input has a target, the next one's separator.
  private let hasSeparators: Bool

  var count: Int { before.last! }

  init(_ split: TokenSplit, length: Int, hasSeparators: Bool) throws(DataError) {
    self.length = length
    self.hasSeparators = hasSeparators
    // Behind the last document stands no separator.
    let starts = try split.documentOffsets() + [hasSeparators ? split.tokenCount - 1 : split.tokenCount]
    self.starts = starts
    var sum = 0
    before =
      [0]
      + (0..<starts.count - 1).map { document in
        let inputs = max(0, starts[document + 1] - starts[document] - (hasSeparators ? 0 : 1))
        sum += (inputs + length - 1) / length
        return sum
      }
  }

  func range(of sequence: Int) -> Range<Int> {
    // The last document that begins at or before the sequence; those without a sequence share its number.
    var low = 0, high = before.count - 1
    while high - low > 1 {
      let middle = (low + high) / 2
      if before[middle] <= sequence { low = middle } else { high = middle }
    }
    let end = starts[low + 1] - (hasSeparators ? 0 : 1)
    let start = starts[low] + (sequence - before[low]) * length
    return start..<min(end, start + length)
  }
}
