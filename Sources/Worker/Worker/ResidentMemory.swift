// The resident memory of this process, which workers report in their heartbeats.

import Transport

#if canImport(Glibc)
  import Glibc
#endif

package enum ResidentMemory {
  /// Bytes of resident pages, including libraries: the second number of /proc/self/statm (proc(5)); 0 where it
  /// cannot be read.
  package static var byteCount: Int {
    (ProcessFile.number(1, of: "/proc/self/statm") ?? 0) * sysconf(Int32(_SC_PAGESIZE))
  }
}
