// A pool of buffers whose size is known only when data arrives, such as rows for experts. Buffers are reused, so
// that a steady step does not call the allocator.

import CKernels
import Synchronization

/// A buffer from a pool. Its user returns it with `BufferPool.give`; a buffer that is not returned is freed with
/// its last reference.
package final class PooledBuffer {
  package let pointer: RealPointer
  package let capacity: Int
  /// Number of parts in use, for users that give the buffer back when all parts are done with.
  private let parts = Atomic<Int>(1)

  package func share(_ count: Int) { parts.store(count, ordering: .relaxed) }
  /// One part is not used any more. Returns whether it was the last one.
  package func endShare() -> Bool { parts.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 }

  fileprivate init(capacity: Int) {
    self.capacity = capacity
    let raw = LargePages.allocate(byteCount: max(capacity, 1) * MemoryLayout<Real>.stride)
    pointer = raw.bindMemory(to: Real.self, capacity: max(capacity, 1))
  }

  deinit { UnsafeMutableRawPointer(pointer).deallocate() }
}

/// Free buffers by size class. Any thread may take and give.
package final class BufferPool: @unchecked Sendable {
  private struct Shelf {
    let capacity: Int
    var buffers: [PooledBuffer] = []

    init(capacity: Int) {
      self.capacity = capacity
      buffers.reserveCapacity(32)
    }
  }
  /// Ascending by capacity.
  private var shelves: [Shelf] = []
  /// Bytes of all buffers that were made, which stay in memory.
  package private(set) var byteCount = 0
  private let lock = Lock()

  /// Memory of a buffer in relation to what is used of it: sizes come in four classes per octave, so an eighth is
  /// unused on average.
  package static let meanExcess = 9.0 / 8

  package init() {}

  /// A buffer of at least `count` values, uninitialised: from the shelf of its size class, or from the next ones up
  /// to twice that size.
  package func take(_ count: Int) -> PooledBuffer {
    let capacity = BufferPool.sizeClass(count)
    let found = lock.hold { () -> PooledBuffer? in
      var place = shelf(capacity)
      while place < shelves.count, shelves[place].capacity <= 2 * capacity {
        if let buffer = shelves[place].buffers.popLast() { return buffer }
        place += 1
      }
      return nil
    }
    if let found { return found }
    return make(capacity)
  }

  private func make(_ capacity: Int) -> PooledBuffer {
    lock.hold { byteCount += capacity * MemoryLayout<Real>.stride }
    return PooledBuffer(capacity: capacity)
  }

  /// Fills the pool with so many buffers for `count` values. Their pages take no memory until they are used.
  package func reserve(_ buffers: Int, of count: Int) {
    for _ in 0..<buffers { give(make(BufferPool.sizeClass(count))) }
  }

  /// Returns a buffer to the pool.
  package func give(_ buffer: PooledBuffer) {
    lock.hold {
      let place = shelf(buffer.capacity)
      if place == shelves.count || shelves[place].capacity != buffer.capacity {
        shelves.insert(Shelf(capacity: buffer.capacity), at: place)
      }
      shelves[place].buffers.append(buffer)
    }
  }

  /// Index of the first shelf with at least that capacity.
  private func shelf(_ capacity: Int) -> Int { shelves.firstIndex { $0.capacity >= capacity } ?? shelves.count }

  /// Size classes, four per octave, so that at most a fifth of a buffer is unused.
  static func sizeClass(_ count: Int) -> Int {
    guard count > 1024 else { return 1024 }
    let octave = Int.bitWidth - (count - 1).leadingZeroBitCount - 1
    let step = 1 << (octave - 2)
    return (count + step - 1) / step * step
  }
}

extension Team {
  /// Values of a task.
  package static let addedTogether = 1 << 16

  /// Sets `count` values to 0.
  package func clear(_ values: RealPointer, count: Int) {
    let tiles = Tiles(of: count, size: Team.addedTogether)
    run(tiles.count) { task, _ in
      let tile = tiles[task]
      (values + tile.lowerBound).update(repeating: 0, count: tile.count)
    }
  }

  /// to += from, over `count` values.
  package func add(_ from: RealPointer, to: RealPointer, count: Int) {
    let tiles = Tiles(of: count, size: Team.addedTogether)
    run(tiles.count) { task, _ in
      let tile = tiles[task]
      ress_add(Int64(tile.count), from + tile.lowerBound, to + tile.lowerBound)
    }
  }
}
