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
  private let mapped: Bool
  private var used = 0

  package enum Backing {
    case memory
    /// An unlinked file in the temporary folder: the kernel may move its pages to disk, so it never exhausts memory.
    case file
  }

  /// Bytes this arena holds.
  package var byteCount: Int { capacity }

  /// Whether its pieces are memory, and not only counted.
  package var isReal: Bool { base != nil }

  /// Runs `layout` against a counting arena, then against a real one of that size, zero-filled.
  package static func build<Layout>(backing: Backing = .memory, _ layout: (Arena) -> Layout) -> (Arena, Layout) {
    let counting = Arena()
    _ = layout(counting)
    let arena = Arena(byteCount: max(counting.used, alignment), backing: backing)
    return (arena, layout(arena))
  }

  /// Bytes that a layout would take.
  package static func measure(_ layout: (Arena) -> Void) -> Int {
    let counting = Arena()
    layout(counting)
    return counting.used
  }

  private init() {
    base = nil
    capacity = .max
    mapped = false
  }

  private init(byteCount: Int, backing: Backing) {
    var mapping: UnsafeMutableRawPointer?
    if backing == .file { mapping = Arena.mapUnlinkedFile(byteCount: byteCount) }
    mapped = mapping != nil
    base = mapping ?? UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: Arena.alignment)
    if mapping == nil { memset(base!, 0, byteCount) }
    capacity = byteCount
  }

  deinit {
    guard let base else { return }
    if mapped { munmap(base, capacity) } else { base.deallocate() }
  }

  private func take<Element>(_ count: Int, of type: Element.Type) -> UnsafeMutablePointer<Element> {
    let byteCount = (count * MemoryLayout<Element>.stride + Arena.alignment - 1) & ~(Arena.alignment - 1)
    defer { used += byteCount }
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
    Matrix(reals(rows * columns), rows: rows, columns: columns)
  }

  /// Nil where the temporary folder refuses; the arena then takes memory, which the caller would have preferred anyway.
  private static func mapUnlinkedFile(byteCount: Int) -> UnsafeMutableRawPointer? {
    let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/var/tmp"
    var path = Array((folder + "/ress-sequence-XXXXXX").utf8CString)
    let descriptor = mkstemp(&path)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    unlink(path)
    guard ftruncate(descriptor, byteCount) == 0 else { return nil }
    let address = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
    return address == MAP_FAILED ? nil : address
  }
}
