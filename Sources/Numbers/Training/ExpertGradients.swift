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
  private let trees: [TeamTree<GradientSum>]
  /// The place of an expert in the list of those held here, by its number.
  private let places: [Int?]
  private let isOwned: [Bool]
  /// Whether the rows of a worker's units are computed here, by place and worker.
  private let computes: [[Bool]]
  /// The sum of each part of each expert of the model, by expert and part; nil where another worker owns the expert or
  /// no token reached it.
  package private(set) var totals: [RealPointer?]

  /// The right-hand sides of postponed sums, whose memory is free when these are formed.
  private var added: [GradientSum] = []

  /// Level of the subtrees whose gradients are computed at once; nil where those of each call are.
  private let delay: Int?
  /// Held while what follows is used, up to `works`.
  private let lock = Lock()
  /// By unit: its worker, whether it is complete, and the number of experts that still need its rows.
  private var workers: [Int] = []
  private var isClosed: [Bool] = []
  private var needed: [Int] = []
  /// Subtrees that are complete and left to all threads.
  private var postponed: [Subtree] = []
  /// What each team computes with, and what all threads do.
  private let works: [Work]
  private let wholeWork: Work

  /// A subtree of units that is complete for an expert held here.
  private struct Subtree {
    var place: Int
    var node: UnitNode
  }

  /// The threads of a team, and its lists, which are reused.
  private final class Work {
    let experts: LocalExperts
    var complete: [Subtree] = []
    /// The parts to compute together, and the subtrees that they belong to.
    var due: [Due] = []
    var computed: [Subtree] = []

    init(_ experts: LocalExperts) { self.experts = experts }
  }

  /// A part of an expert's gradient over the units of a node, of which at least one has rows.
  private struct Due {
    var place: Int
    var node: UnitNode
    var part: Int
    /// The whole rows of the weights that the part is in, and memory for them.
    var range: Range<Int>
    var buffer: PooledBuffer
  }

  /// - Parameters:
  ///   - delay: level of the subtrees whose gradients are computed at once; nil: those of each call are.
  ///   - teams: the same experts for each team of the worker.
  package init(
    _ experts: LocalExperts, _ plan: WorkPlan, layout: ParameterLayout, delay: Int? = nil, teams: [LocalExperts] = []
  ) {
    self.experts = experts
    self.plan = plan
    self.delay = delay
    let parts = layout.expertParts
    self.parts = parts
    trees = (0..<experts.held.count * parts.count).map { _ in TeamTree() }
    var places = [Int?](repeating: nil, count: layout.experts.count)
    for (place, expert) in experts.held.enumerated() { places[expert] = place }
    self.places = places
    isOwned = experts.held.map { plan.expertOwners[$0] == plan.index }
    computes = experts.held.map { expert in
      (0..<plan.workerCount).map { plan.computer(of: expert, forUnitsOf: $0) == plan.index }
    }
    totals = Array(repeating: nil, count: layout.experts.count * parts.count)
    wholeWork = Work(experts)
    works = teams.filter { $0 !== experts }.map { Work($0) }
    if let delay { for work in works + [wholeWork] { work.experts.delay(levels: delay) } }
  }

  private func work(_ team: Team) -> Work { works.first { $0.experts.team === team } ?? wholeWork }

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
  package func close(unit: Int, _ end: UnitEnd) {
    let worker = workers[unit]
    guard let delay else {
      for (place, expert) in experts.held.enumerated() where computes[place][worker] {
        let block = experts.takeGradient(unit: unit, expert: expert)
        block?.share(parts.count)
        for (part, range) in parts.enumerated() {
          insert(
            block.map { GradientSum($0, at: range.lowerBound) }, at: UnitNode(level: 0, index: unit), place, part, end)
        }
      }
      return
    }
    let work = work(end.team)
    work.complete.removeAll(keepingCapacity: true)
    let isWithoutRows = lock.hold {
      isClosed[unit] = true
      needed[unit] = 0
      for place in experts.held.indices where computes[place][worker] {
        needed[unit] += 1
        let node = subtree(of: unit, place, level: delay)
        guard units(of: node).allSatisfy({ isClosed[$0] }) else { continue }
        if end.postpones {
          postponed.append(Subtree(place: place, node: node))
        } else {
          work.complete.append(Subtree(place: place, node: node))
        }
      }
      return needed[unit] == 0
    }
    if isWithoutRows { experts.release(unit: unit) }
    compute(work.complete, work, end)
  }

  /// Computes the subtrees that teams have left to all threads, when no team computes any more.
  func computePostponed() {
    compute(postponed, wholeWork, UnitEnd(team: experts.team))
    postponed.removeAll(keepingCapacity: true)
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

  private func compute(_ complete: [Subtree], _ work: Work, _ end: UnitEnd) {
    for subtree in complete {
      let expert = experts.held[subtree.place]
      work.computed.append(subtree)
      if units(of: subtree.node).contains(where: { experts.hasRows(unit: $0, expert: expert) }) {
        for (part, range) in parts.enumerated() {
          let rows = experts.wholeRows(range)
          work.due.append(
            Due(place: subtree.place, node: subtree.node, part: part, range: rows, buffer: experts.take(rows.count)))
        }
      } else {
        for part in parts.indices { insert(nil, at: subtree.node, subtree.place, part, end) }
      }
      // As many as keep the threads busy, and not more, because each takes memory.
      if work.due.count >= 4 * work.experts.team.laneCount { computeDue(work, end) }
    }
    computeDue(work, end)
  }

  private func computeDue(_ work: Work, _ end: UnitEnd) {
    work.experts.team.run(work.due.count) { task, lane in
      let one = work.due[task]
      work.experts.addUp(
        expert: experts.held[one.place], level: one.node.level, index: one.node.index, unitCount: isClosed.count,
        range: one.range, into: one.buffer.pointer, lane: lane)
    }
    for one in work.due {
      one.buffer.share(1)
      insert(
        GradientSum(one.buffer, at: parts[one.part].lowerBound - one.range.lowerBound), at: one.node, one.place,
        one.part, end)
    }
    work.due.removeAll(keepingCapacity: true)
    for subtree in work.computed {
      for unit in units(of: subtree.node) {
        let isLast = lock.hold {
          needed[unit] -= 1
          return needed[unit] == 0
        }
        if isLast { experts.release(unit: unit) }
      }
    }
    work.computed.removeAll(keepingCapacity: true)
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
    trees[places[expert]! * parts.count + part].tree.pending
  }

  /// Adds a sum of a part that a worker with a copy has sent; nil where no token reached the expert. Its memory is
  /// used for further sums. Returns false where this worker does not own the expert or does not expect the sum, and
  /// then adds nothing.
  package func take(_ sum: GradientSum?, of expert: Int, part: Int, at node: UnitNode) -> Bool {
    guard places.indices.contains(expert), let place = places[expert], isOwned[place], parts.indices.contains(part),
      trees[place * parts.count + part].tree.accepts(node)
    else { return false }
    insert(sum, at: node, place, part, UnitEnd(team: experts.team))
    return true
  }

  private func insert(_ sum: GradientSum?, at node: UnitNode, _ place: Int, _ part: Int, _ end: UnitEnd) {
    trees[place * parts.count + part].insert(sum, at: node, postpones: end.postpones) {
      GradientSum.add($0, $1, count: parts[part].count, end.team) { experts.recycle($0) }
    }
  }

  /// Makes memory in advance for so many postponed sums of each expert.
  func reserve(_ count: Int) {
    let sums = count * experts.held.count
    if delay == nil {
      experts.reserveGradients(sums, of: parts.last?.upperBound ?? 0)
    } else {
      for range in parts { experts.reserveGradients(sums, of: experts.wholeRows(range).count) }
    }
    added.reserveCapacity(sums * parts.count)
    postponed.reserveCapacity(sums)
  }

  /// Schedules the sums of all siblings that wait. Returns whether there were any; `putBack` ends it.
  func takePairs(_ sums: PostponedSums) -> Bool {
    var found = false
    for (index, tree) in trees.enumerated() {
      let any = tree.takePairs { left, right in
        sums.add(right.values, to: left.values, count: parts[index % parts.count].count)
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
    trees.indices.allSatisfy { !isOwned[$0 / parts.count] || trees[$0].tree.isComplete }
  }

  /// All units are complete: fills `totals`, whose values are valid until `recycle`.
  package func finish() {
    for (place, expert) in experts.held.enumerated() where isOwned[place] {
      for part in parts.indices {
        totals[expert * parts.count + part] = trees[place * parts.count + part].tree.total?.values
      }
    }
  }

  /// Returns the memory of the sums to the pool.
  package func recycle() {
    for index in trees.indices {
      for (_, sum) in trees[index].tree.pending { sum?.recycle { experts.recycle($0) } }
      trees[index].begin(unitCount: 1)
    }
  }
}

extension ParameterLayout {
  /// The parts in which an expert's block is added and sent. A part has at most the values of a message. Parts of a
  /// large block are within one tensor and have whole chunks of the optimizer, so that a chunk is in one part.
  package var expertParts: [Range<Int>] {
    guard expertCount > ShardLayout.messageSize else { return ShardLayout.messages(of: 0..<expertCount) }
    return experts[0].flatMap { ShardLayout.messages(of: $0.range) }
  }
}
