// Unix sockets with abstract names: those of workers that listen at a network address, for the other workers of their
// machine.

import Configuration
import Wire

#if canImport(Glibc)
  import Glibc
#endif

package enum LocalSocket {
  /// What an abstract name begins with, as libzmq writes it.
  package static let prefix = "ipc://@ress-"

  /// The address at which a worker reaches a peer: a Unix socket where both are on one machine and the peer listens
  /// there. Two virtual machines that are copies of one that was running look like one machine, so it is tried out.
  package static func address(
    of peer: WorkerDescription, from own: WorkerDescription, _ way: SameMachine,
    isListening: (String) -> Bool = LocalSocket.isListening
  ) -> String {
    guard way != .network, let local = peer.localAddress, local.hasPrefix(prefix), let machine = own.machine,
      machine == peer.machine, isListening(local)
    else { return peer.dataAddress }
    return local
  }

  /// Whether a process listens at an abstract name, in this network namespace.
  package static func isListening(_ endpoint: String) -> Bool {
    let name = Array(endpoint.utf8.dropFirst("ipc://@".utf8.count))
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    // The name begins with a 0 and is as long as the address says.
    guard 1 + name.count <= MemoryLayout.size(ofValue: address.sun_path) else { return false }
    withUnsafeMutableBytes(of: &address.sun_path) { path in
      for (place, byte) in name.enumerated() { path[1 + place] = byte }
    }
    let size = MemoryLayout<sa_family_t>.size + 1 + name.count
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(size)) == 0 }
    }
  }
}
