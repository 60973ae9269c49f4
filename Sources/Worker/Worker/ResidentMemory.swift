// The resident memory of this process, which workers report in their heartbeats.

#if canImport(Glibc)
  import Glibc
#endif

package enum ResidentMemory {
  /// Bytes of resident pages, including libraries: the second number of /proc/self/statm (proc(5)); 0 where it
  /// cannot be read.
  package static var byteCount: Int {
    guard let words = ProcessFile.words("/proc/self/statm"), words.count > 1, let pages = Int(words[1]) else {
      return 0
    }
    return pages * sysconf(Int32(_SC_PAGESIZE))
  }
}
