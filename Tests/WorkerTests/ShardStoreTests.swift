// Copies of peers' shards: expected ones are kept, and a forged header makes the worker allocate nothing.

import Configuration
import Foundation
import Kernels
import Model
import TestSupport
import Testing
import Training
import Wire
import Worker

/// A shard with one tensor, whose values are 0, 1, 2, …
func oneTensor(_ count: Int) -> Shard {
  var model = RunConfiguration.smallModel.model
  (model.width, model.heads) = (1, 1)
  let entry = ParameterLayout(model, vocabulary: count).dense[0]
  let memory = ShardMemory(count: count)
  for place in 0..<count { memory.pointer[place] = Float(place) }
  return Shard(ShardLayout([.init(TensorRows(entry), tensor: 0, kind: .values, expert: nil, offset: 0)]), in: memory)
}

@Suite struct ShardStoreTests {
  private static let size = ShardStore.mirrorPieceSize
  private static let count = 2 * size + 5

  private func key(_ step: Int, index: Int = 1, generation: UInt32 = 3) -> HeldShard {
    HeldShard(run: RunID(1), generation: generation, index: index, count: 2, step: step)
  }

  private func piece(_ number: Int) -> Payload {
    Payload(byteCount: 4 * min(Self.size, Self.count - number * Self.size))
  }

  @Test func `a copy is kept when all its pieces have arrived, and a forged piece changes nothing`() {
    let store = ShardStore()
    store.begin(RunID(1))
    #expect(!store.accept(key(4), piece: 0, of: 3, piece(0)))
    store.expect(3, [1: Self.count])
    // Pieces with a number, length, place, worker or generation that is not expected.
    #expect(!store.accept(key(4), piece: 0, of: Int(UInt32.max), piece(0)))
    #expect(!store.accept(key(4), piece: 0, of: 2, piece(0)))
    #expect(!store.accept(key(4), piece: 0, of: 3, Payload(byteCount: 8)))
    #expect(!store.accept(key(4), piece: 1, of: 3, piece(1)))
    #expect(!store.accept(key(4), piece: -1, of: 3, piece(0)))
    #expect(!store.accept(key(4, index: 0), piece: 0, of: 3, piece(0)))
    #expect(!store.accept(key(4, generation: 4), piece: 0, of: 3, piece(0)))
    #expect(store.held == [])
    #expect(store.accept(key(4), piece: 0, of: 3, piece(0)))
    // A repeated piece, another copy before this one is complete, the last piece too early.
    #expect(!store.accept(key(4), piece: 0, of: 3, piece(0)))
    #expect(!store.accept(key(5), piece: 0, of: 3, piece(0)))
    #expect(!store.accept(key(4), piece: 2, of: 3, piece(2)))
    #expect(store.accept(key(4), piece: 1, of: 3, piece(1)) && store.held == [])
    #expect(!store.accept(key(4), piece: 2, of: 3, piece(1)))
    #expect(store.accept(key(4), piece: 2, of: 3, piece(2)) && store.held == [key(4)])
    #expect(!store.accept(key(4), piece: 2, of: 3, piece(2)) && !store.accept(key(3), piece: 0, of: 3, piece(0)))
  }

  @Test func `copies of impossible steps do not fill the memory`() {
    let store = ShardStore()
    store.begin(RunID(1))
    store.expect(3, [1: 5])
    let values = Payload(byteCount: 20)
    let taken = (1..<10_000).count { store.accept(key($0), piece: 0, of: 1, values) }
    #expect(taken == store.held.count && taken < 10)
  }

  @Test func `when everyone's newest copy is complete, this worker's takes the place of the older ones`() {
    let store = ShardStore()
    store.begin(RunID(1))
    store.expect(3, [1: 5])
    let values = Payload(byteCount: 20), team = Team(laneCount: 1)
    func steps(_ index: Int) -> [Int] { store.held.filter { $0.index == index }.map(\.step) }
    // A copy of the generation before is kept until that of this one is complete everywhere.
    store.complete(key(2, index: 0, generation: 2), LateCopy(oneTensor(5)), team)
    #expect(store.accept(key(4), piece: 0, of: 1, values))
    #expect(steps(0) == [2] && steps(1) == [4])
    store.complete(key(4, index: 0), LateCopy(oneTensor(5)), team)
    #expect(steps(0) == [4] && steps(1) == [4])
    let memory = store.valueCount
    for step in stride(from: 8, to: 40, by: 4) {
      #expect(store.accept(key(step), piece: 0, of: 1, values))
      #expect(steps(0) == [step - 4] && steps(1) == [step - 4, step], "the copies of \(step) may not be complete")
      store.complete(key(step, index: 0), LateCopy(oneTensor(5)), team)
      #expect(steps(0) == [step] && steps(1) == [step])
    }
    // One copy of its own, and two of the peer's.
    #expect(memory == 10 && store.valueCount == 15)
  }

  private func reals(_ payload: Payload) -> [Float] {
    withExtendedLifetime(payload) {
      Array(UnsafeBufferPointer(start: payload.reals, count: payload.bytes.count / 4))
    }
  }

  @Test func `a late copy keeps the values of its step, and is made only if it is still being read`() {
    let team = Team(laneCount: 1)
    func value(_ copy: LateCopy) -> Float {
      var value: Float = 0
      copy.read(0) { value = $0[3] }
      return value
    }
    var taken = 0
    var returned: [ShardMemory] = []
    let (read, over) = (oneTensor(5), oneTensor(5))
    let copies = [LateCopy(read), LateCopy(over)]
    copies[1].end()
    for copy in copies {
      copy.moveUnlessOver(
        to: {
          taken += 1
          return ShardMemory(count: 5)
        }, team, giveBack: { returned.append($0) })
    }
    // The step changes the tensors.
    for shard in [read, over] { shard.values(0)[3] = 100 }
    #expect(taken == 1 && value(copies[0]) == 3 && copies[0].isInOwnMemory && !copies[1].isInOwnMemory)
    #expect(reals(copies[0].payload(2..<5)) == [2, 3, 4])
    #expect(returned.isEmpty)
    copies[0].end()
    copies[0].end()
    #expect(returned.count == 1)
  }

  /// Resident bytes of the mapping that begins at `pointer`.
  private func resident(_ pointer: UnsafeMutableRawPointer) throws -> Int {
    // String(contentsOfFile:) reads only the first page of it.
    let file = try #require(FileHandle(forReadingAtPath: "/proc/self/smaps"))
    let text = String(decoding: try file.readToEnd() ?? Data(), as: UTF8.self)
    let begin = String(UInt(bitPattern: pointer), radix: 16) + "-"
    let lines = text.split(separator: "\n").drop { !$0.hasPrefix(begin) }.dropFirst()
    let line = try #require(lines.first { $0.hasPrefix("Rss:") })
    return try #require(Int(line.filter(\.isNumber))) << 10
  }

  @Test func `a copy on disk has all its values and takes no memory, neither when it is made nor when it was read`()
    throws
  {
    let count = 5 << 20
    let memory = try ShardMemory(onDisk: count)
    #expect(memory.isOnDisk)
    let shard = oneTensor(count)
    let copy = LateCopy(shard)
    copy.move(to: memory, Team(laneCount: 2))
    #expect(try resident(memory.pointer) < 1 << 20)
    shard.values(0)[7] = -1
    var isSame = false
    copy.read(0) { values in isSame = (0..<count).allSatisfy { values[$0] == Float($0) } }
    #expect(isSame)
    #expect(try resident(memory.pointer) < 1 << 20)
    // What is in use counts.
    for place in stride(from: 0, to: count, by: 1024) { memory.pointer[place] += 1 }
    #expect(try resident(memory.pointer) >= 4 * count)
    memory.settle(0..<count)
    #expect(try resident(memory.pointer) < 1 << 20 && memory.pointer[1024] == 1025 && memory.pointer[1025] == 1025)
  }

  @Test func `a peer's copy on disk is that which has arrived, and is counted there`() throws {
    let store = ShardStore()
    store.begin(RunID(1), keepingOn: .disk)
    store.expect(3, [1: Self.count])
    let shard = oneTensor(Self.count), copy = LateCopy(shard)
    for number in 0..<3 {
      let values = copy.payload(number * Self.size..<min(Self.count, (number + 1) * Self.size))
      #expect(store.accept(key(4), piece: number, of: 3, values))
    }
    #expect(store.valueCount == 0 && store.diskValueCount == Self.count && store.takeProblem() == nil)
    let kept = try #require(store.shard(key(4), shard.layout))
    #expect((0..<Self.count).allSatisfy { kept.values(0)[$0] == Float($0) })
  }

  @Test func `where no file can be made, copies are in memory, and the reason is reported once`() throws {
    let store = ShardStore(folder: "/proc/none")
    store.begin(RunID(1), keepingOn: .disk)
    #expect(!store.memory(5).isOnDisk && !store.memory(5).isOnDisk)
    let problem = try #require(store.takeProblem())
    #expect(problem == "cannot make a file of 1 MiB in /proc/none: No such file or directory")
    #expect(store.takeProblem() == nil)
    store.begin(RunID(1))
    #expect(!store.memory(5).isOnDisk && store.takeProblem() == nil)
  }

  @Test func `any range of a shard is copied in the order of its tensors`() {
    var layout = ShardLayout(oneTensor(4).layout.pieces)
    let entry = layout.pieces[0].entry
    layout = ShardLayout(
      (0..<3).map { .init(TensorRows(entry), tensor: $0, kind: .values, expert: nil, offset: 4 * $0) })
    let memory = ShardMemory(count: 12)
    for place in 0..<12 { memory.pointer[place] = Float(place) }
    let shard = Shard(layout, in: memory)
    for low in 0..<12 {
      for high in low + 1...12 {
        let copied = LateCopy(shard).payload(low..<high)
        #expect(reals(copied) == (low..<high).map { Float($0) })
      }
    }
  }

  @Test func `a live shard that the next generation does not begin with is dropped`() {
    let store = ShardStore()
    store.begin(RunID(1))
    func state(_ step: Int) -> StartState {
      .memory(MemoryState(generation: 3, step: step, units: [], experts: [], holders: []))
    }
    store.setLive(key(7, index: 0), oneTensor(5))
    store.begin(RunID(1), from: state(7))
    #expect(store.held == [key(7, index: 0)])
    store.begin(RunID(1), from: state(4))
    #expect(store.held == [])
  }

  @Test func `without mirrors, the copies of earlier generations go with the first checkpoint`() {
    let store = ShardStore()
    store.begin(RunID(1))
    store.complete(key(4, index: 0, generation: 2), LateCopy(oneTensor(5)), Team(laneCount: 1))
    store.expect(3, [1: 5])
    #expect(store.accept(key(6), piece: 0, of: 1, Payload(byteCount: 20)))
    store.checkpointed(in: 3)
    #expect(store.held == [key(6)])
  }

  @Test func `the memory of a dropped copy is reused for the next one`() {
    let store = ShardStore()
    store.begin(RunID(1))
    let first = store.memory(100), place = first.pointer
    store.giveBack(first, store.epoch)
    #expect(store.memory(100).pointer == place)
    // Not after another generation has begun, whose shards have other sizes.
    let late = store.memory(100), epoch = store.epoch
    store.begin(RunID(1))
    store.giveBack(late, epoch)
    #expect(store.memory(100).pointer != late.pointer)
  }
}
