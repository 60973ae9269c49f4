// Who does what in one generation of a run, as the training step needs to know it. Nothing here changes a number.

import Configuration
import Model

package struct WorkPlan: Equatable, Sendable {
  /// This worker's place among the workers.
  package let index: Int
  package let workerCount: Int
  /// Units of each worker, contiguous.
  package let units: [Range<Int>]
  /// Worker of each expert.
  package let expertOwners: [Int]
  /// Part of the dense parameters that each worker keeps the moments of and updates: whole tensors, contiguous.
  package let denseRanges: [Range<Int>]

  package init(index: Int, units: [Range<Int>], expertOwners: [Int], layout: ParameterLayout) {
    self.index = index
    self.units = units
    self.expertOwners = expertOwners
    workerCount = units.count
    denseRanges = WorkPlan.split(layout, workers: units.count)
  }

  /// Everything on one worker.
  package static func alone(_ configuration: RunConfiguration, layout: ParameterLayout) -> WorkPlan {
    WorkPlan(
      index: 0, units: [0..<configuration.training.unitCount],
      expertOwners: Array(repeating: 0, count: configuration.model.expertCount), layout: layout)
  }

  package var unitCount: Int { units.last?.upperBound ?? 0 }
  package var myUnits: Range<Int> { units[index] }
  package var myExperts: [Int] { expertOwners.indices.filter { expertOwners[$0] == index } }
  package var myDense: Range<Int> { denseRanges[index] }

  /// Cuts the list of tensors where each worker's share of the values is nearest to even.
  private static func split(_ layout: ParameterLayout, workers: Int) -> [Range<Int>] {
    let borders = [0] + layout.dense.map(\.range.upperBound)
    var cuts = [0]
    for worker in 1..<max(1, workers) {
      let ideal = layout.denseCount * worker / workers
      let nearest = borders.min { abs($0 - ideal) < abs($1 - ideal) } ?? 0
      cuts.append(max(nearest, cuts.last!))
    }
    cuts.append(layout.denseCount)
    return (0..<workers).map { cuts[$0]..<cuts[$0 + 1] }
  }
}
