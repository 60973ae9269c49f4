// Memory that processes share, and the meetings of the workers that use it. That results do not depend on it is tested
// in OneCurveTests.

import Configuration
import Exchange
import Foundation
import Kernels
import Model
import Synchronization
import TestSupport
import Testing
import Training
import Wire

@Suite struct BoardTests {
  private static let process = Int(getpid())

  @Test func `memory that a process offers is seen by others, until it offers new memory`() throws {
    let offered = try #require(OfferedMemory())
    let first = try #require(offered.offer(byteCount: 4096))
    let seen = try #require(
      SharedMemory.open(process: Self.process, descriptor: Int(offered.descriptor), byteCount: 4096))
    first.bytes.storeBytes(of: 7, as: Int.self)
    #expect(seen.bytes.load(as: Int.self) == 7)
    let second = try #require(offered.offer(byteCount: 8192))
    second.bytes.storeBytes(of: 8, as: Int.self)
    #expect(seen.bytes.load(as: Int.self) == 7, "what was mapped before stays as it is")
    let newer = SharedMemory.open(process: Self.process, descriptor: Int(offered.descriptor), byteCount: 8192)
    #expect(newer?.bytes.load(as: Int.self) == 8)
  }

  @Test func `only memory of the expected size is opened, and no other file`() throws {
    let offered = try #require(OfferedMemory())
    func open(_ descriptor: Int32, _ byteCount: Int) -> SharedMemory? {
      SharedMemory.open(process: Self.process, descriptor: Int(descriptor), byteCount: byteCount)
    }
    #expect(open(offered.descriptor, 4096) == nil, "nothing has been offered")
    let memory = offered.offer(byteCount: 4096)
    #expect(memory != nil && open(offered.descriptor, 8192) == nil)
    #expect(SharedMemory.open(process: 0, descriptor: Int(offered.descriptor), byteCount: 4096) == nil)
    #expect(open(1_000_000, 4096) == nil)
    let scratch = ScratchFolder()
    let path = scratch.path + "/file"
    try Data(count: 4096).write(to: URL(filePath: path))
    let file = Glibc.open(path, O_RDWR)
    var pipes: [Int32] = [0, 0]
    #expect(file >= 0 && pipe(&pipes) == 0)
    defer { for one in pipes + [file] { close(one) } }
    #expect(open(file, 4096) == nil && open(pipes[0], 4096) == nil)
    #expect(try Data(contentsOf: URL(filePath: path)) == Data(count: 4096))
  }

  @Test func `offering memory for each generation keeps no descriptor open`() throws {
    // Other tests of this process have memory of their own.
    let offered = try #require(OfferedMemory(name: "ress-descriptors"))
    for size in 1...50 {
      let memory = try #require(offered.offer(byteCount: size * 4096))
      #expect(memory.byteCount == size * 4096)
    }
    let links = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")
    let names = links.compactMap { try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)") }
    #expect(names.count { $0.hasPrefix("/memfd:ress-descriptors") } == 1)
  }

  /// `count` workers with a unit each, and a dense model.
  private final class Workers: @unchecked Sendable {
    let memories: [OfferedMemory]
    var boards: [Board] = []

    init(_ count: Int, generations: [UInt32]? = nil, mostBytes: Int = 1 << 30) throws {
      var c = RunConfiguration.smallModel
      c.training.batchSequences = count
      c.model.feedForward = .dense
      let layout = ParameterLayout(c.model, vocabulary: 11)
      memories = try (0..<count).map { _ in try #require(OfferedMemory()) }
      let members = memories.enumerated().map {
        BoardMembers.Member(
          process: BoardTests.process, descriptor: Int($1.descriptor), incarnation: UInt64($0))
      }
      for index in 0..<count {
        let plan = WorkPlan(
          index: index, units: (0..<count).map { $0..<$0 + 1 }, expertOwners: [], layout: layout)
        let held = HeldModel(c, vocabulary: 11, plan: plan, threads: 1)
        let generation = generations?[index] ?? 1
        guard
          let board = Board(
            BoardMembers(run: 5, generation: generation, members: members), held, norms: 3, in: memories[index],
            mostBytes: mostBytes)
        else { return }
        boards.append(board)
      }
    }
  }

  private struct Ended: Error {}

  @Test(arguments: [2, 3, 9, 10, 80])
  func `what every worker writes before a meeting, every worker reads after it`(count: Int) throws {
    let workers = try Workers(count)
    #expect(workers.boards.allSatisfy { $0.open() })
    let wrong = Mutex(0)
    let group = DispatchGroup()
    for index in 0..<count {
      group.enter()
      let thread = Thread {
        let board = workers.boards[index]
        for turn in 1...30 {
          board.norms(of: index)[0] = Double(1000 * turn + index)
          try! board.meet { _ in }
          let read = (0..<count).count { board.norms(of: $0)[0] != Double(1000 * turn + $0) }
          wrong.withLock { $0 += read }
          // All have read when the next one writes.
          try! board.meet { _ in }
        }
        group.leave()
      }
      thread.start()
    }
    group.wait()
    #expect(wrong.withLock { $0 } == 0)
  }

  @Test func `a worker that waits for another one knows which, and can end the wait`() throws {
    let workers = try Workers(12)
    #expect(workers.boards.allSatisfy { $0.open() })
    let named = Mutex<[[Int]]>([])
    let group = DispatchGroup()
    for index in 0..<12 where index != 10 {
      group.enter()
      let thread = Thread {
        try? workers.boards[index].meet { awaited in
          // At first others may not have come yet.
          guard awaited == [10] else { return }
          named.withLock { $0.append(awaited) }
          throw Ended()
        }
        group.leave()
      }
      thread.start()
    }
    group.wait()
    #expect(named.withLock { $0.count } == 11)
  }

  @Test func `a board of another generation or of another process is not opened`() throws {
    let workers = try Workers(2, generations: [1, 2])
    #expect(workers.boards.map { $0.open() } == [false, false])
  }

  @Test func `a board that would take too much memory is not made`() throws {
    #expect(try Workers(2, mostBytes: 10_000).boards.isEmpty)
  }

  @Test func `the parts of a board hold everything that a worker writes, one after the other`() {
    var c = RunConfiguration.smallModel
    c.training.batchSequences = 5
    let layout = ParameterLayout(c.model, vocabulary: 11)
    let plan = WorkPlan(
      index: 0, units: [0..<3, 3..<5], expertOwners: [0, 1, 0, 1], copies: [[1, 3], [0, 2]], layout: layout)
    let board = BoardLayout(plan, worker: 0, layout, sizes: Sizes(c.model, vocabulary: 11), norms: 7)
    #expect(board.nodes == [UnitNode(level: 1, index: 0), UnitNode(level: 0, index: 2)])
    #expect(board.copies == [1, 3] && board.lent == [0, 2])
    #expect(board.reports >= board.norms + 8 * board.normCapacity)
    #expect(board.sums >= board.reports + 3 * 8 * board.reportCount)
    let real = MemoryLayout<Real>.stride
    #expect(
      board.parameters >= board.sums + 4 * 4 + 2 * real * (layout.denseCount + 2 * layout.expertCount))
    #expect(board.byteCount >= board.parameters + real * (plan.denseRanges[0].count + 2 * layout.expertCount))
  }
}
