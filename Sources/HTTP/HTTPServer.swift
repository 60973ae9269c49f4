// A small HTTP server for what a coordinator shows: it reads nothing but requests, and changes nothing. libmicrohttpd speaks the protocol.

import CMicrohttpd

#if canImport(Glibc)
  import Glibc
#endif

package struct HTTPAnswer: Sendable {
  package var code: Int
  package var type: String
  package var body: String

  package init(code: Int = 200, type: String = "text/plain; charset=utf-8", _ body: String) {
    self.code = code
    self.type = type
    self.body = body
  }
}

package enum HTTPError: Error, Equatable, CustomStringConvertible {
  case badAddress(String)
  case needsToken(String)
  case cannotListen(String)

  package var description: String {
    switch self {
    case .badAddress(let text):
      "'\(text)' is not an address for HTTP; write HOST:PORT with an IPv4 address, such as 127.0.0.1:7078"
    case .needsToken(let text):
      "\(text) can be reached from other machines; --http-token FILE names a file with the word that they must say"
    case .cannotListen(let text): "cannot listen for HTTP at \(text); is the port in use?"
    }
  }
}

package final class HTTPServer: @unchecked Sendable {
  private var daemon: OpaquePointer?
  private let token: String?
  private let answer: @Sendable (String) -> HTTPAnswer?
  /// `http://127.0.0.1:7078`, with its actual port.
  package let address: String

  /// - Parameters:
  ///   - place: `HOST:PORT`; port 0 takes a free one.
  ///   - token: what `Authorization: Bearer` must say; nil only where no other machine reaches the address.
  ///   - answer: a page by its path, asked on the server's thread; nil: there is none.
  package init(_ place: String, token: String?, answer: @escaping @Sendable (String) -> HTTPAnswer?) throws(HTTPError) {
    let parts = place.split(separator: ":", omittingEmptySubsequences: false).map { String($0) }
    guard parts.count == 2, let port = UInt16(parts[1]), inet_addr(parts[0]) != INADDR_NONE else {
      throw .badAddress(place)
    }
    guard token?.isEmpty == false || parts[0].hasPrefix("127.") else { throw .needsToken(place) }
    self.token = token
    self.answer = answer
    // Set before the first request can come, and never again.
    let box = Box()
    guard let daemon = ress_mhd_start(parts[0], port, HTTPServer.handle, Unmanaged.passRetained(box).toOpaque()) else {
      throw .cannotListen(place)
    }
    self.daemon = daemon
    address = "http://\(parts[0]):\(ress_mhd_port(daemon))"
    self.box = box
    box.server = self
  }

  /// What the C library hands back; it knows the server without keeping it alive.
  private final class Box: @unchecked Sendable {
    weak var server: HTTPServer?
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
    // The first call tells of the headers alone.
    if state!.pointee == nil {
      state!.pointee = UnsafeMutableRawPointer(bitPattern: 1)
      return ress_mhd_yes()
    }
    let box = Unmanaged<Box>.fromOpaque(context!).takeUnretainedValue()
    let said = ress_mhd_request_header(connection, "Authorization").map { String(cString: $0) }
    let answer =
      box.server?.page(String(cString: method!), String(cString: path!), said) ?? HTTPAnswer(code: 503, "not ready\n")
    let body = Array(answer.body.utf8)
    guard let response = ress_mhd_response(body, body.count) else { return ress_mhd_no() }
    defer { MHD_destroy_response(response) }
    for (name, value) in [
      ("Content-Type", answer.type), ("X-Content-Type-Options", "nosniff"), ("X-Frame-Options", "DENY"),
      ("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
      ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store"),
    ] { MHD_add_response_header(response, name, value) }
    if answer.code == 401 { MHD_add_response_header(response, "WWW-Authenticate", "Bearer") }
    if answer.code == 405 { MHD_add_response_header(response, "Allow", "GET, HEAD") }
    return MHD_queue_response(connection, UInt32(answer.code), response)
  }

  private func page(_ method: String, _ path: String, _ said: String?) -> HTTPAnswer {
    if let token, !HTTPServer.isSame(said ?? "", "Bearer " + token) {
      return HTTPAnswer(code: 401, "the word is missing or wrong: Authorization: Bearer TOKEN\n")
    }
    guard method == "GET" || method == "HEAD" else { return HTTPAnswer(code: 405, "nothing can be changed here\n") }
    return answer(path) ?? HTTPAnswer(code: 404, "there is no \(path.prefix(200))\n")
  }

  /// In a time that tells nothing of where they differ.
  private static func isSame(_ a: String, _ b: String) -> Bool {
    let x = Array(a.utf8), y = Array(b.utf8)
    var difference = UInt8(x.count == y.count ? 0 : 1)
    for index in y.indices { difference |= (index < x.count ? x[index] : 0) ^ y[index] }
    return difference == 0
  }
}
