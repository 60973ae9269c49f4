// Removes a folder with everything in it. Each folder is opened before its entries are removed. A symbolic link is
// removed and never followed, even if it replaces a folder meanwhile, so that nothing outside is touched.

import Foundation

#if canImport(Glibc)
  import Glibc
#endif

enum FolderTree {
  /// Deepest folder that is removed; the program's own folders are much less deep.
  private static let depthLimit = 64
  /// Listings of one folder. A worker that is ending may still write into the folder of a checkpoint that is removed,
  /// so that the folder has new entries after the listed ones were removed.
  private static let listingLimit = 1_000

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
    for _ in 0..<listingLimit {
      for name in list(entries) where remove(name, in: inner, depth: depth + 1) != 0 {
        // Its writer has renamed or removed it meanwhile.
        if errno != ENOENT { return -1 }
      }
      if unlinkat(folder, name, AT_REMOVEDIR) == 0 { return 0 }
      guard errno == ENOTEMPTY || errno == EEXIST else { return -1 }
    }
    return -1
  }

  private static func list(_ entries: OpaquePointer) -> [String] {
    rewinddir(entries)
    var names: [String] = []
    while let entry = readdir(entries) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names
  }
}
