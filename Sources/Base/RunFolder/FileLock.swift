// An exclusive lock on a file. It is held by the process that took it and is released when that process ends, for
// whatever reason.

#if canImport(Glibc)
  import Glibc
#endif

package enum LockError: Error, Equatable {
  /// Another process holds the lock; the text is what that process wrote about itself into the file.
  case held(by: String)
  /// The file system has no locks (`hasNoLocks`), or the file cannot be created.
  case failed(path: String, reason: String, code: Int32)
}

extension LockError {
  /// Whether the file system cannot lock, so that no process can.
  package var hasNoLocks: Bool {
    guard case .failed(_, _, let code) = self else { return false }
    return [ENOLCK, ENOSYS, EOPNOTSUPP, EINVAL].contains(code)
  }
}

package final class FileLock: Sendable {
  private let descriptor: Int32

  /// Takes the lock, or throws `held`. The file is created where it is missing and is not removed; a symbolic link
  /// is refused.
  /// - Parameter holder: a description of this process, which a second process is shown.
  package init(_ path: String, holder: String) throws(LockError) {
    func fail() -> LockError { .failed(path: path, reason: String(cString: strerror(errno)), code: errno) }
    while true {
      let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
      guard descriptor >= 0 else { throw fail() }
      guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
        defer { close(descriptor) }
        guard errno == EWOULDBLOCK else { throw fail() }
        var text = [UInt8](repeating: 0, count: 200)
        let count = max(0, read(descriptor, &text, text.count))
        throw .held(by: String(decoding: text.prefix(count), as: UTF8.self))
      }
      // If the file was removed or replaced meanwhile, the lock on it is worthless: the next process would create
      // another file.
      var mine = stat(), there = stat()
      guard fstat(descriptor, &mine) == 0, stat(path, &there) == 0, mine.st_ino == there.st_ino,
        mine.st_dev == there.st_dev
      else {
        close(descriptor)
        continue
      }
      let bytes = Array(holder.utf8)
      _ = ftruncate(descriptor, 0)
      _ = pwrite(descriptor, bytes, bytes.count, 0)
      self.descriptor = descriptor
      return
    }
  }

  deinit { close(descriptor) }
}
