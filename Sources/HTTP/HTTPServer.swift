// A small HTTP server for what a coordinator shows: it reads nothing but requests, and changes nothing. libmicrohttpd speaks the protocol.

import CMicrohttpd
import Configuration

#if canImport(Glibc)
  import Glibc
#endif

package enum HTTPError: Error, Equatable, CustomStringConvertible {
  case badAddress(String)
  case needsToken(String)
  case cannotListen(String)

  package var description: String {
    switch self {
    case .badAddress(let text):
      "'\(text)' is not an address for HTTP; write HOST:PORT with a host's name or IPv4 address, such as 127.0.0.1:7078"
    case .needsToken(let text):
      "\(text) can be reached from other machines; --http-token FILE names a file with the word that they must say"
    case .cannotListen(let text): "cannot listen for HTTP at \(text); is the port in use?"
    }
  }
}

package final class HTTPServer: @unchecked Sendable {
  private var daemon: OpaquePointer?
  private let token: String?
  private let open: Set<String>
  private let answer: @Sendable (HTTPRequest) -> HTTPAnswer?
  /// `http://127.0.0.1:7078`, with its actual port.
  package let address: String

  /// - Parameters:
  ///   - place: `HOST:PORT`; port 0 takes a free one.
  ///   - token: what `Authorization: Bearer` must say; nil only where no other machine reaches the address.
  ///   - open: paths that hold no data, and are shown to those who do not know the word.
  ///   - answer: asked on the server's one thread, so it must not wait for anything; nil: there is no such page.
  package init(
    _ place: String, token: String?, open: Set<String> = [],
    answer: @escaping @Sendable (HTTPRequest) -> HTTPAnswer?
  ) throws(HTTPError) {
    let parts = place.split(separator: ":", omittingEmptySubsequences: false).map { String($0) }
    guard parts.count == 2, !parts[0].isEmpty, let port = UInt16(parts[1]),
      let (host, isIPv6) = HostName.address(of: parts[0]), !isIPv6
    else { throw .badAddress(place) }
    guard token?.isEmpty == false || host.hasPrefix("127.") else { throw .needsToken(place) }
    self.token = token
    self.open = open
    self.answer = answer
    // Set before the first request can come, and never again.
    let box = Box()
    guard
      let daemon = ress_mhd_start(
        host, port, HTTPServer.handle, HTTPServer.notice, Unmanaged.passRetained(box).toOpaque())
    else {
      throw .cannotListen(place)
    }
    self.daemon = daemon
    address = "http://\(host):\(ress_mhd_port(daemon))"
    self.box = box
    box.server = self
  }

  /// What the C library hands back; it knows the server without keeping it alive.
  private final class Box: @unchecked Sendable {
    weak var server: HTTPServer?
    /// The server's thread alone uses these: connections, those that were used last at the end.
    private var connections: [(connection: OpaquePointer, socket: Int32)] = []

    func begin(_ connection: OpaquePointer) {
      connections.append((connection, ress_mhd_socket(connection)))
      // Whoever speaks slowly, or not at all, goes when others come. A page is answered at once, so its reader is seldom the oldest.
      if connections.count > HTTPServer.connectionLimit { shutdown(connections.removeFirst().socket, Int32(SHUT_RDWR)) }
    }

    func use(_ connection: OpaquePointer) {
      guard let place = connections.firstIndex(where: { $0.connection == connection }) else { return }
      connections.append(connections.remove(at: place))
    }

    func end(_ connection: OpaquePointer) { connections.removeAll { $0.connection == connection } }
  }

  /// More connections than this are not kept. 64 that spoke slowly once kept everybody else out.
  private static let connectionLimit = 256

  private static let notice: MHD_NotifyConnectionCallback = { context, connection, _, code in
    guard let context, let connection else { return }
    let box = Unmanaged<Box>.fromOpaque(context).takeUnretainedValue()
    if ress_mhd_is_beginning(code) != 0 { box.begin(connection) } else { box.end(connection) }
  }
  private let box: Box

  deinit { close() }

  /// Ends its thread.
  package func close() {
    guard let daemon else { return }
    self.daemon = nil
    MHD_stop_daemon(daemon)
    Unmanaged.passUnretained(box).release()
  }

  private static let handle: MHD_AccessHandlerCallback = { context, connection, path, method, _, _, _, state in
    let method = String(cString: method!)
    let isRead = method == "GET" || method == "HEAD"
    // The first call tells of the headers alone. What would bring a body is refused before it comes.
    if state!.pointee == nil { Unmanaged<Box>.fromOpaque(context!).takeUnretainedValue().use(connection!) }
    if state!.pointee == nil && isRead {
      state!.pointee = UnsafeMutableRawPointer(bitPattern: 1)
      return ress_mhd_yes()
    }
    let box = Unmanaged<Box>.fromOpaque(context!).takeUnretainedValue()
    func header(_ name: String) -> String? { ress_mhd_request_header(connection, name).map { String(cString: $0) } }
    var answer = HTTPAnswer(code: 503, "not ready\n")
    if let server = box.server {
      answer =
        server.refusal(String(cString: path!), isRead: isRead, header)
        ?? server.page(HTTPRequest(String(cString: path!), query: query(connection!)))
    }
    let isKnown = answer.tag != nil && answer.tag == header("If-None-Match")
    if isKnown { answer.code = 304 }
    let body = isKnown ? [] : answer.body
    guard let response = ress_mhd_response(body, body.count) else { return ress_mhd_no() }
    defer { MHD_destroy_response(response) }
    for (name, value) in fixedHeaders { MHD_add_response_header(response, name, value) }
    MHD_add_response_header(response, "Content-Type", answer.type)
    if let tag = answer.tag { MHD_add_response_header(response, "ETag", tag) }
    if let seconds = answer.retryAfter { MHD_add_response_header(response, "Retry-After", "\(seconds)") }
    if answer.code == 401 { MHD_add_response_header(response, "WWW-Authenticate", "Bearer") }
    if answer.code == 405 { MHD_add_response_header(response, "Allow", "GET, HEAD") }
    return MHD_queue_response(connection, UInt32(answer.code), response)
  }

  /// A page runs its own scripts and styles alone, speaks with nobody else, and is shown in no other page; nothing is kept on disk.
  private static let fixedHeaders = [
    ("X-Content-Type-Options", "nosniff"), ("X-Frame-Options", "DENY"),
    ("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"), ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store"),
  ]

  private static func query(_ connection: OpaquePointer) -> [String: String] {
    var query: [String: String] = [:]
    withUnsafeMutablePointer(to: &query) { query in
      _ = ress_mhd_query(
        connection,
        { context, _, name, value in
          let query = context!.assumingMemoryBound(to: [String: String].self)
          if let name { query.pointee[String(cString: name)] = value.map { String(cString: $0) } ?? "" }
          return ress_mhd_yes()
        }, query)
    }
    return query
  }

  private func refusal(_ path: String, isRead: Bool, _ header: (String) -> String?) -> HTTPAnswer? {
    if let token {
      guard open.contains(path) || HTTPServer.isSame(header("Authorization") ?? "", "Bearer " + token) else {
        return HTTPAnswer(code: 401, "the word is missing or wrong: Authorization: Bearer TOKEN\n")
      }
    } else if let host = header("Host"), !HTTPServer.isLocal(host) {
      // A page of another site whose name was made to point here (DNS rebinding) would read as if it were ours.
      return HTTPAnswer(code: 421, "this server answers at 127.0.0.1 and localhost, not at \(host.prefix(200))\n")
    }
    return isRead ? nil : HTTPAnswer(code: 405, "nothing can be changed here\n")
  }

  private func page(_ request: HTTPRequest) -> HTTPAnswer {
    answer(request) ?? HTTPAnswer(code: 404, "there is no \(request.path.prefix(200))\n")
  }

  /// `localhost` or a loopback address, with a port or without.
  private static func isLocal(_ host: String) -> Bool {
    let name = host.hasPrefix("[") ? host.prefix { $0 != "]" } : host.prefix { $0 != ":" }
    return name.lowercased() == "localhost" || name == "[::1"
      || (name.hasPrefix("127.") && inet_addr(String(name)) != INADDR_NONE)
  }

  /// In a time that tells nothing of where they differ.
  private static func isSame(_ a: String, _ b: String) -> Bool {
    let x = Array(a.utf8), y = Array(b.utf8)
    var difference = UInt8(x.count == y.count ? 0 : 1)
    for index in y.indices { difference |= (index < x.count ? x[index] : 0) ^ y[index] }
    return difference == 0
  }
}
