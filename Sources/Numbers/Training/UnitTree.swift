// The units' tree: the fixed order in which gradients and losses are added, whichever worker computed them.
//
// Floating-point addition is not associative, so a sum has the same bits on every cluster only if it is formed in
// the same order. That order is one binary tree over the units of a batch. Leaf i is unit i; node (level, index)
// covers those of the units [index · 2^level, (index + 1) · 2^level) that exist, and its sum is left child + right
// child. With five units:
//
//           (3,0)
//          /     \
//      (2,0)     unit 4
//      /    \
//   (1,0)  (1,1)
//   u0 u1  u2 u3
//
// A worker adds the largest subtrees that lie completely inside its range of units, and sends those few sums to the
// worker that owns the numbers, which completes the tree.
//
// Rejected: adding in the order of units, in which the second worker could only begin after the first has finished.

/// A node of the tree.
package struct UnitNode: Hashable, Comparable, Sendable {
  package var level: Int
  package var index: Int

  package init(level: Int, index: Int) {
    self.level = level
    self.index = index
  }

  /// First unit that it covers. No two pending nodes have the same one.
  package var firstUnit: Int { index << level }
  package static func < (x: UnitNode, y: UnitNode) -> Bool { x.firstUnit < y.firstUnit }
}

/// The sums of a tree, as far as they can be formed from what has been inserted, in any order.
///
/// A leaf may be empty (nil), for an expert that no token of the unit reached. It adds nothing, which is not the
/// same as adding zeros: −0 + 0 is 0, and x + nothing keeps all bits of x.
package struct UnitTree<Value> {
  package private(set) var unitCount: Int
  /// Sums of subtrees whose sibling is missing, ordered by their first units.
  package private(set) var pending: [(node: UnitNode, value: Value?)] = []

  package init(unitCount: Int) {
    precondition(unitCount > 0)
    self.unitCount = unitCount
  }

  /// Empties the tree for another batch, in the memory that it has.
  package mutating func begin(unitCount: Int) {
    precondition(unitCount > 0)
    self.unitCount = unitCount
    pending.removeAll(keepingCapacity: true)
  }

  private var root: UnitNode { UnitNode(level: rootLevel, index: 0) }

  /// Level of the node that covers all units.
  package var rootLevel: Int { Int.bitWidth - (unitCount - 1).leadingZeroBitCount }

  /// Whether a node's sum may be inserted: it is a node of the tree, and none of its units was added before.
  package func accepts(_ node: UnitNode) -> Bool {
    guard (0...root.level).contains(node.level), (0..<1 << (root.level - node.level)).contains(node.index),
      node.firstUnit < unitCount
    else { return false }
    func units(_ node: UnitNode) -> Range<Int> { node.firstUnit..<node.firstUnit + 1 << node.level }
    return pending.allSatisfy { !units($0.node).overlaps(units(node)) }
  }

  /// Inserts a node's sum and adds siblings as far as possible. `add(left, right)` returns their sum and may reuse
  /// either.
  package mutating func insert(_ value: Value?, at node: UnitNode, add: (Value, Value) -> Value) {
    var node = node
    var value = value
    while node != root {
      let sibling = UnitNode(level: node.level, index: node.index ^ 1)
      if sibling.firstUnit < unitCount {
        guard let place = pending.firstIndex(where: { $0.node == sibling }) else { break }
        let other = pending.remove(at: place).value
        let (left, right) = node.index % 2 == 0 ? (value, other) : (other, value)
        if let left, let right { value = add(left, right) } else { value = left ?? right }
      }
      node = UnitNode(level: node.level + 1, index: node.index / 2)
    }
    let place = pending.firstIndex { $0.node.firstUnit >= node.firstUnit } ?? pending.count
    precondition(
      place == pending.count || pending[place].node.firstUnit != node.firstUnit, "units at \(node) were added twice")
    pending.insert((node, value), at: place)
  }

  /// Whether every unit was inserted.
  package var isComplete: Bool { pending.count == 1 && pending[0].node == root }

  /// The sum over all units; nil where every leaf is empty.
  package var total: Value? {
    precondition(isComplete, "the tree lacks units")
    return pending[0].value
  }
}
