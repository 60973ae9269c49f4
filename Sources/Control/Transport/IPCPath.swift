// Checks the path of an `ipc://` address before listening. libzmq removes whatever exists at the path without
// asking: a coordinator that is still running would lose its address, and a mistyped path would delete another
// file.

import Wire

#if canImport(Glibc)
  import Glibc
#endif

enum IPCPath {
  /// Throws unless nothing exists at the endpoint's path, or only a socket that no process listens at, which an
  /// earlier process left. Two processes that check at the same moment may both find the path free.
  static func checkFree(_ endpoint: String) throws(TransportError) {
    let path = String(endpoint.dropFirst("ipc://".count))
    // An abstract name has no file, and a wildcard gets a new file.
    guard endpoint.hasPrefix("ipc://"), !path.hasPrefix("@"), path != "*" else { return }
    var status = stat()
    guard lstat(path, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFSOCK else {
      throw .cannotBind(endpoint: endpoint, reason: "a file that is not a socket has this path; choose another one")
    }
    // libzmq closes sockets in the background, so a listener of this same process may need a moment to disappear.
    for _ in 0..<graceTurns {
      guard isListening(path) else { return }
      usleep(20_000)
    }
    throw .cannotBind(endpoint: endpoint, reason: String(cString: strerror(EADDRINUSE)))
  }

  /// Attempts, 20 ms apart.
  private static let graceTurns = 25

  private static func isListening(_ path: String) -> Bool {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    // EndpointPolicy has checked that the path is short enough for its terminating 0.
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
      }
    }
  }
}
