// The gradients of a worker's experts, summed over the units of a batch in the units' tree.
//
// An expert that this worker owns gets the gradient of every unit: of a unit whose rows were computed here when the
// unit is complete, and of the units of a worker with a copy as sums of subtrees, which that worker sends. An expert
// of which this worker has a copy gets the gradients of this worker's units alone; their sums go to the owner. The
// tree adds in one fixed order, so the total has the same bits in both cases.

import Kernels
import Model

package final class ExpertGradients {
  private let experts: LocalExperts
  private let plan: WorkPlan
  private let blockCount: Int
  /// A tree for each expert held here, and its place in the list by the expert's number.
  private var trees: [UnitTree<GradientSum>]
  private let places: [Int?]
  /// The sum for each expert of the model; nil where another worker owns the expert or no token reached it.
  package private(set) var totals: [RealPointer?]

  package init(_ experts: LocalExperts, _ plan: WorkPlan, layout: ParameterLayout) {
    self.experts = experts
    self.plan = plan
    blockCount = layout.expertCount
    trees = experts.held.map { _ in UnitTree(unitCount: 1) }
    var places = [Int?](repeating: nil, count: layout.experts.count)
    for (place, expert) in experts.held.enumerated() { places[expert] = place }
    self.places = places
    totals = Array(repeating: nil, count: layout.experts.count)
  }

  /// Begins a round of that many units.
  package func begin(unitCount: Int) {
    for place in trees.indices { trees[place].begin(unitCount: unitCount) }
  }

  /// A unit of a training step is complete, on whichever worker: the gradients of all experts that computed its rows
  /// here go into the trees.
  package func close(unit: Int) {
    let worker = plan.worker(ofUnit: unit)
    for (place, expert) in experts.held.enumerated()
    where plan.computer(of: expert, forUnitsOf: worker) == plan.index {
      let block = experts.takeGradient(unit: unit, expert: expert)
      insert(block.map { GradientSum($0) }, at: UnitNode(level: 0, index: unit), place)
    }
  }

  /// A unit of an audit is complete: its gradients are discarded.
  package func discard(unit: Int) {
    for expert in experts.held {
      if let block = experts.takeGradient(unit: unit, expert: expert) { experts.recycle(block) }
    }
  }

  /// The sums of this worker's units for an expert of which it has a copy; a sum is nil where no token reached the
  /// expert.
  package func sums(of expert: Int) -> [(node: UnitNode, value: GradientSum?)] { trees[places[expert]!].pending }

  /// Adds a sum that a worker with a copy has sent, (`expertCount`); nil where no token reached the expert. Its memory
  /// is used for further sums. Returns false where this worker does not own the expert or does not expect the sum,
  /// and then adds nothing.
  package func take(_ sum: GradientSum?, of expert: Int, at node: UnitNode) -> Bool {
    guard places.indices.contains(expert), plan.expertOwners[expert] == plan.index, let place = places[expert],
      trees[place].accepts(node)
    else { return false }
    insert(sum, at: node, place)
    return true
  }

  private func insert(_ sum: GradientSum?, at node: UnitNode, _ place: Int) {
    trees[place].insert(sum, at: node) {
      GradientSum.add($0, $1, count: blockCount, experts.team) { experts.recycle($0) }
    }
  }

  /// Whether the sums of all experts that this worker owns are complete.
  package var areComplete: Bool {
    experts.held.indices.allSatisfy {
      plan.expertOwners[experts.held[$0]] != plan.index || trees[$0].isComplete
    }
  }

  /// All units are complete: fills `totals`, whose blocks are valid until `recycle`.
  package func finish() {
    for (place, expert) in experts.held.enumerated() where plan.expertOwners[expert] == plan.index {
      totals[expert] = trees[place].total?.values
    }
  }

  /// Returns the blocks of the sums to the pool.
  package func recycle() {
    for place in trees.indices {
      for (_, block) in trees[place].pending { block?.recycle { experts.recycle($0) } }
      trees[place].begin(unitCount: 1)
    }
  }
}
