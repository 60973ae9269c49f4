// The gradients of a worker's experts, summed over the units of a batch in the units' tree.

import Kernels
import Model

/// Sums the gradients of the experts held here over the units of the batch, in the fixed tree.
package final class ExpertGradients {
  private let experts: LocalExperts
  private let blockCount: Int
  /// A tree for each expert held here.
  private var trees: [UnitTree<PooledBuffer>]
  /// The sum for each expert of the model; nil where another worker holds the expert or no token reached it.
  package private(set) var totals: [RealPointer?]

  package init(_ experts: LocalExperts, layout: ParameterLayout) {
    self.experts = experts
    blockCount = layout.expertCount
    trees = experts.owned.map { _ in UnitTree(unitCount: 1) }
    totals = Array(repeating: nil, count: layout.experts.count)
  }

  /// Begins a round of that many units.
  package func begin(unitCount: Int) {
    for place in trees.indices { trees[place].begin(unitCount: unitCount) }
  }

  /// A unit is complete, on whichever worker: its gradients of all experts here go into the trees.
  package func close(unit: Int) {
    for (place, expert) in experts.owned.enumerated() {
      let block = experts.takeGradient(unit: unit, expert: expert)
      trees[place].insert(block, at: UnitNode(level: 0, index: unit)) { left, right in
        left.add(right, count: blockCount)
        experts.recycle(right)
        return left
      }
    }
  }

  /// A unit of an audit is complete: its gradients are discarded.
  package func discard(unit: Int) {
    for expert in experts.owned {
      if let block = experts.takeGradient(unit: unit, expert: expert) { experts.recycle(block) }
    }
  }

  /// All units are complete: fills `totals`, whose blocks are valid until `recycle`.
  package func finish() {
    for (place, expert) in experts.owned.enumerated() { totals[expert] = trees[place].total?.pointer }
  }

  /// Returns the blocks of the sums to the pool.
  package func recycle() {
    for place in trees.indices {
      for (_, block) in trees[place].pending { if let block { experts.recycle(block) } }
      trees[place].begin(unitCount: 1)
    }
  }
}
