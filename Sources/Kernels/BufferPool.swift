// Buffers whose size is known only when rows arrive. They come back and are used again, so that a steady step takes
// nothing from the allocator.

import CKernels

/// Memory on loan from a pool. Its owner gives it back explicitly; forgotten, it is freed.
package final class PooledBuffer {
  package let pointer: RealPointer
  package let capacity: Int

  fileprivate init(capacity: Int) {
    self.capacity = capacity
    let raw = LargePages.allocate(byteCount: max(capacity, 1) * MemoryLayout<Real>.stride)
    pointer = raw.bindMemory(to: Real.self, capacity: max(capacity, 1))
  }

  deinit { UnsafeMutableRawPointer(pointer).deallocate() }
}

/// Free buffers by size class. One thread uses a pool.
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

  package init() {}

  /// At least `count` values, uninitialised: from the shelf of its size, or the next ones up to twice as large.
  package func take(_ count: Int) -> PooledBuffer {
    let capacity = BufferPool.sizeClass(count)
    var place = shelf(capacity)
    while place < shelves.count, shelves[place].capacity <= 2 * capacity {
      if let buffer = shelves[place].buffers.popLast() { return buffer }
      place += 1
    }
    return PooledBuffer(capacity: capacity)
  }

  package func give(_ buffer: PooledBuffer) {
    let place = shelf(buffer.capacity)
    if place == shelves.count || shelves[place].capacity != buffer.capacity {
      shelves.insert(Shelf(capacity: buffer.capacity), at: place)
    }
    shelves[place].buffers.append(buffer)
  }

  /// The first shelf of at least that capacity.
  private func shelf(_ capacity: Int) -> Int { shelves.firstIndex { $0.capacity >= capacity } ?? shelves.count }

  /// Four classes an octave: at most a fifth of a buffer lies idle.
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
