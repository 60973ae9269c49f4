// The note that every worker attaches to the norms of its gradients: its wish to stop, its busy time, and the
// hashes of audited units. Every worker has everyone's notes before the step is applied, so all take the same
// decisions without a further message.

/// Whether the coordinator has asked this worker to stop after the current step, and whether with a checkpoint.
package enum HaltWish: Int, Comparable, Sendable {
  case none, halt, haltSaving

  package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// The fields of a worker's note. Wire form: `encoded`.
package struct StepNote: Equatable, Sendable {
  package var halt = HaltWish.none
  /// Seconds spent computing in this step so far.
  package var busy = 0.0
  /// Bytes sent to peers for training since the last note.
  package var sent = 0.0
  /// Hashes of this worker's results of the step's audited units, as owner and as auditor; 0 for the units of
  /// others.
  package var owned: [UInt64] = []
  package var audited: [UInt64] = []

  package init() {}

  /// The note as doubles, the type of the norms that it travels with; hashes keep their bits.
  package var encoded: [Double] {
    [Double(halt.rawValue), busy, sent, Double(owned.count)] + (owned + audited).map { Double(bitPattern: $0) }
  }

  /// Nil where the numbers are not a valid note.
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
