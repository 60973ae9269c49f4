// Files that are there, whole, when a call returns: written aside, flushed to disk, renamed, and the folder flushed too,
// because a rename is only a note in the folder until then.

import CLinux
import Foundation

#if canImport(Glibc)
  import Glibc
#endif

/// What went wrong with a file or folder of a run, in words that name it.
package enum FolderError: Error, Equatable, CustomStringConvertible {
  case system(action: String, path: String, reason: String)
  case damaged(path: String, problem: String)
  case missing(path: String, hint: String)

  package var description: String {
    switch self {
    case .system(let action, let path, let reason): "cannot \(action) \(path): \(reason)"
    case .damaged(let path, let problem): "\(path) is damaged: \(problem)"
    case .missing(let path, let hint): "\(path) does not exist\(hint.isEmpty ? "" : "; " + hint)"
    }
  }
}

package enum Durable {
  private static func fail(_ action: String, _ path: String) -> FolderError {
    .system(action: action, path: path, reason: String(cString: strerror(errno)))
  }

  /// A name alone lies in the folder that the process is in.
  private static func parent(of path: String) -> String {
    let parent = (path as NSString).deletingLastPathComponent
    return parent.isEmpty ? "." : parent
  }

  /// Creates a folder and the ones above it.
  package static func makeFolder(_ path: String) throws(FolderError) {
    do { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) } catch {
      var isFolder: ObjCBool = false
      let exists = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
      if exists && !isFolder.boolValue {
        throw .system(action: "create the folder", path: path, reason: "a file of that name is in the way")
      }
      throw fail("create the folder", path)
    }
  }

  /// Flushes a file or a folder to disk.
  package static func sync(_ path: String) throws(FolderError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw fail("open", path) }
    defer { close(descriptor) }
    while fsync(descriptor) != 0 { if errno != EINTR { throw fail("flush to disk", path) } }
  }

  /// Replaces `path` by a file with these bytes, so that at every moment the old one or the new one is there whole.
  /// - Parameter mode: who may read it, from before its first byte; nil: as the process makes files.
  package static func write(_ bytes: [UInt8], to path: String, mode: mode_t? = nil) throws(FolderError) {
    if let problem = OutputPlace.problem(path) { throw .system(action: "write", path: path, reason: problem) }
    let aside = path + ".aside"
    // What an earlier try left there goes; a symbolic link goes too, and is not written through.
    unlink(aside)
    let descriptor = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw fail("create", aside) }
    if let mode, fchmod(descriptor, mode) != 0 {
      let error = fail("protect", aside)
      close(descriptor)
      throw error
    }
    var written = 0
    while written < bytes.count {
      let count = bytes[written...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else {
        let error = fail("write", aside)
        close(descriptor)
        unlink(aside)
        throw error
      }
      written += count
    }
    close(descriptor)
    try sync(aside)
    guard rename(aside, path) == 0 else { throw fail("rename \(aside) to", path) }
    try sync(parent(of: path))
  }

  /// Makes the file `path` the one that `fresh` is, in one step; both are on disk then.
  package static func replaceFile(_ path: String, by fresh: String) throws(FolderError) {
    try sync(fresh)
    guard rename(fresh, path) == 0 else { throw fail("rename \(fresh) to", path) }
    try sync(parent(of: path))
  }

  /// Makes the folder `path` the one that `fresh` is. Where `path` exists, be it a file, the two change places in one step, so that there
  /// is never a moment without it; the old one is then removed. A file system that cannot exchange (FUSE, NFS) gets two renames, and a
  /// moment with neither.
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
