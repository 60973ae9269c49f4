// Where a command may write. A file that is written aside and renamed replaces whatever has its name: a device, a pipe or a socket would
// be gone, for everybody on the machine where a user is root.

#if canImport(Glibc)
  import Glibc
#endif

package enum OutputPlace {
  /// Why a file cannot be written at `path`; nil where nothing is there, or an ordinary file.
  package static func problem(_ path: String) -> String? {
    var info = stat()
    guard stat(path, &info) == 0 else { return nil }
    switch info.st_mode & S_IFMT {
    case S_IFREG: return nil
    case S_IFDIR: return "it is a folder; name a file"
    case S_IFIFO: return "it is a pipe, and an ordinary file would take its place; name a file"
    case S_IFSOCK: return "it is a socket, and an ordinary file would take its place; name a file"
    default: return "it is a device, and an ordinary file would take its place; name a file"
    }
  }
}
