// One allocation for many buffers. A step's activations are laid out once, before training, so that a steady step
// allocates nothing; what an arena measured in a dry run is what it then allocates.

#if canImport(Glibc)
  import Glibc
#endif

/// Hands out aligned pieces of one block, in order. Make it with `Arena.measuring`, which runs the layout twice: once to
/// count, once to place.
package final class Arena {
  /// A cache line, and enough for 512-bit vectors.
  package static let alignment = 64

  private let base: UnsafeMutableRawPointer?
  private let capacity: Int
  private var used = 0

  /// Bytes this arena holds.
  package var byteCount: Int { capacity }

  /// Whether its pieces are memory, and not only counted.
  package var isReal: Bool { base != nil }

  /// Runs `layout` against a counting arena, then against a real one of that size, zero-filled.
  package static func build<Layout>(_ layout: (Arena) -> Layout) -> (Arena, Layout) {
    let counting = Arena()
    _ = layout(counting)
    let arena = Arena(byteCount: max(counting.used, alignment))
    return (arena, layout(arena))
  }

  /// Bytes that a layout would take; `most` where it is more.
  package static func measure(_ layout: (Arena) -> Void) -> Int {
    let counting = Arena()
    layout(counting)
    return counting.used
  }

  /// Counts of bytes end here, so that sums and small multiples of them stay whole numbers: no machine has as much.
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
      // Counting only: an address that no one follows, because the layout merely records it.
      return UnsafeMutablePointer(bitPattern: Arena.alignment)!
    }
    precondition(used + byteCount <= capacity, "arena of \(capacity) bytes asked for more than it measured")
    return (base + used).bindMemory(to: Element.self, capacity: max(count, 1))
  }

  package func reals(_ count: Int) -> RealPointer { take(count, of: Real.self) }
  package func indices(_ count: Int) -> UnsafeMutablePointer<Int32> { take(count, of: Int32.self) }
  package func shorts(_ count: Int) -> UnsafeMutablePointer<UInt16> { take(count, of: UInt16.self) }
  package func matrix(_ rows: Int, _ columns: Int) -> Matrix {
    Matrix(reals(base == nil ? Arena.bytes(rows, times: columns) : rows * columns), rows: rows, columns: columns)
  }
}
