// Reads and writes fixed binary layouts: little-endian integers, one after the other, without padding. Headers of
// data messages and of the reliable link are written this way, so that their layout does not depend on the machine
// or on Swift's.

/// Appends integers to a byte array.
package struct ByteWriter {
  package private(set) var bytes: [UInt8] = []

  package init() {}

  /// Appends the integer's bytes, little-endian.
  package mutating func write<Number: FixedWidthInteger>(_ number: Number) {
    withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
  }
}

/// Reads integers from the front of a byte array; returns nil where too few bytes are left.
package struct ByteReader {
  private let bytes: [UInt8]
  private var next = 0

  package init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// Takes the next integer; nil, and nothing is taken, where too few bytes are left.
  package mutating func read<Number: FixedWidthInteger>(_ type: Number.Type) -> Number? {
    let size = MemoryLayout<Number>.size
    guard next + size <= bytes.count else { return nil }
    var number: Number = 0
    withUnsafeMutableBytes(of: &number) { $0.copyBytes(from: bytes[next..<next + size]) }
    next += size
    return Number(littleEndian: number)
  }

  package var isAtEnd: Bool { next == bytes.count }
}
