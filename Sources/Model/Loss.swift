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

  package init() {}

  package static func + (x: LossSums, y: LossSums) -> LossSums {
    var sum = x
    sum.task += y.task
    sum.targets += y.targets
    sum.smooth += y.smooth
    sum.balance += y.balance
    sum.routerZ += y.routerZ
    sum.tokens += y.tokens
    return sum
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
