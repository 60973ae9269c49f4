// What workers tell each other of a step beside its numbers, together with the norms of the gradients: everyone hears the same
// from everyone before the step is applied, so all decide alike without another message.

/// Whether a worker was asked to stop at the next boundary of a step.
package enum HaltWish: Int, Comparable, Sendable {
  case none, halt, haltSaving

  package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

package struct StepNote: Equatable, Sendable {
  package var halt = HaltWish.none
  /// Seconds of computing in this step so far.
  package var busy = 0.0
  /// Bytes that this worker has sent for training since the note before.
  package var sent = 0.0
  /// Hashes of this worker's results of the step's audited units, as their owner and as their auditor; 0 for others.
  package var owned: [UInt64] = []
  package var audited: [UInt64] = []

  package init() {}

  /// As doubles, which is what travels with the norms; hashes keep their bits.
  package var encoded: [Double] {
    [Double(halt.rawValue), busy, sent, Double(owned.count)] + (owned + audited).map { Double(bitPattern: $0) }
  }

  /// Nil where the numbers are no note.
  package init?(_ numbers: some Collection<Double>) {
    let numbers = Array(numbers)
    guard numbers.count >= 4, let wish = HaltWish(rawValue: Int(exactly: numbers[0]) ?? -1),
      let count = Int(exactly: numbers[3]), count >= 0, numbers.count == 4 + 2 * count
    else { return nil }
    halt = wish
    busy = numbers[1]
    sent = numbers[2]
    owned = numbers[4..<4 + count].map(\.bitPattern)
    audited = numbers[(4 + count)...].map(\.bitPattern)
  }
}
