// How the rows of a call travel to their experts: 4 bytes a value or, in a run with bf16 factors, 2. Such a row, or its
// gradient on the way back through the expert, is used as a factor of products alone (`LocalExperts`), which round it
// to bf16 in any case; so the shorter form changes no bit. What comes back from an expert is added in single precision
// and travels as it is.

import Configuration
import Kernels
import Wire

struct RowEncoding {
  private let width: Int
  private let isRounded: Bool

  init(_ model: ModelConfiguration) {
    width = model.width
    isRounded = model.precision == .bf16
  }

  func byteCount(rows: Int) -> Int { rows * width * (isRounded ? 2 : 4) }

  /// Writes rows that lie one after the other, and returns the place after them.
  func write(_ rows: RealPointer, count: Int, at place: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
    if isRounded {
      RoundedProducts.encode(rows, count: count * width, into: place.assumingMemoryBound(to: UInt16.self))
    } else {
      place.assumingMemoryBound(to: Real.self).update(from: rows, count: count * width)
    }
    return place + byteCount(rows: count)
  }

  /// Calls `body` with the rows (count, D) of a message.
  func withRows<Result>(
    at place: UnsafeMutableRawPointer, count: Int, pool: BufferPool, _ body: (Matrix) throws -> Result
  ) rethrows -> Result {
    guard isRounded else {
      return try body(Matrix(place.assumingMemoryBound(to: Real.self), rows: count, columns: width))
    }
    let buffer = pool.take(count * width)
    defer { pool.give(buffer) }
    RoundedProducts.decode(place.assumingMemoryBound(to: UInt16.self), count: count * width, into: buffer.pointer)
    return try body(Matrix(buffer.pointer, rows: count, columns: width))
  }
}
