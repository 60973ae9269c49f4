// Identifiers of runs, workers and connections, and the type of time that pure code uses.
//
// A name ("demo", "worker-0") is chosen by a person and may be used again after a restart. An identifier is never
// used twice.

/// Identifies one submission of a run. Never 0; written as 12 hexadecimal digits.
package struct RunID: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
  package let rawValue: UInt64

  /// Identifiers have 48 bits, so that they stay short to type; the rest of `rawValue` is dropped.
  package init(_ rawValue: UInt64) { self.rawValue = rawValue & 0xffff_ffff_ffff }

  package init?(_ text: String) {
    guard text.utf8.count == 12, let value = UInt64(text, radix: 16) else { return nil }
    self.init(value)
  }

  package var description: String {
    let digits = String(rawValue, radix: 16)
    return String(repeating: "0", count: max(0, 12 - digits.count)) + digits
  }

  package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  package init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let id = RunID(text) else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "'\(text)' is not a run identifier"))
    }
    self = id
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}

/// Identifies one joining of one worker process; the coordinator counts them from 1.
package struct WorkerID: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
  package let rawValue: UInt32

  package init(_ rawValue: UInt32) { self.rawValue = rawValue }

  package var description: String { String(rawValue) }

  package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  package init(from decoder: any Decoder) throws {
    rawValue = try decoder.singleValueContainer().decode(UInt32.self)
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(rawValue)
  }
}

/// The ZeroMQ identity of the other end of a control connection. Each process draws a random one when it starts.
package struct PeerID: Hashable, Sendable, Comparable, CustomStringConvertible {
  package let bytes: [UInt8]

  package init(_ bytes: [UInt8]) { self.bytes = bytes }
  package init(_ text: String) { bytes = Array(text.utf8) }

  package var description: String {
    let printable = bytes.allSatisfy { $0 > 0x20 && $0 < 0x7f }
    return printable
      ? String(decoding: bytes, as: UTF8.self) : bytes.map { String($0, radix: 16) }.joined(separator: ".")
  }

  package static func < (left: Self, right: Self) -> Bool { left.bytes.lexicographicallyPrecedes(right.bytes) }
}

/// A point in time on the monotonic clock of the process: nanoseconds since an arbitrary start. Pure code never
/// reads a clock. It receives an instant with every event, so that a simulation can control time.
package struct Instant: Hashable, Sendable, Comparable {
  package var nanoseconds: Int64

  package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

  package static func < (left: Self, right: Self) -> Bool { left.nanoseconds < right.nanoseconds }

  package static func + (instant: Self, duration: Duration) -> Self {
    Instant(nanoseconds: instant.nanoseconds + duration.nanoseconds)
  }

  package static func - (left: Self, right: Self) -> Duration {
    .nanoseconds(left.nanoseconds - right.nanoseconds)
  }
}

extension Duration {
  /// Whole nanoseconds. An Int64 covers 292 years.
  package var nanoseconds: Int64 { components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000 }

  package var inSeconds: Double { Double(nanoseconds) / 1e9 }

  /// "2.3 s", as sentences in logs show it.
  package var spoken: String {
    let tenths = (nanoseconds + 50_000_000) / 100_000_000
    return "\(tenths / 10).\(tenths % 10) s"
  }
}
