// One fixed binary tree over the units of a batch: the order in which gradients are added, whoever computed them. Leaf i is
// unit i; node (level, index) covers the units [index · 2^level, (index + 1) · 2^level) that exist. A worker adds up the
// subtrees that lie whole in its range and hands those sums to the owner of the numbers, who finishes the tree.
//
// Rejected: adding in unit order, which would make the second worker wait for the first.

/// A node of the tree.
package struct UnitNode: Hashable, Comparable, Sendable {
  package var level: Int
  package var index: Int

  package init(level: Int, index: Int) {
    self.level = level
    self.index = index
  }

  /// First unit it covers; no two pending nodes share one.
  package var firstUnit: Int { index << level }
  package static func < (x: UnitNode, y: UnitNode) -> Bool { x.firstUnit < y.firstUnit }
}

/// Sums in the tree, as far as they can be formed from what has arrived, in whatever order it arrives. A leaf may be
/// empty (nil): an expert that no token of the unit reached adds nothing, which is not the same bits as adding zeros.
package struct UnitTree<Value> {
  package private(set) var unitCount: Int
  /// The subtree sums that could not be joined further yet, first units first.
  package private(set) var pending: [(node: UnitNode, value: Value?)] = []

  package init(unitCount: Int) {
    precondition(unitCount > 0)
    self.unitCount = unitCount
  }

  /// Starts over, in the memory it has.
  package mutating func begin(unitCount: Int) {
    precondition(unitCount > 0)
    self.unitCount = unitCount
    pending.removeAll(keepingCapacity: true)
  }

  private var root: UnitNode {
    UnitNode(level: Int.bitWidth - (unitCount - 1).leadingZeroBitCount, index: 0)
  }

  /// Whether a node's sum may be inserted: it is one of the tree, and covers no unit that was added already.
  package func accepts(_ node: UnitNode) -> Bool {
    guard (0...root.level).contains(node.level), (0..<1 << (root.level - node.level)).contains(node.index),
      node.firstUnit < unitCount
    else { return false }
    func units(_ node: UnitNode) -> Range<Int> { node.firstUnit..<node.firstUnit + 1 << node.level }
    return pending.allSatisfy { !units($0.node).overlaps(units(node)) }
  }

  /// Adds a node's sum. `add(left, right)` returns their sum; it may reuse either.
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

  /// Whether every unit has arrived.
  package var isComplete: Bool { pending.count == 1 && pending[0].node == root }

  /// The sum over all units; nil where every leaf was empty.
  package var total: Value? {
    precondition(isComplete, "the tree still waits for units")
    return pending[0].value
  }
}
