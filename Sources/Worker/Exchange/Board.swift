// The board: memory in which the workers of one machine leave for each other what they would otherwise send in messages
// once a step. These are the reports of their units, their sums of gradients, their norms and their new parameters.
//
// With N workers every step had some 5 · N² messages, each of which wakes four threads: 64 workers on two cores spent
// nine tenths of a step on them. On the board a worker writes everything once, wherever it is needed, and reads what it
// needs from the parts of the others. What is left to say is "I have written", and "everyone has", three times a step.
// The workers say that to each other along a tree, so that each of them is woken twice and wakes at most nine others.
//
// Every worker writes a part of its own (`BoardLayout`), in memory that it offers to the others (`SharedMemory`). A
// part is written again only after all workers have read it, because a meeting is between the two:
//
//   computes its units   writes reports and sums   | meeting 1 |   reads them
//                        writes norms              | meeting 2 |   reads them
//                        writes parameters         | meeting 3 |   reads them
//
// There is one exception: the owner of a range of the gradients adds in the memory of its peers. No other worker reads
// that range, and its values are used up before meeting 3.
//
// The board does not detect that a worker has died; a wait ends when the coordinator stops the generation, as it does
// for a message that does not come.

import CLinux
import Kernels
import Model
import Training
import Wire

/// Where everything is in one worker's part of the board.
package struct BoardLayout: Equatable, Sendable {
  /// The subtrees whose sums the worker forms: the largest ones inside its range of units.
  package let nodes: [UnitNode]
  /// Experts of others of which it has a copy, and experts of its own that others have copies of.
  package let copies: [Int]
  package let lent: [Int]
  /// Bytes before each section.
  package let norms: Int
  package let reports: Int
  package let sums: Int
  package let parameters: Int
  package let byteCount: Int
  /// Doubles of a report, and of the norms with the note.
  package let reportCount: Int
  package let normCapacity: Int
  /// Bytes before the values of the sums; the section begins with a flag for each node and copy.
  fileprivate let values: Int
  /// Values of a node's sums, the first of them dense, and of an expert.
  let denseCount: Int
  let expertCount: Int

  /// The first section's offset: before it are the header and the numbers that meetings use, each in a cache line of
  /// its own.
  static let headerBytes = 64, turnBytes = 64
  private static let first = headerBytes + 3 * turnBytes
  private static let page = 4096

  /// - Parameter norms: number of sums of squares that each worker tells the others.
  package init(_ plan: WorkPlan, worker: Int, _ layout: ParameterLayout, sizes: Sizes, norms normCount: Int) {
    var tree = UnitTree<Int>(unitCount: max(1, plan.unitCount))
    for unit in plan.units[worker] { tree.insert(1, at: UnitNode(level: 0, index: unit), add: +) }
    nodes = tree.pending.map(\.node)
    copies = plan.copies[worker]
    lent = plan.expertOwners.indices.filter { plan.expertOwners[$0] == worker && !plan.copyHolders(of: $0).isEmpty }
    denseCount = layout.denseCount
    expertCount = layout.expertCount
    reportCount = LossSums.numberCount + Routing(sizes).numberCount
    // A count, the norms and a note with two hashes for each unit at most.
    normCapacity = 1 + normCount + StepNote().encoded.count + 2 * plan.unitCount
    let real = MemoryLayout<Real>.stride
    func rounded(_ bytes: Int, to size: Int) -> Int { (bytes + size - 1) / size * size }
    norms = Self.first
    reports = rounded(norms + 8 * normCapacity, to: 64)
    sums = rounded(reports + 8 * reportCount * plan.units[worker].count, to: Self.page)
    values = sums + rounded(4 * nodes.count * copies.count, to: Self.page)
    parameters = rounded(values + real * nodes.count * (denseCount + copies.count * expertCount), to: Self.page)
    byteCount = rounded(
      parameters + real * (plan.denseRanges[worker].count + lent.count * expertCount), to: Self.page)
  }
}

/// The workers that share a board, and the generation that it is for.
package struct BoardMembers: Equatable, Sendable {
  package struct Member: Equatable, Sendable {
    package var process: Int
    /// The descriptor under which the process offers its memory.
    package var descriptor: Int
    /// Distinguishes the process from another one with the same number.
    package var incarnation: UInt64

    package init(process: Int, descriptor: Int, incarnation: UInt64) {
      (self.process, self.descriptor, self.incarnation) = (process, descriptor, incarnation)
    }
  }
  package var run: UInt64
  package var generation: UInt32
  /// By roster index.
  package var members: [Member]

  package init(run: UInt64, generation: UInt32, members: [Member]) {
    (self.run, self.generation, self.members) = (run, generation, members)
  }
}

/// What a worker needs to take part in a board.
package struct BoardOffer {
  package var members: BoardMembers
  /// This worker's memory; nil where the system has none to share.
  package var memory: OfferedMemory?
  /// Most bytes of all parts together.
  package var mostBytes: Int

  package init(_ members: BoardMembers, _ memory: OfferedMemory?, mostBytes: Int) {
    (self.members, self.memory, self.mostBytes) = (members, memory, mostBytes)
  }
}

package final class Board {
  private let index: Int
  private let members: BoardMembers
  package let layouts: [BoardLayout]
  private let mine: SharedMemory
  /// By worker; nil until `open`.
  private var parts: [SharedMemory?]
  private var parent: Int? { index == 0 ? nil : (index - 1) / Self.fanOut }
  private var children: Range<Int> {
    let first = Self.fanOut * index + 1
    return min(first, parts.count)..<min(first + Self.fanOut, parts.count)
  }
  /// Number of meetings so far.
  private var turn: UInt32 = 0

  /// How many workers wait for one: with two levels 73 workers meet, with three 585.
  private static let fanOut = 8
  /// How often a wait is interrupted to look whether it still has a purpose.
  private static let lookMilliseconds: Int32 = 100
  private static let magic: UInt64 = 0x3144_5242_5353_4552  // "RESSBRD1"

  /// Offers this worker's part; nil where the system refuses, or where all parts together take more than `mostBytes`.
  package init?(
    _ members: BoardMembers, _ held: HeldModel, norms: Int, in memory: OfferedMemory, mostBytes: Int
  ) {
    let plan = held.plan
    precondition(members.members.count == plan.workerCount, "a board is for all workers of the generation")
    self.members = members
    index = plan.index
    layouts = (0..<plan.workerCount).map {
      BoardLayout(plan, worker: $0, held.layout, sizes: held.sizes, norms: norms)
    }
    guard layouts.reduce(0, { $0 + $1.byteCount }) <= mostBytes,
      let mine = memory.offer(byteCount: layouts[plan.index].byteCount)
    else { return nil }
    self.mine = mine
    parts = Array(repeating: nil, count: plan.workerCount)
    parts[index] = mine
    for (place, word) in header(of: index).enumerated() {
      mine.bytes.storeBytes(of: word, toByteOffset: 8 * place, as: UInt64.self)
    }
  }

  /// What a part begins with. Another part, or one of another generation, begins otherwise.
  private func header(of worker: Int) -> [UInt64] {
    [
      Self.magic, members.run, UInt64(members.generation), UInt64(worker), UInt64(layouts[worker].byteCount),
      members.members[worker].incarnation,
    ]
  }

  /// Opens the parts of all others, which exist when every worker is ready. Returns whether that succeeded.
  package func open() -> Bool {
    for (worker, member) in members.members.enumerated() where worker != index {
      guard
        let part = SharedMemory.open(
          process: member.process, descriptor: member.descriptor, byteCount: layouts[worker].byteCount),
        header(of: worker).enumerated().allSatisfy({
          part.bytes.load(fromByteOffset: 8 * $0.offset, as: UInt64.self) == $0.element
        })
      else { return false }
      parts[worker] = part
    }
    return true
  }

  // MARK: meetings

  /// The number that a worker announces: how many meetings it has come to; with all that wait for it through it; how
  /// many are over.
  private enum Turn: Int { case here, complete, over }

  private func number(_ turn: Turn, of worker: Int) -> UnsafeMutablePointer<UInt32> {
    (parts[worker]!.bytes + BoardLayout.headerBytes + BoardLayout.turnBytes * turn.rawValue)
      .assumingMemoryBound(to: UInt32.self)
  }

  /// Returns when all workers have come to the meeting: what they wrote before can be read then.
  /// - Parameter look: called again and again during a wait with the workers that are not here yet; it may throw an
  ///   error to end the wait.
  package func meet(_ look: (_ awaited: [Int]) throws -> Void) throws {
    turn &+= 1
    ress_announce(number(.here, of: index), turn)
    for child in children { try wait(for: .complete, of: child, look) }
    ress_announce(number(.complete, of: index), turn)
    if let parent { try wait(for: .over, of: parent, look) }
    ress_announce(number(.over, of: index), turn)
  }

  private func wait(for turn: Turn, of worker: Int, _ look: ([Int]) throws -> Void) throws {
    let place = number(turn, of: worker)
    var looks = ContinuousClock.now + .milliseconds(Int(Self.lookMilliseconds))
    while true {
      let value = ress_load(place)
      if Int32(bitPattern: value &- self.turn) >= 0 { return }
      ress_await(place, value, Self.lookMilliseconds)
      guard ContinuousClock.now >= looks else { continue }
      looks = ContinuousClock.now + .milliseconds(Int(Self.lookMilliseconds))
      try look(layouts.indices.filter { Int32(bitPattern: ress_load(number(.here, of: $0)) &- self.turn) < 0 })
    }
  }

  // MARK: places

  /// The norms of a worker: their count, then the numbers.
  package func norms(of worker: Int) -> UnsafeMutablePointer<Double> {
    (parts[worker]!.bytes + layouts[worker].norms).assumingMemoryBound(to: Double.self)
  }

  /// The report of a worker's unit.
  /// - Parameter unit: counted from the worker's first one.
  func report(_ unit: Int, of worker: Int) -> UnsafeMutablePointer<Double> {
    let layout = layouts[worker]
    return (parts[worker]!.bytes + layout.reports + 8 * layout.reportCount * unit).assumingMemoryBound(to: Double.self)
  }

  /// The sums of a worker for a node: all dense parameters, then the experts that it has copies of.
  func sum(_ node: Int, of worker: Int) -> RealPointer {
    let layout = layouts[worker]
    let size = layout.denseCount + layout.copies.count * layout.expertCount
    return (parts[worker]!.bytes + layout.values).assumingMemoryBound(to: Real.self) + node * size
  }

  /// The sum of a worker for an expert.
  /// - Parameter copy: the place of the expert in the layout's `copies`.
  func sum(_ node: Int, ofCopy copy: Int, of worker: Int) -> RealPointer {
    let layout = layouts[worker]
    return sum(node, of: worker) + layout.denseCount + copy * layout.expertCount
  }

  /// Not 0 where the sum of an expert exists: a token has reached it.
  func flag(_ node: Int, ofCopy copy: Int, of worker: Int) -> UnsafeMutablePointer<Int32> {
    let layout = layouts[worker]
    return (parts[worker]!.bytes + layout.sums).assumingMemoryBound(to: Int32.self) + node * layout.copies.count + copy
  }

  /// The new dense parameters of a worker.
  func parameters(of worker: Int) -> RealPointer {
    (parts[worker]!.bytes + layouts[worker].parameters).assumingMemoryBound(to: Real.self)
  }

  /// The new parameters of an expert.
  /// - Parameters:
  ///   - place: of the expert in the owner's `lent`.
  ///   - dense: number of dense parameters that the owner updates.
  func parameters(ofLent place: Int, of worker: Int, dense: Int) -> RealPointer {
    parameters(of: worker) + dense + place * layouts[worker].expertCount
  }
}

extension BoardOffer {
  /// The board of a generation; nil where its workers exchange in messages. All workers decide alike, because the
  /// assignment alone decides.
  package init?(_ assignment: Assignment, _ plan: WorkPlan, _ memory: OfferedMemory?, ofMachine memoryBytes: Int) {
    let workers = assignment.roster.map(\.worker)
    let descriptors = workers.compactMap(\.sharedMemory)
    let rowsTravel = plan.units.indices.contains { worker in
      plan.expertOwners.indices.contains { plan.computer(of: $0, forUnitsOf: worker) != worker }
    }
    guard !rowsTravel, WorkerDescription.canShareMemory(workers, assignment.configuration.cluster) else { return nil }
    let members = zip(workers, descriptors).map {
      BoardMembers.Member(process: $0.process, descriptor: $1, incarnation: $0.incarnation)
    }
    self.init(
      BoardMembers(run: assignment.run.rawValue, generation: assignment.generation, members: members), memory,
      mostBytes: Board.mostBytes(ofMachine: memoryBytes))
  }
}

extension Board {
  /// The part of a machine's memory that boards may take.
  package static func mostBytes(ofMachine bytes: Int) -> Int { bytes / 8 }
}
