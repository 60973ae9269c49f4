// JSON as it is written: for people, for files, and for values that are read again.

import Configuration
import Foundation
import Testing

@Suite struct JSONTests {
  private struct Record: Codable, Equatable {
    var name = "a/b"
    var loss = 0.1
    var norm = Double.infinity
    var count: Int?
  }

  @Test func `keys keep their order, and a line for people has spaces`() {
    let value = JSON.object([
      ("z", .whole(1)), ("a", .array([.flag(true), .null, .object([])])), ("t", .text("x")), ("l", .list([0.5, 2])),
    ])
    #expect(value.line == #"{"z": 1, "a": [true, null, {}], "t": "x", "l": [0.5, 2.0]}"#)
    #expect(value.compact == #"{"z":1,"a":[true,null,{}],"t":"x","l":[0.5,2.0]}"#)
  }

  @Test func `a value that is missing or not finite is null`() {
    #expect(JSON(nil as Int?).compact == "null")
    #expect(JSON.list([.nan, .infinity, -.infinity, 0.1]).compact == "[null,null,null,0.1]")
    #expect(JSON.unsigned(.max).compact == "18446744073709551615")
  }

  @Test func `a text is written as Foundation's encoder writes it, whatever its characters`() throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    let characters =
      (0..<0x800).compactMap { Unicode.Scalar($0).map { String(Character($0)) } } + ["\u{2028}", "🚢", "é/"]
    for text in characters {
      #expect(
        JSON.text(text).compact == String(decoding: try encoder.encode(text), as: UTF8.self), "\(text.debugDescription)"
      )
    }
  }

  @Test func `a number reads back to the same bits`() throws {
    for number in [0.1, 1.0 / 3, .leastNonzeroMagnitude, .greatestFiniteMagnitude, -0.0, 123456789.125] {
      let read = try JSONDecoder().decode([Double].self, from: Data(JSON.list([number]).compact.utf8))
      #expect(read.map(\.bitPattern) == [number.bitPattern])
    }
  }

  @Test func `a record that is not finite is read back, and equal records give equal bytes`() throws {
    let bytes = try JSON.encode(Record())
    #expect(String(decoding: bytes, as: UTF8.self) == #"{"loss":0.1,"name":"a/b","norm":"inf"}"#)
    #expect(try JSON.decode(Record.self, from: bytes) == Record())
    #expect(try JSON.encode(Record(), escapesSlashes: true).count == bytes.count + 1)
    #expect(try JSON.decode(Record.self, from: JSON.encode(Record(), pretty: true)) == Record())
  }
}
