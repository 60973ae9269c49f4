// libzmq removes whatever lies at an ipc path before it listens there: a coordinator that is still in use would lose its
// address without a word, and a mistyped path the file it names. So the path is looked at first.

import Wire

#if canImport(Glibc)
  import Glibc
#endif

enum IPCPath {
  /// Throws unless nothing lies at the endpoint's path, or a socket that nobody listens at: what an earlier process left.
  /// Two processes that look in the same moment can still both find it free.
  static func checkFree(_ endpoint: String) throws(TransportError) {
    let path = String(endpoint.dropFirst("ipc://".count))
    // An abstract name has no file, and a wildcard gets a new one.
    guard endpoint.hasPrefix("ipc://"), !path.hasPrefix("@"), path != "*" else { return }
    var status = stat()
    guard lstat(path, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFSOCK else {
      throw .cannotBind(endpoint: endpoint, reason: "something that is no socket has this path; choose another one")
    }
    // libzmq closes a socket in the background: a listener of this very process may need a moment to go.
    for _ in 0..<graceTurns {
      guard isListening(path) else { return }
      usleep(20_000)
    }
    throw .cannotBind(endpoint: endpoint, reason: String(cString: strerror(EADDRINUSE)))
  }

  /// Of 20 ms each.
  private static let graceTurns = 25

  private static func isListening(_ path: String) -> Bool {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    // The path was checked to leave room for its last 0.
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
      }
    }
  }
}
