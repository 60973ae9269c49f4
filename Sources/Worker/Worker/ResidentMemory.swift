// The resident memory of this process, which workers report in their heartbeats.

#if canImport(Glibc)
  import Glibc
#endif

package enum ResidentMemory {
  /// Bytes of resident pages, including libraries: the second number of /proc/self/statm (proc(5)); 0 where it
  /// cannot be read.
  package static var byteCount: Int {
    let descriptor = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return 0 }
    defer { close(descriptor) }
    var text = [UInt8](repeating: 0, count: 128)
    let count = read(descriptor, &text, text.count)
    guard count > 0 else { return 0 }
    let words = text[..<count].split(separator: UInt8(ascii: " "))
    guard words.count > 1, let pages = Int(String(decoding: words[1], as: UTF8.self)) else { return 0 }
    return pages * sysconf(Int32(_SC_PAGESIZE))
  }
}
