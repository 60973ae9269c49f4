// Makes long paths usable for SQLite, which accepts at most 512 bytes including the names of its journals, while
// file systems permit 4096. A longer path is replaced by one through the descriptor of its opened folder.

import CSQLite

#if canImport(Glibc)
  import Glibc
#endif

struct ShortPath: ~Copyable {
  /// A path of at most 480 bytes, or one through the folder's descriptor.
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
