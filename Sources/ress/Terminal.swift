// Standard output and standard error, written whole and at once: a redrawn line must not wait in a buffer, and a
// reader that went away (`ress … | head`) is no reason for a stack trace.

import Glibc
import Shell
import Synchronization

enum Terminal {
  /// The error of the first write to standard output that failed; 0: none did. A reader that went away is no error.
  private static let failure = Atomic<Int32>(0)

  static func print(_ line: String) { write(line + "\n") }

  /// Text as it is, to standard output.
  static func write(_ text: String) { write(text, to: STDOUT_FILENO) }

  /// An error for a person, to standard error.
  static func complain(_ message: String, by program: String? = "ress") {
    let text = (program.map { $0 + ": " } ?? "") + message
    write((columns(of: STDERR_FILENO).map { Wrapping.wrapped(text, columns: $0) } ?? text) + "\n", to: STDERR_FILENO)
  }

  static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

  /// The width of the terminal; 80 where it does not say.
  static var columns: Int { columns(of: STDOUT_FILENO) ?? 80 }

  /// Nil where the descriptor is no terminal, or one that does not say how wide it is.
  private static func columns(of descriptor: Int32) -> Int? {
    var size = winsize()
    guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return nil }
    return Int(size.ws_col)
  }

  /// Bytes as they are, to standard output.
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
        // A pipe that its reader made non-blocking is full.
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
    complain("the output cannot be written, and is incomplete: \(String(cString: strerror(error)))")
  }

  /// For the end of a command: 1 in place of 0 where its output did not arrive whole. Some file systems (NFS, quotas) say so only when
  /// the file is closed.
  static func exitCode(_ code: Int32) -> Int32 {
    if close(STDOUT_FILENO) != 0, errno != EBADF { note(errno) }
    return code == 0 && failure.load(ordering: .relaxed) != 0 ? 1 : code
  }
}
