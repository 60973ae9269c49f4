// Allocation of memory for numbers. Blocks of 2 MiB and more ask for large pages: a product that walks down a
// column touches a different page for each row, and with small pages the processor would spend its time on page
// table look-ups.

#if canImport(Glibc)
  import Glibc
#endif

package enum LargePages {
  private static let size = 2 << 20

  /// Uninitialised memory, to be freed with `deallocate`.
  package static func allocate(byteCount: Int) -> UnsafeMutableRawPointer {
    let isLarge = byteCount >= size
    let pointer = UnsafeMutableRawPointer.allocate(
      byteCount: byteCount, alignment: isLarge ? size : Arena.alignment)
    #if os(Linux)
      // This is advice; where no large page is available, the kernel uses small ones. Only whole large pages are
      // advised, so that a neighbouring block is not affected.
      if isLarge { madvise(pointer, byteCount / size * size, MADV_HUGEPAGE) }
    #endif
    return pointer
  }
}
