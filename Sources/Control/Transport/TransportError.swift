// Errors of sockets and addresses, as messages that name the address and what to do; and the rules for addresses to
// listen at.

import CZeroMQ
import Configuration

#if canImport(Glibc)
  import Glibc
#endif

package enum TransportError: Error, Equatable, CustomStringConvertible {
  case cannotBind(endpoint: String, reason: String)
  case cannotConnect(endpoint: String, reason: String)
  case clearText(endpoint: String)
  case badEndpoint(String)
  case peerWithoutKey(String)
  case notInWorld
  case otherWorld(String)
  case system(call: String, reason: String)
  case notLetIn(endpoint: String, seconds: Double, key: String)
  case noAnswer(endpoint: String, seconds: Double)

  package var description: String {
    switch self {
    case .cannotBind(let endpoint, let reason): "cannot listen at \(endpoint): \(reason)"
    case .cannotConnect(let endpoint, let reason): "cannot connect to \(endpoint): \(reason)"
    case .clearText(let endpoint):
      "\(endpoint) can be reached from other machines and messages are not encrypted; make a key with ress keys new, "
        + "or listen at tcp://127.0.0.1:PORT or ipc://PATH, or add --insecure where the network is trusted"
    case .peerWithoutKey(let name): "worker \(name) has no key, and this worker accepts only peers that have one"
    case .notInWorld:
      "the run's data travel over MPI (cluster.exchange), and this worker is not one of its ranks; start workers with mpirun or "
        + "srun --mpi=pmix (docs/mpi.md)"
    case .otherWorld(let name): "worker \(name) is not in the MPI world of this one, and MPI cannot reach it"
    case .badEndpoint(let endpoint): "'\(endpoint)' is not an address; write tcp://HOST:PORT or ipc://PATH"
    case .system(let call, let reason): "\(call): \(reason)"
    case .notLetIn(let endpoint, let seconds, let key):
      "no coordinator at \(endpoint) accepts this key (waited \(seconds) s). Either no coordinator listens there; or its key is not "
        + "the one in coordinator.pub; or it does not allow this key: on its machine, ress keys allow '\(key)' --role submit --name NAME"
    case .noAnswer(let endpoint, let seconds):
      "no coordinator answers at \(endpoint) (waited \(seconds) s); start one with: ress coordinator --listen \(endpoint)"
    }
  }

  static func lastReason() -> String {
    let code = zmq_errno()
    return String(cString: zmq_strerror(code))
  }
}

/// Rules for the addresses that a process may listen at.
package enum EndpointPolicy {
  /// Without encryption only this machine may reach an address, unless the operator insists (`--insecure`).
  package static func check(listening endpoint: String, insecure: Bool) throws(TransportError) {
    if endpoint.hasPrefix("ipc://") {
      guard endpoint.utf8.count > 6 else { throw .badEndpoint(endpoint) }
      // sockaddr_un holds 108 bytes including the terminating 0.
      guard endpoint.utf8.count - 6 < 108 else {
        throw .cannotBind(
          endpoint: endpoint, reason: "the path has more than 107 bytes, which Unix sockets cannot take")
      }
      return
    }
    guard let (host, _) = parts(of: endpoint) else { throw .badEndpoint(endpoint) }
    let loopback = host == "localhost" || host == "[::1]" || isLoopback(host)
    guard loopback || insecure else { throw .clearText(endpoint: endpoint) }
  }

  /// The address with a host name replaced by its IP address, because libzmq listens only at addresses and network
  /// interfaces. An address that is not `tcp`, and one that names an interface or all of them, is returned
  /// unchanged.
  package static func resolved(listening endpoint: String) throws(TransportError) -> String {
    guard let (host, port) = parts(of: endpoint), host != "*", !host.hasPrefix("["), if_nametoindex(String(host)) == 0
    else { return endpoint }
    guard let (address, isIPv6) = HostName.address(of: String(host)) else {
      throw .cannotBind(endpoint: endpoint, reason: "no host or network interface has the name '\(host)'")
    }
    return "tcp://" + (isIPv6 ? "[\(address)]" : address) + ":" + port
  }

  /// Host and port of a `tcp` address; nil for other addresses.
  private static func parts(of endpoint: String) -> (host: Substring, port: Substring)? {
    let place = endpoint.dropFirst(6)
    guard endpoint.hasPrefix("tcp://"), let colon = place.lastIndex(of: ":") else { return nil }
    let host = place[..<colon], port = place[place.index(after: colon)...]
    guard !host.isEmpty, port == "*" || Int(port).map({ (0...65_535).contains($0) }) == true else { return nil }
    return (host, port)
  }

  /// Whether other machines can reach the address.
  package static func leavesMachine(_ endpoint: String) -> Bool {
    do throws(TransportError) { try check(listening: endpoint, insecure: false) } catch {
      if case .clearText = error { return true }
    }
    return false
  }

  /// Whether the host is a literal address in 127.0.0.0/8. A host name that merely begins with "127." may be
  /// anywhere.
  private static func isLoopback(_ host: Substring) -> Bool {
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
  }
}
