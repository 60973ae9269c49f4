// How many blocks of gradients a worker holds at most, counted by going through a step: the units under way, those
// whose rows are kept (`GradientDelay`), and the sums that wait for their siblings in the units' tree.

package struct GradientMemory: Equatable, Sendable {
  /// The largest number of blocks at once. Rows that are kept count as their share of a block.
  package let blocks: Double

  /// - Parameters:
  ///   - units: those whose gradients come here; `workers` workers compute them side by side, in equal shares.
  ///   - lanes: units that a worker has under way at once.
  ///   - delay: level of the subtrees whose gradients are computed at once; nil: every unit under way has a block.
  ///   - rowShare: rows of a unit, as a share of a block.
  package init(units: Int, workers: Int, lanes: Int, delay: Int?, rowShare: Double) {
    // A step of more units than this has no more blocks than the shares of one with as many levels.
    let units = min(max(1, units), 1 << 12)
    let workers = min(max(1, workers), units)
    let share = delay == nil ? 1 : rowShare
    let size = 1 << (delay ?? 0)
    var tree = UnitTree<Int>(unitCount: units)
    var isBegun = Array(repeating: false, count: units)
    var completeUnits = Array(repeating: 0, count: (units + size - 1) / size)
    // Units that take memory of their own: under way, or complete and not in the tree.
    var held = 0
    var most = 0.0
    func note() { most = max(most, Double(held) * share + Double(tree.pending.count)) }
    let ranges = (0..<workers).map { units * $0 / workers..<units * ($0 + 1) / workers }
    for round in 0..<(ranges.map(\.count).max() ?? 0) {
      for range in ranges {
        for unit in range.dropFirst(round).prefix(lanes) where !isBegun[unit] {
          isBegun[unit] = true
          held += 1
        }
      }
      note()
      for range in ranges where round < range.count {
        let subtree = (range.lowerBound + round) / size, first = subtree * size
        let count = min(units, first + size) - first
        completeUnits[subtree] += 1
        guard completeUnits[subtree] == count else { continue }
        // A block is made beside the rows, or the rows are added to the sibling's part by part.
        let before = tree.pending.count
        tree.insert(1, at: UnitNode(level: min(delay ?? 0, tree.rootLevel), index: subtree), add: +)
        if tree.pending.count > before, delay != nil { note() }
        held -= count
      }
      note()
    }
    blocks = most
  }
}
