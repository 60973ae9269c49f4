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
  private let trees: [TeamTree<GradientSum>]
  private let places: [Int?]
  /// The sum for each expert of the model; nil where another worker owns the expert or no token reached it.
  package private(set) var totals: [RealPointer?]
  /// The right-hand sides of postponed sums, whose memory is free when these are formed.
  private var added: [GradientSum] = []

  package init(_ experts: LocalExperts, _ plan: WorkPlan, layout: ParameterLayout) {
    self.experts = experts
    self.plan = plan
    blockCount = layout.expertCount
    trees = experts.held.map { _ in TeamTree() }
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
  package func close(unit: Int, _ end: UnitEnd) {
    let worker = plan.worker(ofUnit: unit)
    for (place, expert) in experts.held.enumerated()
    where plan.computer(of: expert, forUnitsOf: worker) == plan.index {
      let block = experts.takeGradient(unit: unit, expert: expert)
      insert(block.map { GradientSum($0) }, at: UnitNode(level: 0, index: unit), place, end)
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
  package func sums(of expert: Int) -> [(node: UnitNode, value: GradientSum?)] { trees[places[expert]!].tree.pending }

  /// Adds a sum that a worker with a copy has sent, (`expertCount`); nil where no token reached the expert. Its memory
  /// is used for further sums. Returns false where this worker does not own the expert or does not expect the sum,
  /// and then adds nothing.
  package func take(_ sum: GradientSum?, of expert: Int, at node: UnitNode) -> Bool {
    guard places.indices.contains(expert), plan.expertOwners[expert] == plan.index, let place = places[expert],
      trees[place].tree.accepts(node)
    else { return false }
    insert(sum, at: node, place, UnitEnd(team: experts.team))
    return true
  }

  private func insert(_ sum: GradientSum?, at node: UnitNode, _ place: Int, _ end: UnitEnd) {
    trees[place].insert(sum, at: node, postpones: end.postpones) {
      GradientSum.add($0, $1, count: blockCount, end.team) { experts.recycle($0) }
    }
  }

  /// Makes memory in advance for so many postponed sums of each expert.
  func reserve(_ count: Int) {
    experts.reserveGradients(count * experts.held.count)
    added.reserveCapacity(count * experts.held.count)
  }

  /// Schedules the sums of all siblings that wait. Returns whether there were any; `putBack` ends it.
  func takePairs(_ sums: PostponedSums) -> Bool {
    var found = false
    for tree in trees {
      let any = tree.takePairs { left, right in
        sums.add(right.values, to: left.values, count: blockCount)
        added.append(right)
        return left
      }
      found = found || any
    }
    return found
  }

  func putBack() {
    for sum in added { sum.recycle { experts.recycle($0) } }
    added.removeAll(keepingCapacity: true)
    for tree in trees { tree.putBack() }
  }

  /// Whether the sums of all experts that this worker owns are complete.
  package var areComplete: Bool {
    experts.held.indices.allSatisfy {
      plan.expertOwners[experts.held[$0]] != plan.index || trees[$0].tree.isComplete
    }
  }

  /// All units are complete: fills `totals`, whose blocks are valid until `recycle`.
  package func finish() {
    for (place, expert) in experts.held.enumerated() where plan.expertOwners[expert] == plan.index {
      totals[expert] = trees[place].tree.total?.values
    }
  }

  /// Returns the blocks of the sums to the pool.
  package func recycle() {
    for place in trees.indices {
      for (_, block) in trees[place].tree.pending { block?.recycle { experts.recycle($0) } }
      trees[place].begin(unitCount: 1)
    }
  }
}
