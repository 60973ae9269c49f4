// JSON, in the only two ways in which the program writes it.
//
// A `JSON` value is put together key by key: the lines of `--json`, the run's metrics.jsonl, traces. Its keys keep the
// order in which they were given, so that people can read a line and programs can compare lines. JSON has no numbers
// that are not finite; they become null.
//
// `JSON.encode` writes a Codable value that the program reads again: messages, manifests, stored runs. Its keys are
// sorted, so that equal values give equal bytes. A number that is not finite is the text "nan", "inf" or "-inf", and
// `JSON.decode` reads it back, because a run that diverged must be stored like any other.

import Foundation

package enum JSON: Sendable {
  case null, flag(Bool), whole(Int), unsigned(UInt64), real(Double), text(String)
  case array([JSON]), object([(String, JSON)])

  // A missing value is null.
  package init(_ text: String?) { self = text.map { .text($0) } ?? .null }
  package init(_ number: Int?) { self = number.map { .whole($0) } ?? .null }
  package init(_ number: Double?) { self = number.map { .real($0) } ?? .null }

  package static func list(_ numbers: some Sequence<Int>) -> JSON { .array(numbers.map { .whole($0) }) }
  package static func list(_ numbers: [Double]) -> JSON { .array(numbers.map { .real($0) }) }
  package static func list(_ texts: [String]) -> JSON { .array(texts.map { .text($0) }) }

  /// On one line, with a space after each comma and colon: for people who read the output of `--json`.
  package var line: String { text(comma: ", ", colon: ": ") }

  /// On one line without spaces, for files. A number reads back to the same bits.
  package var compact: String { text(comma: ",", colon: ":") }

  private func text(comma: String, colon: String) -> String {
    var result = ""
    write(to: &result, comma, colon)
    return result
  }

  private func write(to result: inout String, _ comma: String, _ colon: String) {
    switch self {
    case .null: result += "null"
    case .flag(let flag): result += String(flag)
    case .whole(let number): result += String(number)
    case .unsigned(let number): result += String(number)
    case .real(let number): result += number.isFinite ? String(number) : "null"
    case .text(let text): Self.quote(text, to: &result)
    case .array(let values):
      result += "["
      for (index, value) in values.enumerated() {
        if index > 0 { result += comma }
        value.write(to: &result, comma, colon)
      }
      result += "]"
    case .object(let members):
      result += "{"
      for (index, member) in members.enumerated() {
        if index > 0 { result += comma }
        Self.quote(member.0, to: &result)
        result += colon
        member.1.write(to: &result, comma, colon)
      }
      result += "}"
    }
  }

  private static func quote(_ text: String, to result: inout String) {
    result += "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\u{8}": result += "\\b"
      case "\u{C}": result += "\\f"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case _ where scalar.value < 0x20:
        result += "\\u00" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
      default: result.unicodeScalars.append(scalar)
      }
    }
    result += "\""
  }
}

// MARK: Codable values

extension JSON {
  /// - Parameters:
  ///   - pretty: with a line for each value, for files that people open.
  ///   - escapesSlashes: writes `/` as `\/`, as `JSONEncoder` does by itself. Only bytes that are part of a digest need
  ///     it.
  package static func encode(
    _ value: some Encodable, pretty: Bool = false, escapesSlashes: Bool = false
  ) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    if pretty { encoder.outputFormatting.insert(.prettyPrinted) }
    if !escapesSlashes { encoder.outputFormatting.insert(.withoutEscapingSlashes) }
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    // Parts that were encoded before are inserted as they are, which fits neither the layout nor the slashes of the
    // special forms.
    guard !pretty, !escapesSlashes else { return Array(try encoder.encode(value)) }
    let insertions = Insertions()
    encoder.userInfo[Insertions.key] = insertions
    return insertions.apply(to: try encoder.encode(value))
  }

  package static func decode<Value: Decodable>(_ type: Value.Type, from bytes: some Sequence<UInt8>) throws -> Value {
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return try decoder.decode(type, from: bytes as? Data ?? Data(bytes))
  }
}
