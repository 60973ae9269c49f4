// Standard output and standard error, written completely and unbuffered: a redrawn line must not wait in a buffer, and
// a reader that closed the pipe (`ress … | head`) must not cause a crash.

import Glibc
import Shell
import Synchronization

enum Terminal {
  /// The error number of the first failed write to standard output, or 0. A reader that closed the pipe is not an
  /// error.
  private static let failure = Atomic<Int32>(0)

  static func print(_ line: String) { write(line + "\n") }

  /// Writes text to standard output, as it is.
  static func write(_ text: String) { write(text, to: STDOUT_FILENO) }

  /// Writes an error message to standard error.
  static func complain(_ message: String, by program: String? = "ress") {
    let text = (program.map { $0 + ": " } ?? "") + message
    write((columns(of: STDERR_FILENO).map { Wrapping.wrapped(text, columns: $0) } ?? text) + "\n", to: STDERR_FILENO)
  }

  static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

  /// The width of the terminal, or 80 if it is unknown.
  static var columns: Int { columns(of: STDOUT_FILENO) ?? 80 }

  /// Nil if the descriptor is not a terminal, or one of unknown width.
  private static func columns(of descriptor: Int32) -> Int? {
    var size = winsize()
    guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return nil }
    return Int(size.ws_col)
  }

  /// Writes bytes to standard output, as they are.
  static func write(bytes: [UInt8]) { write(bytes, to: STDOUT_FILENO) }

  private static func write(_ text: String, to descriptor: Int32) { write(Array(text.utf8), to: descriptor) }

  private static func write(_ all: [UInt8], to descriptor: Int32) {
    var bytes = all[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count > 0 {
        bytes = bytes.dropFirst(count)
        continue
      }
      switch count < 0 ? errno : EIO {
      case EINTR: continue
      case EAGAIN:
        // The pipe is full, and its reader has made it non-blocking.
        var full = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        _ = poll(&full, 1, -1)
      default:
        if descriptor == STDOUT_FILENO { note(count < 0 ? errno : EIO) }
        return
      }
    }
  }

  private static func note(_ error: Int32) {
    guard error != EPIPE, failure.compareExchange(expected: 0, desired: error, ordering: .relaxed).exchanged else {
      return
    }
    complain("the output cannot be written completely: \(String(cString: strerror(error)))")
  }

  /// The exit code at the end of a command: 1 instead of 0 if its output was not written completely. Some file systems
  /// (NFS, quotas) report this only when the file is closed.
  static func exitCode(_ code: Int32) -> Int32 {
    if close(STDOUT_FILENO) != 0, errno != EBADF { note(errno) }
    return code == 0 && failure.load(ordering: .relaxed) != 0 ? 1 : code
  }
}
