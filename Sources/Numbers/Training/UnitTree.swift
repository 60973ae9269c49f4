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

  var sibling: UnitNode { UnitNode(level: level, index: index ^ 1) }
  var parent: UnitNode { UnitNode(level: level + 1, index: index / 2) }
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
    // How many sums wait at the same time depends on chance where several teams compute.
    pending.reserveCapacity(min(unitCount, 64))
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
    var (value, node) = (value, node)
    while let pair = meet(value, at: node) { (value, node) = (pair.sum(add), pair.parent) }
  }

  /// Two siblings whose sum belongs at their parent.
  package struct Pair {
    package let left, right: Value?
    package let parent: UnitNode

    /// left + right, or the one that is there.
    package func sum(_ add: (Value, Value) -> Value) -> Value? {
      if let left, let right { add(left, right) } else { left ?? right }
    }
  }

  /// Inserts a node's sum if its sibling is missing, and returns nil. Otherwise removes the sibling and returns the
  /// two: the caller adds them, which may take long and needs no access to the tree, and inserts their sum at the
  /// parent.
  package mutating func meet(_ value: Value?, at node: UnitNode) -> Pair? {
    let node = grown(node)
    let sibling = node.sibling
    guard node != root, let place = pending.firstIndex(where: { $0.node == sibling }) else {
      put(value, at: node)
      return nil
    }
    let other = pending.remove(at: place).value
    let isLeft = node.index % 2 == 0
    return Pair(left: isLeft ? value : other, right: isLeft ? other : value, parent: node.parent)
  }

  /// Inserts a node's sum and leaves all additions to later calls of `nextPair`.
  package mutating func postpone(_ value: Value?, at node: UnitNode) { put(value, at: grown(node)) }

  /// Removes two siblings that both wait, and returns them; nil where no siblings wait. Their sum belongs at the
  /// parent.
  package mutating func nextPair() -> Pair? {
    guard
      let place = pending.indices.dropLast().first(where: {
        pending[$0].node != root && pending[$0].node.sibling == pending[$0 + 1].node
      })
    else { return nil }
    let (left, right) = (pending.remove(at: place), pending.remove(at: place))
    return Pair(left: left.value, right: right.value, parent: left.node.parent)
  }

  /// The node, or the largest one above it that covers no other units that exist.
  private func grown(_ node: UnitNode) -> UnitNode {
    var node = node
    while node != root, node.sibling.firstUnit >= unitCount { node = node.parent }
    return node
  }

  private mutating func put(_ value: Value?, at node: UnitNode) {
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
