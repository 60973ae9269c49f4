// The units' tree, which determines the order of sums.

import Configuration
import Kernels
import Testing
import Training

@Suite struct UnitTreeTests {
  /// The sum as text, which shows its order.
  private func add(_ x: String, _ y: String) -> String { "(\(x)+\(y))" }

  @Test(arguments: [
    (1, "0"), (2, "(0+1)"), (3, "((0+1)+2)"), (4, "((0+1)+(2+3))"), (5, "(((0+1)+(2+3))+4)"),
    (7, "(((0+1)+(2+3))+((4+5)+6))"),
  ])
  func `the tree's shape depends only on the number of units`(units: Int, expected: String) {
    for seed in UInt64(0)..<20 {
      var tree = UnitTree<String>(unitCount: units)
      let random = Philox(seed: seed, stream: 0)
      let order = (0..<units).sorted { random.uniform(UInt64($0)) < random.uniform(UInt64($1)) }
      for unit in order { tree.insert("\(unit)", at: UnitNode(level: 0, index: unit), add: add) }
      #expect(tree.isComplete)
      #expect(tree.total == expected)
    }
  }

  @Test(arguments: 1...9, 1...5)
  func `subtree sums of any number of workers give the same total as one worker`(units: Int, workers: Int) {
    var alone = UnitTree<String>(unitCount: units)
    for unit in 0..<units { alone.insert("\(unit)", at: UnitNode(level: 0, index: unit), add: add) }
    var joined = UnitTree<String>(unitCount: units)
    for range in evenShares(of: units, among: workers).reversed() {
      var part = UnitTree<String>(unitCount: units)
      for unit in range { part.insert("\(unit)", at: UnitNode(level: 0, index: unit), add: add) }
      for (node, value) in part.pending { joined.insert(value, at: node, add: add) }
    }
    #expect(joined.isComplete && joined.total == alone.total)
  }

  @Test func `an empty unit adds nothing and does not change the order of the others`() {
    var tree = UnitTree<String>(unitCount: 5)
    for unit in [4, 0, 2, 3, 1] {
      tree.insert(unit == 2 || unit == 3 ? nil : "\(unit)", at: UnitNode(level: 0, index: unit), add: add)
    }
    #expect(tree.total == "((0+1)+4)")
    var nothing = UnitTree<String>(unitCount: 3)
    for unit in 0..<3 { nothing.insert(nil, at: UnitNode(level: 0, index: unit), add: add) }
    #expect(nothing.isComplete && nothing.total == nil)
  }

  @Test func `a node outside of the tree, or with units that were added, is not accepted`() {
    var tree = UnitTree<Int>(unitCount: 5)
    for (level, index) in [(0, 5), (1, 3), (2, 2), (4, 0), (64, 0), (0, -1), (-1, 0), (0, 1 << 40), (Int.max, 1)] {
      #expect(!tree.accepts(UnitNode(level: level, index: index)), "\(level) \(index)")
    }
    for (level, index) in [(1, 0), (0, 4), (0, 3), (0, 2)] {
      let node = UnitNode(level: level, index: index)
      #expect(tree.accepts(node))
      tree.insert(1, at: node) { $0 + $1 }
      #expect(!tree.accepts(node) && !tree.accepts(UnitNode(level: 0, index: node.firstUnit)))
      #expect(!tree.accepts(UnitNode(level: 3, index: 0)))
    }
    #expect(tree.isComplete && tree.total == 4)
  }
}
