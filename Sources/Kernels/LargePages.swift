// Memory for numbers. Blocks of some megabytes ask for large pages: a product that walks down a column touches a page a row, and
// with small ones the processor spends its time on finding them.

#if canImport(Glibc)
  import Glibc
#endif

package enum LargePages {
  private static let size = 2 << 20

  /// Not initialised; give it back with `deallocate`.
  package static func allocate(byteCount: Int) -> UnsafeMutableRawPointer {
    let isLarge = byteCount >= size
    let pointer = UnsafeMutableRawPointer.allocate(
      byteCount: byteCount, alignment: isLarge ? size : Arena.alignment)
    #if os(Linux)
      // Advice: where the kernel has no large page at hand, small ones do. Whole pages only, so that a neighbour is left alone.
      if isLarge { madvise(pointer, byteCount / size * size, MADV_HUGEPAGE) }
    #endif
    return pointer
  }
}
