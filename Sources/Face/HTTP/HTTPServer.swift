// A small HTTP server for the coordinator's pages, based on libmicrohttpd. It answers GET and HEAD only and changes
// nothing.

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
      "\(text) can be reached from other machines; give the file with the token that they must send: --http-token FILE"
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
  ///   - place: `HOST:PORT`; port 0 chooses a free one.
  ///   - token: the bearer token that requests must have; it may be nil only for a loopback address.
  ///   - open: paths without data, which are served without a token.
  ///   - answer: called on the server's only thread, so it must not block; nil means that there is no such page.
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
    // Set before the first request can arrive, and never changed.
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

  /// The context pointer of libmicrohttpd's callbacks. It refers to the server weakly.
  private final class Box: @unchecked Sendable {
    weak var server: HTTPServer?
    /// Connections, the most recently used last. Only the server's thread uses them.
    private var connections: [(connection: OpaquePointer, socket: Int32)] = []

    func begin(_ connection: OpaquePointer) {
      connections.append((connection, ress_mhd_socket(connection)))
      // A slow or silent client is disconnected when others connect. Pages are answered at once, so a real reader
      // is rarely the oldest.
      if connections.count > HTTPServer.connectionLimit { shutdown(connections.removeFirst().socket, Int32(SHUT_RDWR)) }
    }

    func use(_ connection: OpaquePointer) {
      guard let place = connections.firstIndex(where: { $0.connection == connection }) else { return }
      connections.append(connections.remove(at: place))
    }

    func end(_ connection: OpaquePointer) { connections.removeAll { $0.connection == connection } }
  }

  /// Most connections. With a fixed limit and no eviction, 64 slow clients once kept everyone else out.
  private static let connectionLimit = 256

  private static let notice: MHD_NotifyConnectionCallback = { context, connection, _, code in
    guard let context, let connection else { return }
    let box = Unmanaged<Box>.fromOpaque(context).takeUnretainedValue()
    if ress_mhd_is_beginning(code) != 0 { box.begin(connection) } else { box.end(connection) }
  }
  private let box: Box

  deinit { close() }

  /// Stops the server's thread.
  package func close() {
    guard let daemon else { return }
    self.daemon = nil
    MHD_stop_daemon(daemon)
    Unmanaged.passUnretained(box).release()
  }

  private static let handle: MHD_AccessHandlerCallback = { context, connection, path, method, _, _, _, state in
    let method = String(cString: method!)
    let isRead = method == "GET" || method == "HEAD"
    // libmicrohttpd calls first with the headers only. Requests with a body are refused before the body arrives.
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

  /// Security headers: a page may run only its own scripts and styles, may contact only this server, and may not be
  /// embedded; nothing is cached on disk.
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
        return HTTPAnswer(code: 401, "missing or wrong bearer token (Authorization: Bearer TOKEN)\n")
      }
    } else if let host = header("Host"), !HTTPServer.isLocal(host) {
      // Against DNS rebinding: a page of another site, whose name was made to point here, could otherwise read our
      // pages.
      return HTTPAnswer(code: 421, "this server answers at 127.0.0.1 and localhost, not at \(host.prefix(200))\n")
    }
    return isRead ? nil : HTTPAnswer(code: 405, "only GET and HEAD are supported\n")
  }

  private func page(_ request: HTTPRequest) -> HTTPAnswer {
    answer(request) ?? HTTPAnswer(code: 404, "not found: \(request.path.prefix(200))\n")
  }

  /// Whether a Host header is `localhost` or a loopback address, with or without a port.
  private static func isLocal(_ host: String) -> Bool {
    let name = host.hasPrefix("[") ? host.prefix { $0 != "]" } : host.prefix { $0 != ":" }
    return name.lowercased() == "localhost" || name == "[::1"
      || (name.hasPrefix("127.") && inet_addr(String(name)) != INADDR_NONE)
  }

  /// Compares in a time that does not reveal where the texts differ.
  private static func isSame(_ a: String, _ b: String) -> Bool {
    let x = Array(a.utf8), y = Array(b.utf8)
    var difference = UInt8(x.count == y.count ? 0 : 1)
    for index in y.indices { difference |= (index < x.count ? x[index] : 0) ^ y[index] }
    return difference == 0
  }
}
