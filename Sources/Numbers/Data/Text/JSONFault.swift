// Explains why a line is not a JSON object, and in which column. Foundation's parser reads the rows; a row that it
// rejects is parsed again here, by RFC 8259, because a user who has to find one wrong character in millions of rows
// needs the reason and the place.

package struct JSONFault: Equatable, Sendable {
  package let reason: String
  /// Counted in characters, from 1.
  package let column: Int

  package enum Verdict: Equatable, Sendable {
    /// An object with that many members.
    case object(members: Int)
    /// The line ends inside an object of which at least one member's name is complete.
    case cut
    case fault(JSONFault)
  }

  /// Examines a line, which is given without its line feed.
  package static func look(_ line: ArraySlice<UInt8>) -> Verdict { line.withUnsafeBufferPointer { look($0) } }

  static func look(_ line: UnsafeBufferPointer<UInt8>) -> Verdict {
    var scanner = JSONScanner(text: line)
    do throws(JSONScanner.Stop) {
      try scanner.row()
      return .object(members: scanner.members)
    } catch {
      if error.isEnd, scanner.members > 0 { return .cut }
      let column = 1 + line[..<min(error.place, line.count)].count { $0 & 0xC0 != 0x80 }
      return .fault(JSONFault(reason: error.reason, column: column))
    }
  }
}

/// A recursive-descent parser that builds no values: it only advances `place`, and throws at the first byte that RFC
/// 8259 does not permit.
private struct JSONScanner {
  struct Stop: Error {
    let reason: String
    /// Offset of the wrong byte.
    let place: Int
    /// Whether the text is valid as far as it goes, and only ends too early.
    var isEnd = false
  }

  let text: UnsafeBufferPointer<UInt8>
  private var place = 0
  private var depth = 0
  /// Number of members of the outermost object that were read.
  private(set) var members = 0

  /// Deepest nesting; Foundation's parser has the same limit.
  private static let deepest = 512

  init(text: UnsafeBufferPointer<UInt8>) { self.text = text }

  private func stop(_ reason: String, at place: Int? = nil) -> Stop { Stop(reason: reason, place: place ?? self.place) }

  private func end(_ what: String) -> Stop {
    Stop(reason: "the line ends inside \(what); a row must be on one line", place: text.count, isEnd: true)
  }

  private mutating func skipSpace() {
    while place < text.count, [0x20, 0x09, 0x0D, 0x0A].contains(text[place]) { place += 1 }
  }

  /// Parses the whole line, which must be one object.
  mutating func row() throws(Stop) {
    skipSpace()
    guard place < text.count else { throw end("nothing") }
    guard text[place] == UInt8(ascii: "{") else {
      let begin = place
      try value()
      let kind =
        switch text[begin] {
        case UInt8(ascii: "["): "a list"
        case UInt8(ascii: "\""): "a string"
        default: "a number or a constant"
        }
      throw stop("a row must be an object, {…}, and this is \(kind)", at: begin)
    }
    try value()
    skipSpace()
    guard place == text.count else { throw stop("there is text after the object") }
  }

  private mutating func value() throws(Stop) {
    skipSpace()
    guard place < text.count else { throw end("an object") }
    switch text[place] {
    case UInt8(ascii: "{"): try list(isObject: true)
    case UInt8(ascii: "["): try list(isObject: false)
    case UInt8(ascii: "\""): try string()
    case UInt8(ascii: "-"), 0x30...0x39: try number()
    case UInt8(ascii: "'"): throw stop("a string must be in double quotes")
    default: try word()
    }
  }

  /// Parses an object or a list; `place` is at its opening bracket.
  private mutating func list(isObject: Bool) throws(Stop) {
    let what = isObject ? "an object" : "a list", close = isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.deepest else { throw stop("lists and objects are nested deeper than \(Self.deepest)") }
    place += 1
    skipSpace()
    if place < text.count, text[place] == close {
      place += 1
      return
    }
    while true {
      if isObject {
        skipSpace()
        guard place < text.count else { throw end(what) }
        guard text[place] == UInt8(ascii: "\"") else {
          throw stop(
            text[place] == close
              ? "there is a comma before the object's end" : "a name in double quotes is expected here")
        }
        try string()
        skipSpace()
        guard place < text.count else { throw end(what) }
        guard text[place] == UInt8(ascii: ":") else { throw stop("a colon is expected between a name and its value") }
        if depth == 1 { members += 1 }
        place += 1
      } else {
        skipSpace()
        if place < text.count, text[place] == close { throw stop("there is a comma before the list's end") }
      }
      try value()
      skipSpace()
      guard place < text.count else { throw end(what) }
      if text[place] == close { break }
      guard text[place] == UInt8(ascii: ",") else { throw stop("a comma or the end of \(what) is expected here") }
      place += 1
    }
    place += 1
  }

  /// Parses a string; `place` is at its opening quote. Its bytes must be UTF-8.
  private mutating func string() throws(Stop) {
    place += 1
    while place < text.count {
      let byte = text[place]
      switch byte {
      case UInt8(ascii: "\""):
        place += 1
        return
      case UInt8(ascii: "\\"): try escape()
      case 0..<0x20:
        throw stop(
          (byte == 9 ? "a tab" : "a control character (byte \(byte))")
            + " inside a string; JSON writes it as \(byte == 9 ? "\\t" : "\\u00" + (byte < 16 ? "0" : "") + String(byte, radix: 16))"
        )
      case 0x20..<0x80: place += 1
      default:
        guard let (_, length) = CharacterClasses.scalar(text, at: place) else {
          if place + 4 > text.count, byte >= 0xC2 { throw end("a character") }
          throw stop(
            "byte 0x\(String(byte, radix: 16, uppercase: true)) is not UTF-8; text in Latin-1 is converted by "
              + "iconv -f LATIN1 -t UTF-8")
        }
        place += length
      }
    }
    throw end("a string")
  }

  /// Parses an escape; `place` is at the backslash. A surrogate must be followed by the second half of its pair.
  private mutating func escape() throws(Stop) {
    let begin = place
    place += 1
    guard place < text.count else { throw end("a string") }
    guard text[place] == UInt8(ascii: "u") else {
      guard Array("\"\\/bfnrt".utf8).contains(text[place]) else { throw stop("JSON has no such escape", at: begin) }
      place += 1
      return
    }
    let unit = try hexadecimal(from: begin)
    guard (0xD800..<0xE000).contains(unit) else { return }
    let half = "half of a surrogate pair, which is not a character"
    guard unit < 0xDC00, place + 1 < text.count, text[place] == UInt8(ascii: "\\"), text[place + 1] == UInt8(ascii: "u")
    else { throw stop("\\u\(String(unit, radix: 16)) is \(half)", at: begin) }
    let second = place
    place += 1
    guard (0xDC00..<0xE000).contains(try hexadecimal(from: second)) else {
      throw stop("\\u\(String(unit, radix: 16)) is \(half)", at: begin)
    }
  }

  /// Reads the four digits after `\u`; `place` is at the u.
  private mutating func hexadecimal(from begin: Int) throws(Stop) -> Int {
    place += 1
    guard place + 4 <= text.count else { throw end("a string") }
    var value = 0
    for offset in 0..<4 {
      guard let digit = Character(Unicode.Scalar(text[place + offset])).hexDigitValue else {
        throw stop("\\u must be followed by four hexadecimal digits", at: begin)
      }
      value = value << 4 | digit
    }
    place += 4
    return value
  }

  /// Parses a number; `place` is at its sign or first digit.
  private mutating func number() throws(Stop) {
    let begin = place
    func isDigit(_ place: Int) -> Bool { place < text.count && (0x30...0x39).contains(text[place]) }
    if text[place] == UInt8(ascii: "-") { place += 1 }
    guard place < text.count else { throw end("a number") }
    guard isDigit(place) else {
      if (65...90).contains(text[place]) || (97...122).contains(text[place]) { return try word(from: begin) }
      throw stop("a number must have digits", at: begin)
    }
    if text[place] == 0x30, isDigit(place + 1) { throw stop("a number must not begin with 0", at: begin) }
    while isDigit(place) { place += 1 }
    if place < text.count, text[place] == UInt8(ascii: ".") {
      place += 1
      guard isDigit(place) || place >= text.count else { throw stop("digits must follow a number's point", at: begin) }
      while isDigit(place) { place += 1 }
    }
    if place < text.count, text[place] | 0x20 == UInt8(ascii: "e") {
      place += 1
      if place < text.count, [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(text[place]) { place += 1 }
      guard isDigit(place) || place >= text.count else { throw stop("digits must follow a number's e", at: begin) }
      while isDigit(place) { place += 1 }
    }
  }

  /// Reads true, false or null; throws for any other word.
  private mutating func word(from begin: Int? = nil) throws(Stop) {
    let begin = begin ?? place
    while place < text.count, (65...90).contains(text[place]) || (97...122).contains(text[place]) { place += 1 }
    let word = String(decoding: text[begin..<min(place, begin + 40)], as: UTF8.self)
    if ["true", "false", "null"].contains(word) { return }
    if place == text.count, ["true", "false", "null"].contains(where: { $0.hasPrefix(word) }) {
      throw end("a constant")
    }
    if word.isEmpty {
      let character = CharacterClasses.scalar(text, at: begin).flatMap { Unicode.Scalar($0.value) }.map { "'\($0)'" }
      throw stop("\(character ?? "byte \(text[begin])") cannot begin a value", at: begin)
    }
    if ["NaN", "Infinity", "-Infinity", "-NaN"].contains(word) {
      throw stop("\(word) is not a number of JSON", at: begin)
    }
    throw stop("'\(word)' is not a JSON value", at: begin)
  }
}
