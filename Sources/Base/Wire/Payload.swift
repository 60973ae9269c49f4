// Memory for the numbers of a data message.
//
// Rows for experts are gathered directly into a payload. ZeroMQ then sends that memory without copying it and
// releases it after the last packet that refers to it has left.

/// A fixed block of bytes, aligned to 64 bytes for vector loads unless it shares another's memory. The code that
/// creates it fills it once; afterwards it is only read, possibly by several threads, which is why it is declared
/// Sendable.
///
/// Its pointers do not keep it alive. Swift may release an object after the last use of the object itself, which
/// can be before the last use of a pointer taken from it. Code that reads through a pointer must hold the payload
/// with `withExtendedLifetime`.
package final class Payload: @unchecked Sendable {
  package let bytes: UnsafeMutableRawBufferPointer
  /// The owner of the bytes; nil where they are the payload's own.
  private let keeper: AnyObject?

  /// The bytes are uninitialised.
  package init(byteCount: Int) {
    bytes = .allocate(byteCount: byteCount, alignment: 64)
    keeper = nil
  }

  /// Values of `keeper`, which must stay as they are until the receiver has them. They may change after that, though
  /// a transport may still hold the payload: what it sends then is a repetition, which the receiver drops.
  package init(sharing values: UnsafeMutablePointer<Float>, count: Int, of keeper: AnyObject) {
    bytes = UnsafeMutableRawBufferPointer(start: values, count: 4 * count)
    self.keeper = keeper
  }

  package convenience init(copying values: UnsafePointer<Float>, count: Int) {
    self.init(byteCount: 4 * count)
    bytes.copyMemory(from: UnsafeRawBufferPointer(start: values, count: 4 * count))
  }

  deinit { if keeper == nil { bytes.deallocate() } }

  /// A copy of the bytes.
  package var array: [UInt8] { withExtendedLifetime(self) { Array(bytes) } }

  package var reals: UnsafeMutablePointer<Float> { start(as: Float.self) }
  package var words: UnsafeMutablePointer<Int32> { start(as: Int32.self) }
  package var doubles: UnsafeMutableBufferPointer<Double> {
    UnsafeMutableBufferPointer(start: start(as: Double.self), count: bytes.count / 8)
  }

  private func start<Value>(as type: Value.Type) -> UnsafeMutablePointer<Value> {
    // The base address is not nil even for an empty block, because it was allocated with an alignment.
    bytes.baseAddress!.assumingMemoryBound(to: type)
  }
}
