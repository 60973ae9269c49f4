// Reading a configuration's bytes, with errors that say what to do. The module's only system calls.

import Glibc

enum ConfigurationFile {
  /// The file's bytes; one byte beyond the limit of `YAMLDocument` is enough for it to refuse the rest.
  static func read(_ path: String) throws(ConfigurationError) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure(path, errno) }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    while bytes.count <= YAMLDocument.maximumByteCount {
      var failed: Int32 = 0
      let chunk = [UInt8](unsafeUninitializedCapacity: 1 << 16) { buffer, count in
        var got: Int
        repeat { got = Glibc.read(descriptor, buffer.baseAddress, buffer.count) } while got < 0 && errno == EINTR
        if got < 0 { failed = errno }
        count = max(0, got)
      }
      guard failed == 0 else { throw failure(path, failed) }
      if chunk.isEmpty { break }
      bytes += chunk
    }
    return bytes
  }

  private static func failure(_ path: String, _ code: Int32) -> ConfigurationError {
    let message =
      switch code {
      case ENOENT: "no such file; configs/ in the repository has examples"
      case EISDIR: "a folder, and a configuration is a file"
      case EACCES: "may not be read by this user; check its permissions"
      default: "cannot be read: \(String(cString: strerror(code)))"
      }
    return ConfigurationError(.file(path), message)
  }
}
