// Measures the connections between workers: how long a message takes, and how many bytes a second pass while all
// workers send. The coordinator decides by it where experts compute (`ExpertCopies`).
//
// It is a round of its own. Every worker sends to the next one of the roster and waits for the echo, first small
// messages and then large ones, and answers the messages of the worker before it meanwhile.

import Training
import Wire

extension PeerExchange {
  private static let smallCount = 10, largeCount = 2, largeBytes = 1 << 20

  /// Measures the connections together with all other workers, and returns the slowest one's speed, the same on every
  /// worker.
  package func probe(_ number: Int) throws -> LineSpeed? {
    try begin(Round(number: number, step: 0, purpose: .probe, unitCount: 1))
    let next = (plan.index + 1) % plan.workerCount
    // The quickest of some small messages: the others were delayed by something that a step's messages are not.
    var roundTrip = Double.infinity
    for _ in 0..<Self.smallCount { roundTrip = min(roundTrip, try echo(1, of: 4, from: next)) }
    let large = try echo(Self.largeCount, of: Self.largeBytes, from: next)
    let bytes = Double(Self.largeCount * Self.largeBytes)
    // Each byte travels there and back, and in the meantime as many of the worker before this one.
    let own = LineSpeed(
      latencySeconds: roundTrip / 2, bytesPerSecond: 2 * bytes / max(1e-9, large - roundTrip))
    var note = StepNote()
    (note.busy, note.sent) = (own.latencySeconds, own.bytesPerSecond)
    _ = try gather(Array(repeating: 0, count: normCount), note)
    return LineSpeed(
      latencySeconds: notes.map(\.busy).max()!, bytesPerSecond: notes.map(\.sent).min()!)
  }

  /// Seconds until the echoes of some messages have arrived.
  private func echo(_ count: Int, of bytes: Int, from peer: Int) throws -> Double {
    let begun = ContinuousClock.now
    let payload = Payload(byteCount: bytes)
    payload.bytes.initializeMemory(as: UInt8.self, repeating: 0)
    let due = echoes + count
    for _ in 0..<count { try send(.probe, .step, rows: 0, payload, to: peer) }
    while echoes < due { try serve(awaited: [peer], in: .echo) }
    return begun.duration(to: .now).inSeconds
  }
}
