// The four losses, L = L_task + λ_s L_smooth + λ_b L_balance + λ_z L_z, each a mean over the global batch. A unit
// reports sums in double. They are added over the units in the fixed tree, so that the means have the same bits on
// any cluster.

import Configuration
import Kernels

/// Sums over some sequences of a batch.
package struct LossSums: Equatable, Sendable {
  /// Cross-entropy in nats, summed over the targets.
  package var task = 0.0
  package var targets = 0
  /// Σ (Aᵗ − Aᵗ⁻¹)² over tokens and transitions.
  package var smooth = 0.0
  /// Σ over sequences and steps of (number of the sequence's tokens) · E Σ_j f_j P_j.
  package var balance = 0.0
  /// Σ logsumexp² over tokens and steps.
  package var routerZ = 0.0
  package var tokens = 0
  /// Scores of an evaluation.
  package var scores = ScoreSums()

  package init() {}

  package static func + (x: LossSums, y: LossSums) -> LossSums {
    var sum = x
    sum.task += y.task
    sum.targets += y.targets
    sum.smooth += y.smooth
    sum.balance += y.balance
    sum.routerZ += y.routerZ
    sum.tokens += y.tokens
    sum.scores = x.scores + y.scores
    return sum
  }

  /// The sums as numbers, in which form workers send them to each other.
  package static let numberCount = 6 + ScoreSums.numberCount

  package var numbers: [Double] {
    [task, Double(targets), smooth, balance, routerZ, Double(tokens)] + scores.numbers
  }

  /// Nil where the numbers cannot be those of a report: their number is wrong, or a count is not a valid one.
  package init?(_ numbers: some Collection<Double>) {
    let values = Array(numbers)
    let counts = [1, 5, 6, 7, 9, 10, 11, 12]
    guard values.count == LossSums.numberCount, counts.allSatisfy({ (0...0x1p53).contains(values[$0]) }) else {
      return nil
    }
    (task, targets, smooth, balance, routerZ, tokens) = (
      values[0], Int(values[1]), values[2], values[3], values[4], Int(values[5])
    )
    scores = ScoreSums(values[6...])
  }
}

/// Sums of the scores by which a task is judged in addition to its loss (docs/tasks.md).
package struct ScoreSums: Equatable, Sendable {
  /// Number of answers that were judged, and how many of them were right.
  package var answers = 0
  package var right = 0
  /// Σ F1 of a span's words.
  package var overlap = 0.0
  /// Tagged phrases: found and expected, found, expected.
  package var matched = 0
  package var found = 0
  package var expected = 0
  /// Bytes of the text that the targets encode.
  package var bytes = 0

  package init() {}

  package static func + (x: ScoreSums, y: ScoreSums) -> ScoreSums {
    var sum = x
    sum.answers += y.answers
    sum.right += y.right
    sum.overlap += y.overlap
    sum.matched += y.matched
    sum.found += y.found
    sum.expected += y.expected
    sum.bytes += y.bytes
    return sum
  }

  fileprivate static let numberCount = 7

  fileprivate var numbers: [Double] {
    [Double(answers), Double(right), overlap, Double(matched), Double(found), Double(expected), Double(bytes)]
  }

  fileprivate init(_ numbers: ArraySlice<Double>) {
    let first = numbers.startIndex
    (answers, right, overlap) = (Int(numbers[first]), Int(numbers[first + 1]), numbers[first + 2])
    (matched, found, expected) = (Int(numbers[first + 3]), Int(numbers[first + 4]), Int(numbers[first + 5]))
    bytes = Int(numbers[first + 6])
  }
}

/// The means of a batch, and their weighted total. `steps` is the number of recurrence steps, where it is not the
/// configured one.
package struct Losses: Equatable, Sendable, Codable {
  package var total: Double
  package var task: Double
  package var smooth: Double
  package var balance: Double
  package var routerZ: Double

  package init(_ sums: LossSums, _ model: ModelConfiguration, steps: Int? = nil) {
    let steps = Double(steps ?? model.steps)
    task = sums.task / Double(max(sums.targets, 1))
    smooth = steps > 1 ? sums.smooth / (Double(sums.tokens) * (steps - 1)) : 0
    balance = sums.balance / (Double(sums.tokens) * steps)
    routerZ = sums.routerZ / (Double(sums.tokens) * steps)
    total = task + model.smoothWeight * smooth + model.balanceWeight * balance + model.routerZWeight * routerZ
  }
}

/// The factors by which the backward pass multiplies: what one unit of each sum adds to the total loss.
package struct LossScales: Equatable, Sendable {
  package var task: Real
  package var smooth: Real
  package var balance: Real
  package var routerZ: Real

  /// - Parameters `targets` and `tokens`: those of the whole batch.
  package init(_ model: ModelConfiguration, targets: Int, tokens: Int) {
    let steps = Double(model.steps)
    let rows = Double(max(tokens, 1))
    task = Real(1 / Double(max(targets, 1)))
    smooth = model.steps > 1 ? Real(model.smoothWeight / (rows * (steps - 1))) : 0
    balance = Real(model.balanceWeight * Double(model.experts) / (rows * steps))
    routerZ = Real(model.routerZWeight / (rows * steps))
  }
}
