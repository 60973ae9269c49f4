// Removes a folder with everything in it. Each folder is opened before its entries are removed. A symbolic link is
// removed and never followed, even if it replaces a folder meanwhile, so that nothing outside is touched.

import Foundation

#if canImport(Glibc)
  import Glibc
#endif

enum FolderTree {
  /// Deepest folder that is removed; the program's own folders are much less deep.
  private static let depthLimit = 64

  /// Removes what `path` names, which need not be a folder. Returns 0, or -1 with errno set.
  static func remove(_ path: String) -> Int32 {
    let name = (path as NSString).lastPathComponent
    let parent = (path as NSString).deletingLastPathComponent
    let above = open(parent.isEmpty ? "." : parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard above >= 0 else { return -1 }
    defer { close(above) }
    return remove(name, in: above, depth: 0)
  }

  private static func remove(_ name: String, in folder: Int32, depth: Int) -> Int32 {
    if unlinkat(folder, name, 0) == 0 { return 0 }
    // For a folder, unlinkat fails with EISDIR on Linux and EPERM elsewhere (POSIX).
    guard errno == EISDIR || errno == EPERM else { return -1 }
    guard depth < depthLimit else {
      errno = ELOOP
      return -1
    }
    let inner = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard inner >= 0 else { return -1 }
    guard let entries = fdopendir(inner) else {
      close(inner)
      return -1
    }
    defer { closedir(entries) }
    var names: [String] = []
    while let entry = readdir(entries) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { names.append(name) }
    }
    for name in names { if remove(name, in: inner, depth: depth + 1) != 0 { return -1 } }
    return unlinkat(folder, name, AT_REMOVEDIR)
  }
}
