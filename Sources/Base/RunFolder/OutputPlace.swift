// Checks where a command is about to write. Files are written under another name and renamed, which replaces
// whatever has the name: a device such as /dev/null would be replaced for every user of the machine, where the user
// is root.

#if canImport(Glibc)
  import Glibc
#endif

package enum OutputPlace {
  /// Why a file must not be written at `path`; nil where nothing or an ordinary file is there.
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
