// Judges: how the answers of each task are scored, in the terms of its field (docs/tasks.md).

import Data
import Kernels
import Model

/// Language modelling is scored by its loss alone. The judge counts the bytes of the text, so that models with
/// different tokenizers can be compared in bits per byte.
package struct TextJudge: Judge {
  package let needsLogits = false
  private let byteCounts: [Int]

  package init(_ tokenizer: Tokenizer) {
    byteCounts = (0..<tokenizer.vocabulary).map { tokenizer.byteCount(of: Int32($0)) }
  }

  package func scores(_ answers: [Answer]) -> ScoreSums {
    var sums = ScoreSums()
    for answer in answers {
      for target in answer.targets where byteCounts.indices.contains(Int(target)) {
        sums.bytes += byteCounts[Int(target)]
      }
    }
    return sums
  }
}

/// Classification: the answer is the likeliest class.
package struct ClassJudge: Judge {
  package init() {}
  package let needsLogits = true

  package func scores(_ answers: [Answer]) -> ScoreSums {
    var sums = ScoreSums()
    for answer in answers {
      for (row, target) in answer.targets.enumerated() where target >= 0 {
        sums.answers += 1
        if answer.choice(row) == Int(target) { sums.right += 1 }
      }
    }
    return sums
  }
}

/// Multiple choice: the answer is the choice with the largest log-odds of being right; the first of equal ones.
package struct ChoiceJudge: Judge {
  package init() {}
  package let needsLogits = true

  package func scores(_ answers: [Answer]) -> ScoreSums {
    var sums = ScoreSums()
    func odds(_ answer: Answer) -> Real { answer.logits[1] - answer.logits[0] }
    var best = answers[0]
    for answer in answers.dropFirst() where odds(answer) > odds(best) { best = answer }
    sums.answers = 1
    sums.right = best.targets[0] == 1 ? 1 : 0
    return sums
  }
}

/// Tagging: the accuracy of tags and, where they are `B-…` and `I-…`, the precision and recall of the phrases they
/// mark, as CoNLL's evaluation script counts them.
package struct TagJudge: Judge {
  package let needsLogits = true
  private let labels: [String]

  package init(labels: [String]) { self.labels = labels }

  package func scores(_ answers: [Answer]) -> ScoreSums {
    var sums = ScoreSums()
    for answer in answers {
      var found: [String] = [], expected: [String] = []
      for (row, target) in answer.targets.enumerated() where target >= 0 {
        let choice = answer.choice(row)
        sums.answers += 1
        if choice == Int(target) { sums.right += 1 }
        found.append(labels.indices.contains(choice) ? labels[choice] : "")
        expected.append(labels.indices.contains(Int(target)) ? labels[Int(target)] : "")
      }
      let phrases = Set(Self.phrases(expected)), guesses = Set(Self.phrases(found))
      sums.expected += phrases.count
      sums.found += guesses.count
      sums.matched += phrases.intersection(guesses).count
    }
    return sums
  }

  package struct Phrase: Hashable {
    package var words: Range<Int>
    package var kind: Substring
  }

  /// The phrases that tags mark. `B-X` begins a phrase of kind X. `I-X` continues a phrase of kind X, or begins one
  /// where none precedes.
  package static func phrases(_ tags: [String]) -> [Phrase] {
    var phrases: [Phrase] = []
    for (word, tag) in tags.enumerated() {
      guard tag.hasPrefix("B-") || tag.hasPrefix("I-") else { continue }
      let kind = tag.dropFirst(2)
      if tag.hasPrefix("I-"), let last = phrases.last, last.words.upperBound == word, last.kind == kind {
        phrases[phrases.count - 1].words = last.words.lowerBound..<word + 1
      } else {
        phrases.append(Phrase(words: word..<word + 1, kind: kind))
      }
    }
    return phrases
  }
}
