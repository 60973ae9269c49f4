// HTTP requests and answers as values, independent of the HTTP library.

package struct HTTPRequest: Equatable, Sendable {
  /// The decoded path, without the query string.
  package var path: String
  /// Names and values of the query string. If a name occurs twice, the last value counts.
  package var query: [String: String]

  package init(_ path: String, query: [String: String] = [:]) {
    self.path = path
    self.query = query
  }

  /// An integer in the query: `standard` where it is missing. Throws where it is missing without a standard value,
  /// is not an integer, or is out of range.
  package func whole(_ name: String, in range: ClosedRange<Int>, else standard: Int? = nil) throws(HTTPComplaint) -> Int
  {
    guard let text = query[name] else {
      guard let standard else { throw HTTPComplaint("'\(name)' is missing: a whole number") }
      return standard
    }
    guard (1...19).contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) }), let value = Int(text),
      range.contains(value)
    else {
      throw HTTPComplaint("'\(name)' is a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }
}

/// What is wrong with a request, as a sentence for the client.
package struct HTTPComplaint: Error, Equatable {
  package var sentence: String

  package init(_ sentence: String) { self.sentence = sentence }
}

package struct HTTPAnswer: Equatable, Sendable {
  package var code: Int
  package var type: String
  package var body: [UInt8]
  /// Identifies this content (ETag). A client that has it already gets 304 instead of the content.
  package var tag: String?
  /// Seconds after which the client should ask again (Retry-After), for an answer that is still being computed.
  package var retryAfter: Int?

  package init(code: Int = 200, type: String = "text/plain; charset=utf-8", _ body: [UInt8], tag: String? = nil) {
    self.code = code
    self.type = type
    self.body = body
    self.tag = tag
  }

  package init(code: Int = 200, type: String = "text/plain; charset=utf-8", _ body: String) {
    self.init(code: code, type: type, Array(body.utf8))
  }
}
