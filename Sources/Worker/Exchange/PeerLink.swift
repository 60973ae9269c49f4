// A worker's connection to its peers in one generation, as `PeerExchange` sees it: over the network (`NetworkLink` in
// target Worker), or inside one process.

import Wire

/// Delivers each message once and in order, or throws an error.
package protocol PeerLink: AnyObject {
  func send(_ message: DataMessage, to worker: Int) throws
  /// Blocks until a message arrives, of any phase. Throws when the generation is stopped. `awaited` (roster
  /// indices) and `phase` tell for what this worker waits; they are shown to users when the wait is long.
  func receive(awaited: [Int], in phase: DataPhase) throws -> DataMessage
  /// Called again and again during a wait that is not for a message. Throws when the generation is stopped, and shows a
  /// long wait to users. `endLook` is called when such a wait is over.
  func look(awaited: [Int], in phase: DataPhase, since begun: ContinuousClock.Instant) throws
  func endLook()
  /// Seconds spent in `receive` since the link was made.
  var waitedSeconds: Double { get }
}

/// A peer has sent a message that does not fit the round's state.
package enum ExchangeError: Error, Equatable, CustomStringConvertible {
  case unexpectedMessage(phase: String, sender: Int, detail: String)

  package var description: String {
    switch self {
    case .unexpectedMessage(let phase, let sender, let detail):
      "worker \(sender) of the roster sent a '\(phase)' message that does not fit: \(detail); "
        + "all workers of a run must be of one version"
    }
  }
}

extension DataHeader {
  /// The error for a message with this header.
  func refusal(_ detail: String) -> ExchangeError {
    .unexpectedMessage(phase: phase.description, sender: Int(sender), detail: detail)
  }
}
