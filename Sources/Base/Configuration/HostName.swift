// Resolves host names. libzmq and libmicrohttpd listen only at addresses, but users write names.

#if canImport(Glibc)
  import Glibc
#endif

package enum HostName {
  /// The address of a name, IPv4 before IPv6; an address is returned unchanged. Nil if the system knows no such host.
  package static func address(of name: String) -> (text: String, isIPv6: Bool)? {
    for family in [AF_INET, AF_INET6] {
      var hints = addrinfo()
      hints.ai_family = family
      hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
      var found: UnsafeMutablePointer<addrinfo>?
      guard getaddrinfo(name, nil, &hints, &found) == 0, let found else { continue }
      defer { freeaddrinfo(found) }
      var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
      let status = getnameinfo(
        found.pointee.ai_addr, found.pointee.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST)
      guard status == 0 else { continue }
      let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      return (String(decoding: bytes, as: UTF8.self), family == AF_INET6)
    }
    return nil
  }
}
