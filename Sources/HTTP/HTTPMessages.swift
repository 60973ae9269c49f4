// What a visitor asks and what it is told, as values.

package struct HTTPRequest: Equatable, Sendable {
  /// Decoded, without what follows a question mark.
  package var path: String
  /// Of a name that comes twice, the last.
  package var query: [String: String]

  package init(_ path: String, query: [String: String] = [:]) {
    self.path = path
    self.query = query
  }

  /// A whole number of the query: nil where it is not there, and an error in words where it is none or out of range.
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

/// What is wrong with a request, in a sentence for whoever made it.
package struct HTTPComplaint: Error, Equatable {
  package var sentence: String

  package init(_ sentence: String) { self.sentence = sentence }
}

package struct HTTPAnswer: Equatable, Sendable {
  package var code: Int
  package var type: String
  package var body: [UInt8]
  /// Names this very content: who has it already is told so (304) instead of being sent it again.
  package var tag: String?
  /// Come back then, in seconds: for an answer that is being made.
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
