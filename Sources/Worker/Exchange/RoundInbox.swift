// The messages of one round. A faster peer may already send messages of the next round; they are kept until this
// worker begins that round, because its experts still have the weights of the current one.
//
// A message can be early in three ways, and each is handled where it can be told from others:
// - of a generation that has not begun here: over ZeroMQ it is dropped, and the peer's link repeats it; MPI repeats
//   nothing, so `MPIPort` keeps it;
// - of the first step, while this worker still loads: `NetworkLink` keeps it until the state is complete;
// - of the next round: kept here. A peer cannot be ahead by more than one round, because it cannot end a round
//   without this worker's reports of it.

import Wire

package struct RoundInbox {
  private let link: any PeerLink
  /// The current round.
  package var round: UInt64 = 0
  /// Messages of rounds that have not begun here, in order of arrival.
  private var early: [DataMessage] = []

  package init(_ link: any PeerLink) { self.link = link }

  /// The next message of the round: an early one that was kept, or one from the link. A message of a round that is
  /// over is an error.
  package mutating func next(awaited: [Int], in phase: DataPhase) throws -> DataMessage {
    if let index = early.firstIndex(where: { $0.header.round == round }) { return early.remove(at: index) }
    while true {
      let message = try link.receive(awaited: awaited, in: phase)
      if message.header.round == round { return message }
      guard message.header.round > round else {
        throw message.header.refusal("it belongs to round \(message.header.round), this is round \(round)")
      }
      early.append(message)
    }
  }
}
