// A model of the time that a step takes a worker: the arithmetic of its units and of its experts' rows. It is accurate
// enough to decide whether a move of experts is worthwhile; the ledger compares the prediction with the measured steps
// afterwards.

import Configuration

package struct StepCost {
  /// Multiply-adds of an expert for one row, and of everything else for one token of a unit, per recurrence step.
  let expertRow: Double
  let token: Double

  package init(_ model: ModelConfiguration) {
    let d = Double(model.width), f = Double(model.expertWidth)
    expertRow = 3 * d * f
    // Queries, keys, values and outputs, the dense network, the router, and attention over its neighbours.
    let neighbours = Double(
      min(model.window + (model.graphDegree ?? model.segment), model.segment + model.visibleCache))
    token =
      4 * d * d + 3 * d * Double(model.denseWidth) + d * Double(model.experts) + 2 * d
      * (neighbours + Double(model.slots))
  }

  /// Seconds of a step under another placement, from those under the present one: the slowest worker decides.
  package func predict(
    seconds: Double, tokens: [Double], loads: [Double], owners: [Int], newOwners: [Int], recurrence: Int
  ) -> Double {
    func slowest(_ owners: [Int]) -> Double {
      var work = tokens.map { $0 * Double(recurrence) * token }
      for (expert, owner) in owners.enumerated() { work[owner] += loads[expert] * expertRow }
      return work.max() ?? 0
    }
    let before = slowest(owners)
    return before > 0 ? seconds * slowest(newOwners) / before : seconds
  }
}
