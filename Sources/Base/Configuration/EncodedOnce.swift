// A value that many messages and records contain, and that is encoded once.
//
// An assignment contains the whole roster, and every worker of the roster gets one: without this, the coordinator would
// encode a roster of a thousand workers a thousand times, and again with every change of the run's record. Copies share
// one box, which keeps the JSON of the value. While a message is encoded the value is a placeholder string; the codec
// then puts the kept bytes in its place. A reader sees ordinary JSON.

import Foundation
import Synchronization

@propertyWrapper
package struct EncodedOnce<Value: Codable & Equatable & Sendable>: Codable, Equatable, Sendable {
  private final class Box: Sendable {
    let value: Value
    private let kept = Mutex<[UInt8]?>(nil)

    init(_ value: Value) { self.value = value }

    var json: [UInt8] {
      kept.withLock { kept in
        if let kept { return kept }
        guard let json = try? JSON.encode(value) else { preconditionFailure("\(Value.self) does not encode") }
        kept = json
        return json
      }
    }
  }

  private var box: Box

  package init(wrappedValue: Value) { box = Box(wrappedValue) }

  package var wrappedValue: Value {
    get { box.value }
    set { box = Box(newValue) }
  }

  /// The wrapper itself, to share its bytes with another message: `assignment.$roster = generation.$roster`.
  package var projectedValue: Self {
    get { self }
    set { self = newValue }
  }

  package static func == (a: Self, b: Self) -> Bool { a.box === b.box || a.box.value == b.box.value }

  package init(from decoder: any Decoder) throws { box = Box(try Value(from: decoder)) }

  package func encode(to encoder: any Encoder) throws {
    guard let insertions = encoder.userInfo[Insertions.key] as? Insertions else {
      return try box.value.encode(to: encoder)
    }
    var container = encoder.singleValueContainer()
    try container.encode(insertions.add(box.json))
  }
}

/// The parts of one message that were encoded before it. Placeholders are numbered in the order in which they were
/// added.
final class Insertions: @unchecked Sendable {
  static let key = CodingUserInfoKey(rawValue: "ress.insertions")!
  /// Random, so that no text of a user is taken for a placeholder.
  private static let mark = "insert-" + String(UInt64.random(in: .min ... .max), radix: 36) + "-"

  private var parts: [[UInt8]] = []

  /// Returns the placeholder of a part.
  func add(_ part: [UInt8]) -> String {
    parts.append(part)
    return Self.mark + String(parts.count - 1)
  }

  /// The JSON with all placeholders, which are strings in quotes, replaced by their parts.
  func apply(to json: Data) -> [UInt8] {
    guard !parts.isEmpty else { return Array(json) }
    var result: [UInt8] = []
    result.reserveCapacity(json.count + parts.reduce(0) { $0 + $1.count })
    var rest = json
    let mark = Data(("\"" + Self.mark).utf8)
    // Keys are sorted, so placeholders need not be in the order of their numbers.
    while let place = rest.range(of: mark) {
      result += rest[rest.startIndex..<place.lowerBound]
      let end = rest[place.upperBound...].firstIndex(of: UInt8(ascii: "\""))!
      let number = Int(String(decoding: rest[place.upperBound..<end], as: UTF8.self))!
      result += parts[number]
      rest = rest[(end + 1)...]
    }
    return result + rest
  }
}
