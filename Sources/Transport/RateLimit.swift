// How fast one process may speak to a coordinator. What is over the limit is dropped before it is read, and the sender's link says it
// again: a bad client waits, a good one that was in a hurry loses nothing.

import Wire

/// A bucket that fills with time: packets and bytes.
package struct RateLimit: Sendable {
  package struct Rate: Equatable, Sendable {
    package var packetsPerSecond: Double
    package var bytesPerSecond: Double
    /// Seconds of both that may come at once.
    package var burstSeconds: Double

    package init(packetsPerSecond: Double, bytesPerSecond: Double, burstSeconds: Double) {
      self.packetsPerSecond = packetsPerSecond
      self.bytesPerSecond = bytesPerSecond
      self.burstSeconds = burstSeconds
    }

    /// A worker that does a thousand tiny steps a second says three packets a step.
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

  /// Whether a packet of so many bytes is within the limit. One that is counts.
  package mutating func admits(byteCount: Int, at now: Instant) -> Bool {
    let seconds = max(0, (now - filled).inSeconds)
    filled = max(filled, now)
    packets = min(rate.packetsPerSecond * rate.burstSeconds, packets + seconds * rate.packetsPerSecond)
    bytes = min(rate.bytesPerSecond * rate.burstSeconds, bytes + seconds * rate.bytesPerSecond)
    // A packet that is larger than what is left overdraws: no size is shut out for ever.
    guard packets >= 1, bytes > 0 else { return false }
    packets -= 1
    bytes -= Double(byteCount)
    return true
  }
}
