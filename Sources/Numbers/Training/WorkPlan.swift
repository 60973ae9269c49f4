// The division of work in one generation of a run: which worker computes which units, holds which experts, and
// updates which dense parameters. The training step needs it; the results do not depend on it.

import Configuration
import Model

package struct WorkPlan: Equatable, Sendable {
  /// This worker's roster index.
  package let index: Int
  package let workerCount: Int
  /// Units of each worker, contiguous.
  package let units: [Range<Int>]
  /// The worker that holds each expert.
  package let expertOwners: [Int]
  /// The part of the dense parameters that each worker updates and has the moments of: whole tensors, contiguous.
  package let denseRanges: [Range<Int>]

  package init(index: Int, units: [Range<Int>], expertOwners: [Int], layout: ParameterLayout) {
    self.index = index
    self.units = units
    self.expertOwners = expertOwners
    workerCount = units.count
    denseRanges = WorkPlan.split(layout, workers: units.count)
  }

  /// The plan of a single worker that does everything.
  package static func alone(_ configuration: RunConfiguration, layout: ParameterLayout) -> WorkPlan {
    WorkPlan(
      index: 0, units: [0..<configuration.training.unitCount],
      expertOwners: Array(repeating: 0, count: configuration.model.expertCount), layout: layout)
  }

  /// The roster index of the worker that holds each expert, from the experts of each worker.
  package static func owners(of held: [[Int]], experts: Int) -> [Int] {
    var owners = Array(repeating: 0, count: experts)
    for (index, mine) in held.enumerated() { for expert in mine { owners[expert] = index } }
    return owners
  }

  package var unitCount: Int { units.last?.upperBound ?? 0 }
  package var myUnits: Range<Int> { units[index] }
  package var myExperts: [Int] { expertOwners.indices.filter { expertOwners[$0] == index } }
  package var myDense: Range<Int> { denseRanges[index] }

  /// Divides the list of tensors at those borders that are nearest to equal shares of the values.
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
