// Memory for sums that need more precision than the model's numbers have.

/// Doubles, for sums in which float would lose too much precision.
package final class DoubleBuffer {
  package let pointer: UnsafeMutablePointer<Double>
  package let count: Int

  package init(_ count: Int) {
    self.count = count
    pointer = .allocate(capacity: max(count, 1))
    pointer.initialize(repeating: 0, count: max(count, 1))
  }

  deinit { pointer.deallocate() }
}
