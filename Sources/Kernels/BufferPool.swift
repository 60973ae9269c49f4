// Buffers whose size is known only when rows arrive. They come back and are used again, so that a steady step takes
// nothing from the allocator.

import CKernels

/// Memory on loan from a pool. Its owner gives it back explicitly; forgotten, it is freed.
package final class PooledBuffer {
  package let pointer: RealPointer
  package let capacity: Int

  fileprivate init(capacity: Int) {
    self.capacity = capacity
    let raw = UnsafeMutableRawPointer.allocate(
      byteCount: max(capacity, 1) * MemoryLayout<Real>.stride, alignment: Arena.alignment)
    pointer = raw.bindMemory(to: Real.self, capacity: max(capacity, 1))
  }

  deinit { UnsafeMutableRawPointer(pointer).deallocate() }
}

/// Free buffers by size class. One thread uses a pool.
package final class BufferPool {
  private var free: [Int: [PooledBuffer]] = [:]

  package init() {}

  /// At least `count` values, uninitialised.
  package func take(_ count: Int) -> PooledBuffer {
    let capacity = BufferPool.sizeClass(count)
    return free[capacity]?.popLast() ?? PooledBuffer(capacity: capacity)
  }

  package func give(_ buffer: PooledBuffer) { free[buffer.capacity, default: []].append(buffer) }

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
