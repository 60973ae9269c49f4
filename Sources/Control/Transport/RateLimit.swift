// Limits how fast one process may send to a coordinator. A packet over the limit is dropped before it is parsed,
// and its sender's link repeats it. A misbehaving client is slowed down; a well-behaved one in a burst loses
// nothing.

import Wire

/// A token bucket for packets and bytes.
package struct RateLimit: Sendable {
  package struct Rate: Equatable, Sendable {
    package var packetsPerSecond: Double
    package var bytesPerSecond: Double
    /// How many seconds' worth of both may arrive at once.
    package var burstSeconds: Double

    package init(packetsPerSecond: Double, bytesPerSecond: Double, burstSeconds: Double) {
      self.packetsPerSecond = packetsPerSecond
      self.bytesPerSecond = bytesPerSecond
      self.burstSeconds = burstSeconds
    }

    /// A worker that does a thousand tiny steps a second sends three packets a step.
    package static let standard = Rate(packetsPerSecond: 5_000, bytesPerSecond: 32e6, burstSeconds: 2)
  }

  private let rate: Rate
  private var packets: Double
  private var bytes: Double
  private var filled: Instant

  package init(_ rate: Rate, at now: Instant) {
    self.rate = rate
    packets = rate.packetsPerSecond * rate.burstSeconds
    bytes = rate.bytesPerSecond * rate.burstSeconds
    filled = now
  }

  /// Whether a packet of that size is within the limit. If it is, it is counted.
  package mutating func admits(byteCount: Int, at now: Instant) -> Bool {
    let seconds = max(0, (now - filled).inSeconds)
    filled = max(filled, now)
    packets = min(rate.packetsPerSecond * rate.burstSeconds, packets + seconds * rate.packetsPerSecond)
    bytes = min(rate.bytesPerSecond * rate.burstSeconds, bytes + seconds * rate.bytesPerSecond)
    // A packet may be larger than what is left, which then becomes negative. Otherwise large packets would never be
    // admitted.
    guard packets >= 1, bytes > 0 else { return false }
    packets -= 1
    bytes -= Double(byteCount)
    return true
  }
}
