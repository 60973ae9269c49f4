// The gradients of a worker's experts, summed over the units of a batch in the units' tree.
//
// An expert that this worker owns gets the gradient of every unit: of a unit whose rows were computed here, and of the
// units of a worker with a copy as sums of subtrees, which that worker sends. An expert of which this worker has a
// copy gets the gradients of this worker's units alone; their sums go to the owner. The tree adds in one fixed order,
// so the total has the same bits in both cases.
//
// A block of gradients is added and sent in parts (`ParameterLayout.expertParts`), each of which has a tree of its own,
// so no message and no sum on its way needs more memory than a part.
//
// Where few rows of a unit reach an expert, they are smaller than the block of gradients that follows from them. Then
// the experts keep the rows (`LocalExperts.delays`), and the gradient of a part is computed for a whole subtree of
// units at once, when the last of them is complete (`GradientDelay`). Every product and sum is made in the same order
// as without the delay. So the number of blocks in memory does not grow with the number of workers whose units are
// under way, and a product reads and writes a gradient in the cache.

import Configuration
import Kernels
import Model

package final class ExpertGradients {
  private let experts: LocalExperts
  private let plan: WorkPlan
  /// The parts of a block: ranges of its values.
  package let parts: [Range<Int>]
  /// A tree for each part of each expert held here: those of the expert at `place` begin at `place` times the number
  /// of parts.
  private var trees: [UnitTree<GradientSum>]
  /// The place of an expert in the list of those held here, by its number.
  private let places: [Int?]
  private let isOwned: [Bool]
  /// Whether the rows of a worker's units are computed here, by place and worker.
  private let computes: [[Bool]]
  /// The sum of each part of each expert of the model, by expert and part; nil where another worker owns the expert or
  /// no token reached it.
  package private(set) var totals: [RealPointer?]

  /// Level of the subtrees whose gradients are computed at once; nil where those of each call are.
  private let delay: Int?
  /// By unit: its worker, whether it is complete, and the number of experts that still need its rows.
  private var workers: [Int] = []
  private var isClosed: [Bool] = []
  private var needed: [Int] = []
  /// The parts to compute together; the lists are reused.
  private var due: [Due] = []
  private var finished: [(place: Int, node: UnitNode)] = []

  /// A part of an expert's gradient over the units of a node, of which at least one has rows.
  private struct Due {
    var place: Int
    var node: UnitNode
    var part: Int
    /// The whole rows of the weights that the part is in, and memory for them.
    var range: Range<Int>
    var buffer: PooledBuffer
  }

  /// - Parameter delay: level of the subtrees whose gradients are computed at once; nil: those of each call are.
  package init(_ experts: LocalExperts, _ plan: WorkPlan, layout: ParameterLayout, delay: Int? = nil) {
    self.experts = experts
    self.plan = plan
    self.delay = delay
    let parts = layout.expertParts
    self.parts = parts
    trees = (0..<experts.held.count * parts.count).map { _ in UnitTree(unitCount: 1) }
    var places = [Int?](repeating: nil, count: layout.experts.count)
    for (place, expert) in experts.held.enumerated() { places[expert] = place }
    self.places = places
    isOwned = experts.held.map { plan.expertOwners[$0] == plan.index }
    computes = experts.held.map { expert in
      (0..<plan.workerCount).map { plan.computer(of: expert, forUnitsOf: $0) == plan.index }
    }
    totals = Array(repeating: nil, count: layout.experts.count * parts.count)
    if let delay { experts.delay(levels: delay) }
  }

  /// Begins a round of that many units.
  package func begin(unitCount: Int) {
    for index in trees.indices { trees[index].begin(unitCount: unitCount) }
    if isClosed.count != unitCount {
      workers = (0..<unitCount).map { unit in plan.units.firstIndex { $0.contains(unit) } ?? plan.index }
      isClosed = Array(repeating: false, count: unitCount)
      needed = Array(repeating: 0, count: unitCount)
    }
    for unit in isClosed.indices { isClosed[unit] = false }
  }

  /// A unit of a training step is complete, on whichever worker: the gradients of all experts that computed its rows
  /// here go into the trees, now or when the units of its subtree are complete.
  package func close(unit: Int) {
    let worker = workers[unit]
    guard let delay else {
      for (place, expert) in experts.held.enumerated() where computes[place][worker] {
        let block = experts.takeGradient(unit: unit, expert: expert)
        block?.shares = parts.count
        for (part, range) in parts.enumerated() {
          insert(
            block.map { GradientSum($0, at: range.lowerBound) }, at: UnitNode(level: 0, index: unit), place, part)
        }
      }
      return
    }
    isClosed[unit] = true
    needed[unit] = 0
    for place in experts.held.indices where computes[place][worker] { needed[unit] += 1 }
    guard needed[unit] > 0 else { return experts.release(unit: unit) }
    for place in experts.held.indices where computes[place][worker] {
      let node = subtree(of: unit, place, level: delay)
      guard units(of: node).allSatisfy({ isClosed[$0] }) else { continue }
      prepare(place, node)
      // As many as keep the threads busy, and not more, because each takes memory.
      if due.count >= 4 * experts.team.laneCount { compute() }
    }
    compute()
  }

  /// The largest subtree with the unit, up to a level, of whose units this worker computes the expert's rows.
  private func subtree(of unit: Int, _ place: Int, level: Int) -> UnitNode {
    var node = UnitNode(level: 0, index: unit)
    while node.level < level, units(of: node).count < isClosed.count {
      let parent = UnitNode(level: node.level + 1, index: node.index / 2)
      guard units(of: parent).allSatisfy({ computes[place][workers[$0]] }) else { break }
      node = parent
    }
    return node
  }

  private func units(of node: UnitNode) -> Range<Int> {
    node.firstUnit..<min(isClosed.count, (node.index + 1) << node.level)
  }

  /// All units of the node are complete for the expert: its parts are computed by the next `compute`.
  private func prepare(_ place: Int, _ node: UnitNode) {
    let expert = experts.held[place]
    if units(of: node).contains(where: { experts.hasRows(unit: $0, expert: expert) }) {
      for (part, range) in parts.enumerated() {
        let rows = experts.wholeRows(range)
        due.append(Due(place: place, node: node, part: part, range: rows, buffer: experts.take(rows.count)))
      }
    } else {
      for part in parts.indices { insert(nil, at: node, place, part) }
    }
    finished.append((place, node))
  }

  private func compute() {
    experts.team.run(due.count) { task, lane in
      let one = due[task]
      experts.addUp(
        expert: experts.held[one.place], level: one.node.level, index: one.node.index, unitCount: isClosed.count,
        one.range, into: one.buffer.pointer, lane)
    }
    for one in due {
      one.buffer.shares = 1
      insert(
        GradientSum(one.buffer, at: parts[one.part].lowerBound - one.range.lowerBound), at: one.node, one.place,
        one.part)
    }
    due.removeAll(keepingCapacity: true)
    for (_, node) in finished {
      for unit in units(of: node) {
        needed[unit] -= 1
        if needed[unit] == 0 { experts.release(unit: unit) }
      }
    }
    finished.removeAll(keepingCapacity: true)
  }

  /// A unit of an audit is complete: its gradients are discarded.
  package func discard(unit: Int) {
    for expert in experts.held {
      if let block = experts.takeGradient(unit: unit, expert: expert) { experts.recycle(block) }
    }
    experts.release(unit: unit)
  }

  /// The sums of this worker's units for a part of an expert of which it has a copy; a sum is nil where no token
  /// reached the expert, in all parts alike.
  package func sums(of expert: Int, part: Int) -> [(node: UnitNode, value: GradientSum?)] {
    trees[places[expert]! * parts.count + part].pending
  }

  /// Adds a sum of a part that a worker with a copy has sent; nil where no token reached the expert. Its memory is
  /// used for further sums. Returns false where this worker does not own the expert or does not expect the sum, and
  /// then adds nothing.
  package func take(_ sum: GradientSum?, of expert: Int, part: Int, at node: UnitNode) -> Bool {
    guard places.indices.contains(expert), let place = places[expert], isOwned[place], parts.indices.contains(part),
      trees[place * parts.count + part].accepts(node)
    else { return false }
    insert(sum, at: node, place, part)
    return true
  }

  private func insert(_ sum: GradientSum?, at node: UnitNode, _ place: Int, _ part: Int) {
    trees[place * parts.count + part].insert(sum, at: node) {
      GradientSum.add($0, $1, count: parts[part].count, experts.team) { experts.recycle($0) }
    }
  }

  /// Whether the sums of all experts that this worker owns are complete.
  package var areComplete: Bool {
    trees.indices.allSatisfy { !isOwned[$0 / parts.count] || trees[$0].isComplete }
  }

  /// All units are complete: fills `totals`, whose values are valid until `recycle`.
  package func finish() {
    for (place, expert) in experts.held.enumerated() where isOwned[place] {
      for part in parts.indices {
        totals[expert * parts.count + part] = trees[place * parts.count + part].total?.values
      }
    }
  }

  /// Returns the memory of the sums to the pool.
  package func recycle() {
    for index in trees.indices {
      for (_, sum) in trees[index].pending { sum?.recycle { experts.recycle($0) } }
      trees[index].begin(unitCount: 1)
    }
  }
}

extension ParameterLayout {
  /// The parts in which an expert's block is added and sent. A part has at most the values of a message. Parts of a
  /// large block are within one tensor and have whole chunks of the optimizer, so that a chunk is in one part.
  package var expertParts: [Range<Int>] {
    let size = ShardLayout.messageSize
    guard expertCount > size else { return expertCount > 0 ? [0..<expertCount] : [] }
    return experts[0].flatMap { entry in
      stride(from: entry.offset, to: entry.range.upperBound, by: size).map {
        $0..<min(entry.range.upperBound, $0 + size)
      }
    }
  }
}
