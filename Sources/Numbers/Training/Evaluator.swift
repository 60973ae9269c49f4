// Evaluates a model on the questions of a split, one after the other: the losses, and the scores that the task's
// judge gives its answers.

import Foundation
import Kernels
import Model

package final class Evaluator {
  private let source: any SequenceSource
  private let sizes: Sizes
  private let reading: Lock
  private var buffer = SequenceBuffer()
  private var logits: [Real] = []
  /// Whether answers contain logits even where the judge does not need them.
  package var keepsLogits = false

  /// - Parameter reading: held while the source is read, and while it judges; evaluators that ask the same source at
  ///   the same time share one.
  package init(_ source: any SequenceSource, _ sizes: Sizes, _ reading: Lock = Lock()) {
    self.source = source
    self.sizes = sizes
    self.reading = reading
  }

  /// Adds the losses and scores of a question to `report`.
  ///
  /// - Returns: the answers to the question's sequences; none where the task has no judge.
  @discardableResult package func ask(
    _ question: Int, unit: Int, _ model: SequenceModel, _ weights: Weights, _ report: inout SequenceReport
  ) throws -> [Answer] {
    let sequences = source.sequences(of: question)
    guard let judge = source.judge else {
      for (place, sequence) in sequences.enumerated() {
        try reading.hold { try source.read(sequence, into: &buffer) }
        try buffer.withInput { tokens, targets in
          try model.evaluate(tokens, targets: targets, unit: unit, sequence: place, weights: weights, report: &report)
        }
      }
      return []
    }
    var answers: [Answer] = []
    for (place, sequence) in sequences.enumerated() {
      try reading.hold { try source.read(sequence, into: &buffer) }
      let rows = judge.needsLogits || keepsLogits ? sizes.logitRows(buffer.tokenCount) : 0
      let columns = sizes.logitColumns
      if logits.count < rows * columns { logits = Array(repeating: 0, count: rows * columns) }
      try logits.withUnsafeMutableBufferPointer { logits in
        let out = rows > 0 ? Matrix(logits.baseAddress!, rows: rows, columns: columns) : nil
        try buffer.withInput { tokens, targets in
          try model.evaluate(
            tokens, targets: targets, unit: unit, sequence: place, weights: weights, logits: out, report: &report)
        }
      }
      answers.append(
        Answer(
          sequence: sequence, tokens: buffer.tokens, targets: buffer.targets, classes: columns,
          logits: Array(logits[..<(rows * columns)])))
    }
    report.losses.scores = report.losses.scores + (try reading.hold { try judge.scores(answers) })
    return answers
  }
}

/// The model's output for one sequence.
package struct Answer {
  package var sequence: Int
  /// The sequence's features, and its targets.
  package var tokens: [Int32]
  package var targets: [Int32]
  package var classes: Int
  /// One row of `classes` logits per token, or one row for the sequence; empty where they are not needed.
  package var logits: [Real]

  package init(sequence: Int, tokens: [Int32], targets: [Int32], classes: Int, logits: [Real]) {
    self.sequence = sequence
    self.tokens = tokens
    self.targets = targets
    self.classes = classes
    self.logits = logits
  }

  /// Cross-entropy of a row's target in nats, with a softmax in double precision.
  package func loss(_ row: Int) -> Double {
    let first = row * classes
    let own = logits[first..<first + classes]
    let largest = Double(own.max()!)
    let sum = own.reduce(0) { $0 + SameEverywhere.exp(max(-700, Double($1) - largest)) }
    return SameEverywhere.log(sum) + largest - Double(logits[first + Int(targets[row])])
  }

  /// The likeliest class of a row; the first of equally likely ones.
  func choice(_ row: Int = 0) -> Int {
    let first = row * classes
    return (0..<classes).max { logits[first + $0] < logits[first + $1] } ?? 0
  }
}

/// Scores the answers of a task, in addition to their loss.
package protocol Judge {
  var needsLogits: Bool { get }
  /// - Parameter answers: the answers to the sequences of one question.
  func scores(_ answers: [Answer]) throws -> ScoreSums
}
