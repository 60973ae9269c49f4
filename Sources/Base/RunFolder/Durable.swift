// Writes files so that they are complete and on disk when a call returns.
//
// A file is written under another name, flushed, and renamed over the old one. Then its folder is flushed as well,
// because a rename is only in the kernel's memory until then. At every moment the path names the old file or the
// complete new one.

import CLinux
import Foundation

#if canImport(Glibc)
  import Glibc
#endif

/// An error with a file or folder of a run, as a message that names it.
package enum FolderError: Error, Equatable, CustomStringConvertible {
  /// `code` is the errno of the failed call; 0 where there was none.
  case system(action: String, path: String, reason: String, code: Int32 = 0)
  case damaged(path: String, problem: String)
  case missing(path: String, hint: String)
  /// The path lies outside of the folders that the coordinator permits runs to use.
  case outside(path: String, roots: [String])
  /// Another coordinator uses the folder.
  case inUse(path: String, holder: String)

  package var description: String {
    switch self {
    case .system(let action, let path, let reason, _): "cannot \(action) \(path): \(reason)"
    case .damaged(let path, let problem): "\(path) is damaged: \(problem)"
    case .inUse(let path, let holder):
      "\(path) is being written by another coordinator\(holder.isEmpty ? "" : ", \(holder)"); "
        + "end the run there, or choose another name with --set run=NAME"
    case .missing(let path, let hint): "\(path) does not exist\(hint.isEmpty ? "" : "; " + hint)"
    case .outside(let path, let roots):
      "cannot use \(path): it lies outside of the folders that this coordinator lets runs use "
        + "(\(roots.joined(separator: ", ")))"
    }
  }
}

extension FolderError {
  /// Whether another attempt would give the same result: the file is gone or damaged.
  package var isFinal: Bool {
    switch self {
    case .system, .inUse: false
    case .damaged, .missing, .outside: true
    }
  }

  /// Whether the cause is temporary: the process or machine lacks a resource that other processes will release.
  package var isPassing: Bool {
    guard case .system(_, _, _, let code) = self else { return false }
    return [EMFILE, ENFILE, ENOMEM, EAGAIN, EINTR, ESTALE, ENOTEMPTY].contains(code)
  }
}

package enum Durable {
  /// The error of the system call that has just failed (errno).
  static func fail(_ action: String, _ path: String) -> FolderError {
    let code = errno
    return .system(action: action, path: path, reason: String(cString: strerror(code)), code: code)
  }

  /// The folder of a path; a name without a folder is in the current one.
  private static func parent(of path: String) -> String {
    let parent = (path as NSString).deletingLastPathComponent
    return parent.isEmpty ? "." : parent
  }

  /// Creates a folder and those above it. An existing folder is not an error.
  package static func makeFolder(_ path: String) throws(FolderError) {
    if mkdir(path, 0o777) == 0 { return }
    let error = fail("create the folder", path)
    guard case .system(_, _, _, let code) = error else { throw error }
    var status = stat()
    switch code {
    case ENOENT where parent(of: path) != path:
      try makeFolder(parent(of: path))
      if mkdir(path, 0o777) != 0 && errno != EEXIST { throw fail("create the folder", path) }
    // On a read-only file system this is also the answer for a folder that exists.
    case EEXIST, EROFS, EACCES, EPERM, EISDIR:
      guard stat(path, &status) == 0 else { throw error }
      guard status.st_mode & S_IFMT == S_IFDIR else {
        throw .system(action: "create the folder", path: path, reason: "a file with that name exists")
      }
    case ENOTDIR:
      throw .system(action: "create the folder", path: path, reason: "a part of its path is a file", code: code)
    default: throw error
    }
  }

  /// The contents of a file.
  /// - Parameter followsLinks: whether the name may be a symbolic link.
  package static func read(_ path: String, followsLinks: Bool = true) throws(FolderError) -> [UInt8] {
    // Without O_NONBLOCK, opening a named pipe would block until a process writes to it.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | (followsLinks ? 0 : O_NOFOLLOW))
    guard descriptor >= 0 else { throw fail("read", path) }
    defer { close(descriptor) }
    return try read(from: descriptor, path)
  }

  /// The rest of an open file, from its current offset.
  static func read(from descriptor: Int32, _ path: String) throws(FolderError) -> [UInt8] {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = Glibc.read(descriptor, &buffer, buffer.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw fail("read", path) }
      if count == 0 { return bytes }
      bytes += buffer[..<count]
    }
  }

  /// The contents of a file, or `other` where the file does not exist. A file that exists and cannot be read is an
  /// error.
  package static func read(
    _ path: String, followsLinks: Bool = true, orWhereMissing other: [UInt8]
  ) throws(FolderError) -> [UInt8] {
    do throws(FolderError) { return try read(path, followsLinks: followsLinks) } catch {
      if case .system(_, _, _, ENOENT) = error { return other }
      throw error
    }
  }

  /// Writes all bytes to an open file.
  static func write(_ bytes: [UInt8], into descriptor: Int32, _ path: String) throws(FolderError) {
    var written = 0
    while written < bytes.count {
      let count = bytes[written...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw fail("write", path) }
      written += count
    }
  }

  /// Flushes a file or a folder to disk.
  package static func sync(_ path: String) throws(FolderError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw fail("open", path) }
    defer { close(descriptor) }
    while fsync(descriptor) != 0 { if errno != EINTR { throw fail("flush to disk", path) } }
  }

  /// Replaces the file `path` by one with these bytes. At every moment the path names the old file or the complete
  /// new one.
  /// - Parameter mode: permissions, set before the first byte is written; nil uses the process's defaults.
  package static func write(_ bytes: [UInt8], to path: String, mode: mode_t? = nil) throws(FolderError) {
    if let problem = OutputPlace.problem(path) { throw .system(action: "write", path: path, reason: problem) }
    let aside = path + ".aside"
    // A file that an earlier attempt left is removed. So is a symbolic link, through which nothing must be written.
    unlink(aside)
    let descriptor = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw fail("create", aside) }
    if let mode, fchmod(descriptor, mode) != 0 {
      let error = fail("protect", aside)
      close(descriptor)
      throw error
    }
    do throws(FolderError) { try write(bytes, into: descriptor, aside) } catch {
      close(descriptor)
      unlink(aside)
      throw error
    }
    close(descriptor)
    try sync(aside)
    guard rename(aside, path) == 0 else { throw fail("rename \(aside) to", path) }
    try sync(parent(of: path))
  }

  /// Replaces the file `path` by the file `fresh`, atomically and durably.
  static func replaceFile(_ path: String, by fresh: String) throws(FolderError) {
    try sync(fresh)
    guard rename(fresh, path) == 0 else { throw fail("rename \(fresh) to", path) }
    try sync(parent(of: path))
  }

  /// Replaces the folder `path` by the folder `fresh`. Where `path` exists, even as a file, the two are exchanged
  /// atomically and the old one is removed. On a file system that cannot exchange names (FUSE, NFS) it takes two
  /// renames, between which `path` does not exist.
  package static func replaceFolder(
    _ path: String, by fresh: String, exchange: (String, String) -> Int32 = { ress_exchange($0, $1) }
  ) throws(FolderError) {
    let parent = parent(of: path)
    if rename(fresh, path) != 0 {
      guard [EEXIST, ENOTEMPTY, ENOTDIR].contains(errno) else { throw fail("rename \(fresh) to", path) }
      if exchange(fresh, path) == 0 {
        try sync(parent)
        try removeFolder(fresh)
      } else {
        guard [EINVAL, ENOSYS, ENOTSUP].contains(errno) else { throw fail("exchange \(fresh) with", path) }
        let old = path + ".replaced"
        if access(old, F_OK) == 0 { try removeFolder(old) }
        guard rename(path, old) == 0 else { throw fail("rename \(path) to", old) }
        guard rename(fresh, path) == 0 else { throw fail("rename \(fresh) to", path) }
        try sync(parent)
        try removeFolder(old)
      }
    }
    try sync(parent)
  }

  package static func removeFolder(_ path: String) throws(FolderError) {
    guard FolderTree.remove(path) == 0 else { throw fail("remove", path) }
  }
}
