// Whether the gradients of experts are computed when a subtree of units is complete, from rows that are kept until
// then, or in every call (`ExpertGradients`). The choice changes memory and speed and no bit.
//
// An expert of width f gets R rows of a unit on average. For its gradient 2d + 3f values of each are needed, and the
// gradient itself has 3·d·f. With d 1,024, f 2,048 and 256 rows, the rows are a third of the gradient.

import Configuration
import Model

package enum GradientDelay {
  /// Level of the subtrees of units whose rows are kept; nil where the gradients of each call are computed. Of all
  /// choices the one with the least memory; of equal ones the largest subtree.
  /// - Parameter lanes: units that a worker has under way at once.
  package static func level(
    _ configuration: RunConfiguration, _ layout: ParameterLayout, workers: Int, lanes: Int
  ) -> Int? {
    let share = rowShare(configuration, layout), units = configuration.training.unitCount
    guard share > 0 else { return nil }
    func blocks(_ delay: Int?) -> Double {
      GradientMemory(units: units, workers: workers, lanes: lanes, delay: delay, rowShare: share).blocks
    }
    var best: (level: Int?, blocks: Double) = (nil, blocks(nil))
    var level = 0
    // More rows than a few blocks are never worth it.
    while Double(1 << level) * share < mostBlocks {
      let blocks = blocks(level)
      if blocks <= best.blocks { best = (level, blocks) }
      guard 1 << level < units else { break }
      level += 1
    }
    return best.level
  }

  private static let mostBlocks = 4.0

  /// The rows of a unit that reach an expert on average, as a share of a block of gradients.
  package static func rowShare(_ configuration: RunConfiguration, _ layout: ParameterLayout) -> Double {
    guard layout.expertCount > 0 else { return 0 }
    let model = configuration.model
    let calls = model.steps * model.activeExperts
    let tokens = Double(configuration.training.unitSequences) * Double(configuration.data.sequenceLength)
    let rows = tokens * Double(calls) / Double(layout.experts.count)
    return rows * Double(2 * model.width + 3 * model.expertWidth) / Double(layout.expertCount)
  }
}
