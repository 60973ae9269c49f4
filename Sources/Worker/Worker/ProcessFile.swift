// Short files of numbers under /proc (proc(5)), which heartbeats are made of.

#if canImport(Glibc)
  import Glibc
#endif

enum ProcessFile {
  /// The words of the first bytes of a file, between spaces; nil where it cannot be read.
  static func words(_ path: String) -> [String]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var text = [UInt8](repeating: 0, count: 128)
    let count = read(descriptor, &text, text.count)
    guard count > 0 else { return nil }
    return text[..<count].split { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\n") }
      .map { String(decoding: $0, as: UTF8.self) }
  }
}
