// Short files that the kernel makes, such as those under /proc (proc(5)). They are read often, so without Foundation.

#if canImport(Glibc)
  import Glibc
#endif

package enum ProcessFile {
  /// The first 128 bytes of a file; nil where it cannot be read or is empty.
  package static func text(of path: String) -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    return withUnsafeTemporaryAllocation(byteCount: 128, alignment: 1) { buffer in
      let count = read(file, buffer.baseAddress, buffer.count)
      return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
    }
  }

  /// The number at `place`, counted from 0, in a file whose numbers are separated by spaces. Nil if the file cannot be
  /// read or has no number there.
  package static func number(_ place: Int, of path: String) -> Int? {
    let words = text(of: path)?.split { $0 == " " || $0 == "\n" } ?? []
    return words.indices.contains(place) ? Int(words[place]) : nil
  }
}
