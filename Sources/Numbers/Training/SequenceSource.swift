// Where training sequences come from: the protocol, and the source for language modelling. Other tasks have
// `ExampleSource`; tests make their own.

import Configuration
import Data
import Model

/// Sequences are numbered from 0, by a number that is the same on every worker.
package protocol SequenceSource: AnyObject {
  var sequenceCount: Int { get }
  /// Tokens of the longest sequence.
  var length: Int { get }
  /// Reads tokens and targets of a sequence into the buffer, whose memory is used again.
  func read(_ sequence: Int, into buffer: inout SequenceBuffer) throws
  /// Number of input tokens of a sequence.
  func tokenCount(of sequence: Int) -> Int
  /// Number of targets of a sequence that count in the loss.
  func targetCount(of sequence: Int) throws -> Int

  /// Number of questions of an evaluation. A question is one sequence or several that are judged together.
  var questionCount: Int { get }
  /// The sequences of a question, which are consecutive.
  func sequences(of question: Int) -> Range<Int>
  /// Scores the answers; nil where only the loss counts.
  var judge: (any Judge)? { get }

  /// The order in which training uses the sequences.
  func order(seed: UInt64) -> SequenceOrder
  /// Number of sequences that are longer than what is read of them.
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

  /// - Parameter layout: with `.separate`, no sequence extends into the next document; the last target is the
  ///   separator after the document.
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

/// Cuts each document into sequences of its own, all of `length` tokens except the last of each document.
private struct DocumentSequences {
  private let length: Int
  /// First token of each document, and the end of the last document's inputs.
  private let starts: [Int]
  /// Number of sequences before each document, and the total.
  private let before: [Int]
  /// Whether a document's last token has a target, namely the separator after it.
  private let hasSeparators: Bool

  var count: Int { before.last! }

  init(_ split: TokenSplit, length: Int, hasSeparators: Bool) throws(DataError) {
    self.length = length
    self.hasSeparators = hasSeparators
    // No separator follows the last document.
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
    // Finds the last document that begins at or before the sequence; documents without a sequence share its number.
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
