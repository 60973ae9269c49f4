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
  /// Longest answer in tokens.
  private let longest: Int

  package init(_ examples: ExampleSplit, _ tokenizer: Tokenizer) {
    self.examples = examples
    self.tokenizer = tokenizer
    if case .byte = tokenizer { longest = 160 } else { longest = 40 }
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

  /// The likeliest span of the text after the question.
  private func text(_ answer: Answer) -> String {
    let count = answer.tokens.count
    // The question ends at the first separator.
    let first = tokenizer.separator.flatMap { answer.tokens.firstIndex(of: $0) }.map { $0 + 1 } ?? 0
    guard first < count else { return "" }
    var best = (score: -Real.infinity, start: first, end: first)
    for start in first..<count {
      for end in start..<min(count, start + longest) {
        let score = answer.logits[2 * start] + answer.logits[2 * end + 1]
        if score > best.score { best = (score, start, end) }
      }
    }
    return String(decoding: tokenizer.decode(answer.tokens[best.start...best.end]), as: UTF8.self)
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
