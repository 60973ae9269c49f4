// Ensures that only one process prepares an output at a time; two would mix their tokens in one journal. The lock
// is held by the kernel, on a file beside the output, and ends with the process, for whatever reason it ends. The
// file contains a description of the process.

import Foundation

#if canImport(Glibc)
  import Glibc
#endif

struct PreparationLock: ~Copyable {
  private let path: String
  private let descriptor: Int32

  static func path(of output: String) -> String { output + ".lock" }

  /// - Throws: `.busy` with the other process, where one is preparing this output.
  init(output: String) throws(DataError) {
    path = PreparationLock.path(of: output)
    while true {
      let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
      guard descriptor >= 0 else { throw .file(action: "write", path: path, reason: String(cString: strerror(errno))) }
      var result = flock(descriptor, LOCK_EX | LOCK_NB)
      while result != 0 && errno == EINTR { result = flock(descriptor, LOCK_EX | LOCK_NB) }
      if result != 0 {
        let code = errno
        defer { close(descriptor) }
        guard code == EWOULDBLOCK else {
          throw .file(action: "lock", path: path, reason: String(cString: strerror(code)))
        }
        throw .busy(output: output, who: PreparationLock.holder(descriptor))
      }
      // The previous holder may have removed the file after it was opened here. Then this lock protects nothing;
      // try again.
      var own = stat()
      if fstat(descriptor, &own) == 0, FileIdentity(path) == FileIdentity(own) {
        self.descriptor = descriptor
        break
      }
      close(descriptor)
    }
    let text = Array("process \(getpid()) on \(ProcessInfo.processInfo.hostName), since \(Date().ISO8601Format())".utf8)
    _ = ftruncate(descriptor, 0)
    _ = pwrite(descriptor, text, text.count, 0)
  }

  deinit {
    unlink(path)
    close(descriptor)
  }

  private static func holder(_ descriptor: Int32) -> String {
    var bytes = [UInt8](repeating: 0, count: 400)
    let count = pread(descriptor, &bytes, bytes.count, 0)
    return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : "another process"
  }
}
