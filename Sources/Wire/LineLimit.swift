// A bound on lines of a log that strangers can cause: some at once, then one now and then. A flood of refused messages left 14 MB in a
// log within a minute.

package struct LineLimit: Equatable, Sendable {
  private let most: Int
  private let every: Duration
  private var left: Int
  private var refilledAt: Instant?
  private var leftOut = 0

  /// - Parameters:
  ///   - most: lines at once.
  ///   - every: one more is allowed after this long.
  package init(most: Int = 20, every: Duration = .seconds(5)) {
    self.most = most
    self.every = every
    left = most
  }

  /// Whether a line may be written now: nil, or how many were left out since the last one.
  package mutating func admit(at now: Instant) -> Int? {
    if let before = refilledAt {
      let earned = (now - before).nanoseconds / every.nanoseconds
      if earned > 0 {
        left = Int(min(Int64(most), Int64(left) + earned))
        refilledAt = left == most ? now : before + every * Int(earned)
      }
    } else {
      refilledAt = now
    }
    guard left > 0 else {
      leftOut += 1
      return nil
    }
    left -= 1
    defer { leftOut = 0 }
    return leftOut
  }
}
