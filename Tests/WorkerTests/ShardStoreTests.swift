// Copies of peers' shards: expected ones are kept, and a forged header makes the worker allocate nothing.

import Testing
import Training
import Wire
import Worker

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

  @Test func `the third copy is kept until the step after the newest copy is done, for own copies and for a peer's`() {
    let store = ShardStore()
    store.begin(RunID(1))
    store.expect(3, [1: 5])
    let values = Payload(byteCount: 20)
    func copy(_ step: Int) {
      store.keep(key(step, index: 0), ShardMemory(count: 5))
      #expect(store.accept(key(step), piece: 0, of: 1, values))
    }
    func steps(_ index: Int) -> [Int] { store.held.filter { $0.index == index }.map(\.step) }
    // A copy of the generation before is kept until there are two of this one.
    store.keep(key(2, index: 0, generation: 2), ShardMemory(count: 5))
    copy(4)
    store.stepDone(3)
    #expect(steps(0) == [2, 4] && steps(1) == [4])
    copy(8)
    #expect(steps(0) == [2, 4, 8])
    store.stepDone(3)
    #expect(steps(0) == [4, 8] && steps(1) == [4, 8])
    copy(12)
    #expect(steps(0) == [4, 8, 12] && steps(1) == [4, 8, 12], "the step after the copy is not done")
    store.stepDone(3)
    #expect(steps(0) == [8, 12] && steps(1) == [8, 12])
  }

  @Test func `without mirrors, the copies of earlier generations go with the first checkpoint`() {
    let store = ShardStore()
    store.begin(RunID(1))
    store.keep(key(4, index: 0, generation: 2), ShardMemory(count: 5))
    store.keep(key(6, index: 0), ShardMemory(count: 5))
    store.checkpointed(in: 3)
    #expect(store.held == [key(6, index: 0)])
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
