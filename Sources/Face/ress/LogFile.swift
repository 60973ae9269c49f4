// Lines with their time, for processes without a terminal.

import Glibc

enum Log {
  /// `2026-11-23T21:50:07Z text`
  static func line(_ text: String) -> String {
    var seconds = time(nil), parts = tm()
    gmtime_r(&seconds, &parts)
    var buffer = [CChar](repeating: 0, count: 32)
    let count = strftime(&buffer, buffer.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
    return String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) + " " + text
  }

  /// To standard error, where a daemon's log goes.
  static func write(_ text: String) { Terminal.complain(line(text), by: nil) }
}

/// A file to which any thread can append lines; each line is one write.
final class LogFile: Sendable {
  private let descriptor: Int32

  init(_ path: String) throws(ProcessError) {
    descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      throw ProcessError(description: "cannot write the log \(path): \(String(cString: strerror(errno)))")
    }
  }

  @Sendable func write(_ text: String) {
    let bytes = Array((Log.line(text) + "\n").utf8)
    _ = Glibc.write(descriptor, bytes, bytes.count)
  }

  deinit { close(descriptor) }
}
