// One allocation for many buffers. The activations of a step are laid out once, before training, so that a steady
// step allocates nothing. A layout is a function that asks for its buffers one after the other. It is run twice:
// first with an arena that only counts, then with a real one of that size.

#if canImport(Glibc)
  import Glibc
#endif

/// Hands out aligned pieces of one block, in order. It is made by `Arena.build`, which runs the layout twice: to
/// count and to place.
package final class Arena {
  /// Bytes: a cache line, and enough for 512-bit vectors.
  package static let alignment = 64

  private let base: UnsafeMutableRawPointer?
  private let capacity: Int
  private var used = 0

  /// Number of bytes of this arena.
  package var byteCount: Int { capacity }

  /// False while the layout is only being counted; its pointers must not be used then.
  package var isReal: Bool { base != nil }

  /// Runs `layout` with a counting arena, then with a zero-filled one of that size.
  package static func build<Layout>(_ layout: (Arena) -> Layout) -> (Arena, Layout) {
    let counting = Arena()
    _ = layout(counting)
    let arena = Arena(byteCount: max(counting.used, alignment))
    return (arena, layout(arena))
  }

  /// Bytes that a layout would take, at most `most`.
  package static func measure(_ layout: (Arena) -> Void) -> Int {
    let counting = Arena()
    layout(counting)
    return counting.used
  }

  /// Upper bound of all counts of bytes, so that sums and small multiples of them do not overflow. No machine has
  /// that much memory.
  package static let most = 1 << 58

  /// `count` times `byteCount`, at most `most`.
  package static func bytes(_ count: Int, times byteCount: Int) -> Int {
    let (product, overflow) = count.multipliedReportingOverflow(by: byteCount)
    return overflow ? most : min(product, most)
  }

  private init() {
    base = nil
    capacity = .max
  }

  private init(byteCount: Int) {
    base = LargePages.allocate(byteCount: byteCount)
    memset(base!, 0, byteCount)
    capacity = byteCount
  }

  deinit { base?.deallocate() }

  private func take<Element>(_ count: Int, of type: Element.Type) -> UnsafeMutablePointer<Element> {
    let byteCount =
      (Arena.bytes(count, times: MemoryLayout<Element>.stride) + Arena.alignment - 1) & ~(Arena.alignment - 1)
    defer { used = min(used + byteCount, Arena.most) }
    guard let base else {
      // Counting only: the layout records the address but must not use it.
      return UnsafeMutablePointer(bitPattern: Arena.alignment)!
    }
    precondition(used + byteCount <= capacity, "arena of \(capacity) bytes asked for more than it measured")
    return (base + used).bindMemory(to: Element.self, capacity: max(count, 1))
  }

  /// Room for `count` floats, aligned for vectors.
  package func reals(_ count: Int) -> RealPointer { take(count, of: Real.self) }
  package func indices(_ count: Int) -> UnsafeMutablePointer<Int32> { take(count, of: Int32.self) }
  package func shorts(_ count: Int) -> UnsafeMutablePointer<UInt16> { take(count, of: UInt16.self) }
  /// Room for a matrix, row after row without gaps.
  package func matrix(_ rows: Int, _ columns: Int) -> Matrix {
    Matrix(reals(base == nil ? Arena.bytes(rows, times: columns) : rows * columns), rows: rows, columns: columns)
  }
}
