// Scores answers that are spans of text, as SQuAD does: exact match, and F1 of words, after lower-casing and
// removing punctuation and articles. Of several right answers the best match counts. Rajpurkar et al., arXiv
// 1606.05250, section 6.1, and evaluate-v1.1.py.

import Data
import Kernels
import Model

package struct SpanJudge: Judge {
  package let needsLogits = true
  private let examples: ExampleSplit
  private let tokenizer: Tokenizer
  private let longest: Int

  package init(_ examples: ExampleSplit, _ tokenizer: Tokenizer) {
    self.examples = examples
    self.tokenizer = tokenizer
    longest = Self.longest(tokenizer)
  }

  package func scores(_ answers: [Answer]) throws -> ScoreSums {
    var sums = ScoreSums()
    for answer in answers {
      let right = try examples.answers(of: answer.sequence)
      let words = Self.words(text(answer))
      sums.answers += 1
      if right.contains(where: { Self.words($0) == words }) { sums.right += 1 }
      sums.overlap += right.map { Self.overlap(words, Self.words($0)) }.max() ?? 0
    }
    return sums
  }

  private func text(_ answer: Answer) -> String {
    Self.span(answer.tokens, answer.logits, tokenizer, longest: longest).map {
      String(decoding: tokenizer.decode(answer.tokens[$0]), as: UTF8.self)
    } ?? ""
  }

  /// Longest answer in tokens.
  package static func longest(_ tokenizer: Tokenizer) -> Int { if case .byte = tokenizer { 160 } else { 40 } }

  /// The likeliest span of the text after the question; nil where there is no text.
  /// - Parameter logits: of start and end, for each token.
  package static func span(
    _ tokens: [Int32], _ logits: [Real], _ tokenizer: Tokenizer, longest: Int
  ) -> ClosedRange<Int>? {
    let count = tokens.count
    // The question ends at the first separator.
    let first = tokenizer.separator.flatMap { tokens.firstIndex(of: $0) }.map { $0 + 1 } ?? 0
    guard first < count else { return nil }
    var best = (score: -Real.infinity, start: first, end: first)
    for start in first..<count {
      for end in start..<min(count, start + longest) {
        let score = logits[2 * start] + logits[2 * end + 1]
        if score > best.score { best = (score, start, end) }
      }
    }
    return best.start...best.end
  }

  /// The words of a text as SQuAD compares them.
  package static func words(_ text: String) -> [String] {
    let plain = text.lowercased().unicodeScalars.filter {
      !("!"..."/" ~= $0 || ":"..."@" ~= $0 || "["..."`" ~= $0 || "{"..."~" ~= $0)
    }
    return String(String.UnicodeScalarView(plain)).split(whereSeparator: \.isWhitespace).map(String.init).filter {
      !["a", "an", "the"].contains($0)
    }
  }

  /// F1 of two lists of words, regardless of their order.
  package static func overlap(_ found: [String], _ right: [String]) -> Double {
    if found.isEmpty || right.isEmpty { return found == right ? 1 : 0 }
    var left: [String: Int] = [:]
    for word in right { left[word, default: 0] += 1 }
    var common = 0
    for word in found where left[word, default: 0] > 0 {
      left[word]! -= 1
      common += 1
    }
    return 2 * Double(common) / Double(found.count + right.count)
  }
}
