// A pool of buffers whose size is known only when data arrives, such as rows for experts. Buffers are reused, so
// that a steady step does not call the allocator.

import CKernels

/// A buffer from a pool. Its user returns it with `BufferPool.give`; a buffer that is not returned is freed with
/// its last reference.
package final class PooledBuffer {
  package let pointer: RealPointer
  package let capacity: Int
  /// Number of parts in use, for users that give the buffer back when all parts are done with.
  package var shares = 1

  fileprivate init(capacity: Int) {
    self.capacity = capacity
    let raw = LargePages.allocate(byteCount: max(capacity, 1) * MemoryLayout<Real>.stride)
    pointer = raw.bindMemory(to: Real.self, capacity: max(capacity, 1))
  }

  deinit { UnsafeMutableRawPointer(pointer).deallocate() }
}

/// Free buffers by size class. A pool is used by one thread.
package final class BufferPool {
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

  package init() {}

  /// A buffer of at least `count` values, uninitialised: from the shelf of its size class, or from the next ones up
  /// to twice that size.
  package func take(_ count: Int) -> PooledBuffer {
    let capacity = BufferPool.sizeClass(count)
    var place = shelf(capacity)
    while place < shelves.count, shelves[place].capacity <= 2 * capacity {
      if let buffer = shelves[place].buffers.popLast() { return buffer }
      place += 1
    }
    byteCount += capacity * MemoryLayout<Real>.stride
    return PooledBuffer(capacity: capacity)
  }

  /// Returns a buffer to the pool.
  package func give(_ buffer: PooledBuffer) {
    let place = shelf(buffer.capacity)
    if place == shelves.count || shelves[place].capacity != buffer.capacity {
      shelves.insert(Shelf(capacity: buffer.capacity), at: place)
    }
    shelves[place].buffers.append(buffer)
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

extension PooledBuffer {
  /// self += other, over the first `count` values.
  package func add(_ other: PooledBuffer, count: Int) { ress_add(Int64(count), other.pointer, pointer) }
}

extension Team {
  /// Values of a task.
  private static let addedTogether = 1 << 16

  /// to += from, over `count` values.
  package func add(_ from: RealPointer, to: RealPointer, count: Int) {
    let tiles = Tiles(of: count, size: Team.addedTogether)
    run(tiles.count) { task, _ in
      let tile = tiles[task]
      ress_add(Int64(tile.count), from + tile.lowerBound, to + tile.lowerBound)
    }
  }
}
