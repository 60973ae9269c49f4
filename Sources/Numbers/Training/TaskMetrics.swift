// Computes the measures of a task from sums of losses and scores, in the terms of its field (docs/tasks.md).

import Data
import Foundation
import Model

package enum TaskMetrics {
  /// The measures of a task, in the order in which they are shown.
  package static func of(_ task: TaskKind, _ sums: LossSums) -> [(name: String, value: Double)] {
    let scores = sums.scores
    func share(_ part: Double, _ all: Int) -> Double { all > 0 ? part / Double(all) : 0 }
    let accuracy = (name: "accuracy", value: share(Double(scores.right), scores.answers))
    switch task {
    case .lm:
      let loss = share(sums.task, sums.targets)
      var metrics = [(name: "perplexity", value: exp(loss))]
      if scores.bytes > 0 { metrics.append((name: "bits_per_byte", value: sums.task / log(2) / Double(scores.bytes))) }
      return metrics
    case .classify, .multipleChoice, .tables, .graphs: return [accuracy]
    case .span:
      return [
        (name: "exact_match", value: share(Double(scores.right), scores.answers)),
        (name: "f1", value: share(scores.overlap, scores.answers)),
      ]
    case .tag:
      guard scores.expected > 0 else { return [accuracy] }
      return [accuracy, (name: "f1", value: share(2 * Double(scores.matched), scores.found + scores.expected))]
    }
  }
}
