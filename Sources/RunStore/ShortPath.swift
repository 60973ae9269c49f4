// SQLite takes paths of up to 512 bytes, those of its journals included, and file systems take 4096. A longer path is named through its
// folder, opened.

import CSQLite

#if canImport(Glibc)
  import Glibc
#endif

struct ShortPath: ~Copyable {
  /// Names the same file as the path that it was made of.
  let text: String
  private let folder: Int32

  private static let longest = 480
  private static let keepsFolders: Void = ress_sqlite_keep_open_folders()

  init(_ path: String) throws(StoreError) {
    guard path.utf8.count > ShortPath.longest, let slash = path.lastIndex(of: "/") else {
      (text, folder) = (path, -1)
      return
    }
    _ = ShortPath.keepsFolders
    folder = open(String(path[..<slash]) + "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard folder >= 0 else { throw .failed(path: path, action: "open", reason: String(cString: strerror(errno))) }
    text = "/proc/\(getpid())/fd/\(folder)" + path[slash...]
  }

  deinit { if folder >= 0 { close(folder) } }
}
