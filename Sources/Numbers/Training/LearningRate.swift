// The learning rate schedule: a linear warm-up, followed by cosine decay, warm-up–stable–decay (a linear decay at
// the end), or a constant.

import Configuration
import Kernels

extension OptimizerConfiguration {
  /// The learning rate of step `step` (from 0) in a run of `steps` steps.
  package func learningRate(step: Int, of steps: Int) -> Double {
    if step < warmupSteps { return learningRate * Double(step + 1) / Double(warmupSteps) }
    switch schedule {
    case .constant: return learningRate
    case .cosine:
      let progress = min(1, Double(step - warmupSteps) / Double(max(1, steps - warmupSteps)))
      return learningRate
        * (finalFraction + (1 - finalFraction) * 0.5 * (1 + SameEverywhere.cosine(turns: progress / 2)))
    case .wsd:
      let falling = max(1, Double(steps) * decayFraction)
      let progress = max(0, min(1, (Double(step) - (Double(steps) - falling)) / falling))
      return learningRate * (1 - (1 - finalFraction) * progress)
    }
  }
}
