// Bytes on their way between workers. Rows are gathered straight into a payload and leave from it: ZeroMQ sends the memory
// itself and lets go of it when the last packet that shows it has left, so nothing is copied on the way out.

/// A fixed block of bytes, aligned for vector loads. Filled once by its maker, read by everyone after.
///
/// Its pointers do not keep it alive: Swift may release an object after the last use of the object itself, which is before
/// the last use of a pointer taken from it. Who reads through one holds the payload with `withExtendedLifetime`.
package final class Payload: @unchecked Sendable {
  package let bytes: UnsafeMutableRawBufferPointer

  /// Uninitialised.
  package init(byteCount: Int) {
    bytes = .allocate(byteCount: byteCount, alignment: 64)
  }

  package convenience init(copying values: UnsafePointer<Float>, count: Int) {
    self.init(byteCount: 4 * count)
    bytes.copyMemory(from: UnsafeRawBufferPointer(start: values, count: 4 * count))
  }

  deinit { bytes.deallocate() }

  /// A copy of the bytes.
  package var array: [UInt8] { withExtendedLifetime(self) { Array(bytes) } }

  package var reals: UnsafeMutablePointer<Float> { start(as: Float.self) }
  package var words: UnsafeMutablePointer<Int32> { start(as: Int32.self) }
  package var doubles: UnsafeMutableBufferPointer<Double> {
    UnsafeMutableBufferPointer(start: start(as: Double.self), count: bytes.count / 8)
  }

  private func start<Value>(as type: Value.Type) -> UnsafeMutablePointer<Value> {
    // An empty block has an address all the same: it was allocated with an alignment.
    bytes.baseAddress!.assumingMemoryBound(to: type)
  }
}
