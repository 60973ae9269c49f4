// Limits how often a log line is written that a remote peer can cause. Without it, a flood of refused messages
// wrote 14 MB to a log within a minute.
//
// It is a token bucket: some lines at once, then one for every interval. The line that follows a gap tells how many
// were left out.

/// A value without a clock: its owner passes the time.
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

  /// Returns nil where the line must not be written. Otherwise returns how many lines were left out since the last
  /// one.
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
