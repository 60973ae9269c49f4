// The four losses, L = L_task + λ_s L_smooth + λ_b L_balance + λ_z L_z, each a mean over the global batch. A unit reports
// sums in double; they are added over units in one fixed tree, so that the mean is the same on any cluster.

import Configuration
import Kernels

/// Sums over some of a batch's sequences.
package struct LossSums: Equatable, Sendable {
  /// Cross-entropy in nats, over the targets.
  package var task = 0.0
  package var targets = 0
  /// Σ (Aᵗ − Aᵗ⁻¹)² over tokens and transitions.
  package var smooth = 0.0
  /// Σ over sequences and steps of the sequence's tokens · E Σ_j f_j P_j.
  package var balance = 0.0
  /// Σ logsumexp² over tokens and steps.
  package var routerZ = 0.0
  package var tokens = 0
  /// Of an evaluation.
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

  /// The numbers of a report, as workers tell them to each other.
  package static let numberCount = 6 + ScoreSums.numberCount

  package var numbers: [Double] {
    [task, Double(targets), smooth, balance, routerZ, Double(tokens)] + scores.numbers
  }

  /// Nil where they are none of a report: too few, or no counts where counts belong.
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

/// What a task is judged by beside its loss (docs/tasks.md), summed over answers.
package struct ScoreSums: Equatable, Sendable {
  /// Answers that were judged, and those of them that were right.
  package var answers = 0
  package var right = 0
  /// Σ F1 of a span's words.
  package var overlap = 0.0
  /// Tagged phrases: found where expected, found, expected.
  package var matched = 0
  package var found = 0
  package var expected = 0
  /// Bytes of text that the targets stand for.
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

/// The means of a batch, and their weighted total. `steps` counts the recurrence steps run, if not the configured ones.
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

/// What one unit of each sum adds to the total: the factors that the backward multiplies by.
package struct LossScales: Equatable, Sendable {
  package var task: Real
  package var smooth: Real
  package var balance: Real
  package var routerZ: Real

  /// `targets` and `tokens` of the whole batch.
  package init(_ model: ModelConfiguration, targets: Int, tokens: Int) {
    let steps = Double(model.steps)
    let rows = Double(max(tokens, 1))
    task = Real(1 / Double(max(targets, 1)))
    smooth = model.steps > 1 ? Real(model.smoothWeight / (rows * (steps - 1))) : 0
    balance = Real(model.balanceWeight * Double(model.experts) / (rows * steps))
    routerZ = Real(model.routerZWeight / (rows * steps))
  }
}
