// What costs more to answer than to ask: a page of a run's story (a hundred milliseconds' work of reading and encoding at worst), the state of
// everything. Such questions wait in line. A peer is answered when it has taken the answer before, one after the other and in its order; keys
// take turns, and the peers of a key; and each turn of the coordinator answers a few, so that heartbeats are never kept waiting by those who
// only look.

import Coordination
import Wire

package struct Questions {
  package enum Question: Equatable, Sendable {
    case page(RunID, after: Int, count: Int, ended: Bool)
    case status
  }

  /// What one peer may have waiting. An honest one asks again only when it was answered, or every second.
  package static let waitingLimit = 64

  private var waiting: [PeerID: [Question]] = [:]
  private var users: [PeerID: PublicKey] = [:]
  /// Who was answered last: of all keys, and of each key's peers.
  private var lastUser = ""
  private var lastPeer: [String: PeerID] = [:]

  package init() {}

  /// A question too many is dropped.
  package mutating func ask(_ question: Question, _ peer: PeerID, of user: PublicKey?) {
    guard waiting[peer, default: []].count < Self.waitingLimit else { return }
    waiting[peer, default: []].append(question)
    users[peer] = user
  }

  package mutating func forget(_ peer: PeerID) {
    waiting[peer] = nil
    users[peer] = nil
  }

  /// Whether somebody can be answered now.
  package func isDue(_ hasTakenAll: (PeerID) -> Bool) -> Bool { waiting.keys.contains(where: hasTakenAll) }

  /// The next question to answer, among peers that have taken what they were told.
  package mutating func next(_ hasTakenAll: (PeerID) -> Bool) -> (peer: PeerID, question: Question)? {
    var ready: [String: [PeerID]] = [:]
    for peer in waiting.keys where hasTakenAll(peer) {
      // In the clear each peer is a user of its own.
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
