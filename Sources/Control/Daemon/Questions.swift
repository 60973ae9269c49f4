// Requests that cost more to answer than to send: a page of a run's story (up to a hundred milliseconds of reading and
// encoding) and the state of everything. Such questions are queued. A peer gets its next answer after it has received
// the one before, in order; keys take turns, and so do the peers of a key; and each turn of the coordinator answers
// only a few, so that readers never delay heartbeats.

import Coordination
import Wire

package struct Questions {
  package enum Question: Equatable, Sendable {
    case page(RunID, after: Int, count: Int, ended: Bool)
    case status
    case details(RunID)
  }

  /// Queued questions of one peer, at most. An honest peer asks again only after an answer, or every second.
  package static let waitingLimit = 64

  private var waiting: [PeerID: [Question]] = [:]
  private var users: [PeerID: PublicKey] = [:]
  /// The key that was answered last, and the peer of each key that was answered last.
  private var lastUser = ""
  private var lastPeer: [String: PeerID] = [:]

  package init() {}

  /// Questions beyond the limit are dropped.
  package mutating func ask(_ question: Question, _ peer: PeerID, of user: PublicKey?) {
    guard waiting[peer, default: []].count < Self.waitingLimit else { return }
    waiting[peer, default: []].append(question)
    users[peer] = user
  }

  package mutating func forget(_ peer: PeerID) {
    waiting[peer] = nil
    users[peer] = nil
  }

  /// Whether a question can be answered now.
  package func isDue(_ hasTakenAll: (PeerID) -> Bool) -> Bool { waiting.keys.contains(where: hasTakenAll) }

  /// The next question to answer, among peers that have received their last answer.
  package mutating func next(_ hasTakenAll: (PeerID) -> Bool) -> (peer: PeerID, question: Question)? {
    var ready: [String: [PeerID]] = [:]
    for peer in waiting.keys where hasTakenAll(peer) {
      // Without encryption each peer counts as a key of its own.
      ready[users[peer]?.text ?? "\(peer)", default: []].append(peer)
    }
    let names = ready.keys.sorted()
    guard let user = names.first(where: { $0 > lastUser }) ?? names.first else { return nil }
    let peers = ready[user]!.sorted()
    let peer = lastPeer[user].flatMap { last in peers.first { last < $0 } } ?? peers[0]
    lastUser = user
    lastPeer = lastPeer.filter { ready[$0.key] != nil }
    lastPeer[user] = peer
    let question = waiting[peer]!.removeFirst()
    if waiting[peer]!.isEmpty { forget(peer) }
    return (peer, question)
  }
}
