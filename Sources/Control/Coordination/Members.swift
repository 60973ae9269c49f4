// The workers that are connected, each by the peer it speaks as, and those that have left lately. A worker joins by saying hello and stays
// as long as it is heard; Coordinator+Workers.swift decides when that is no longer the case.

import Wire

struct Member: Equatable, Sendable {
  var id: WorkerID
  var peer: PeerID
  var description: WorkerDescription
  var joinedAt: Instant
  var lastHeard: Instant
  var heartbeat = Heartbeat()
  /// The run that it works for.
  fileprivate(set) var run: RunID?
  /// When its count of progress last moved.
  fileprivate(set) var progressAt: Instant
  /// Since when its heartbeats have belonged to another generation than the one it is counted on for.
  var strayedAt: Instant?
  /// When its connection was closed, unless it was heard again.
  var closedAt: Instant?
  /// Runs that do without it, and until when.
  fileprivate(set) var aside: [RunID: Instant] = [:]

  init(id: WorkerID, peer: PeerID, description: WorkerDescription, at now: Instant) {
    self.id = id
    self.peer = peer
    self.description = description
    joinedAt = now
    lastHeard = now
    progressAt = now
  }

  /// Takes in a heartbeat.
  mutating func hear(_ heartbeat: Heartbeat, at now: Instant) {
    if heartbeat.progress != self.heartbeat.progress || heartbeat.generation != self.heartbeat.generation {
      progressAt = now
    }
    self.heartbeat = heartbeat
  }
}

/// A worker that has left.
struct Gone: Equatable, Sendable {
  var description: WorkerDescription
  var run: String?
  var reason: String
  var at: Instant
}

struct Members: Sendable {
  /// Workers that have left are kept for `status`: this many of them at most, each for an hour or until one of its name joins.
  private static let goneLimit = 20
  private static let goneFor = Duration.seconds(3600)

  private var byPeer: [PeerID: Member] = [:]
  /// In the order in which they joined.
  private var order: [PeerID] = []
  /// One name, one process.
  private var byName: [String: PeerID] = [:]
  /// The newest last.
  private var gone: [Gone] = []
  /// MPI worlds that have lost a rank: no worker of such a world may come back.
  private var brokenWorlds: Set<UInt64> = []

  subscript(peer: PeerID) -> Member? {
    get { byPeer[peer] }
    _modify { yield &byPeer[peer] }
  }

  /// In the order in which they joined.
  var inOrder: [Member] { order.map { byPeer[$0]! } }

  func named(_ name: String) -> Member? { byName[name].flatMap { byPeer[$0] } }

  /// A worker that works for a run.
  func worker(_ description: WorkerDescription, of run: RunID) -> Member? {
    named(description.name).flatMap { $0.run == run && $0.description == description ? $0 : nil }
  }

  /// The peers that work for a run.
  func peers(of run: RunID) -> [PeerID] { byPeer.keys.sorted().filter { byPeer[$0]!.run == run } }

  func gone(at now: Instant) -> [Gone] { gone.filter { now < $0.at + Members.goneFor } }

  // MARK: coming and going

  mutating func add(_ member: Member) {
    gone.removeAll { $0.description.name == member.description.name }
    byPeer[member.peer] = member
    order.append(member.peer)
    byName[member.description.name] = member.peer
  }

  mutating func remove(_ member: Member, _ run: String?, _ reason: String, at now: Instant) {
    byPeer[member.peer] = nil
    order.removeAll { $0 == member.peer }
    byName[member.description.name] = nil
    gone.append(Gone(description: member.description, run: run, reason: reason, at: now))
    if gone.count > Members.goneLimit { gone.removeFirst() }
  }

  func isBroken(world: UInt64) -> Bool { brokenWorlds.contains(world) }

  /// An MPI world has lost a rank. Returns the ranks that are still here, or nil where the world was given up before.
  mutating func breakWorld(_ world: UInt64) -> [Member]? {
    brokenWorlds.insert(world).inserted ? inOrder.filter { $0.description.mpi?.world == world } : nil
  }

  // MARK: working for runs

  mutating func assign(_ peer: PeerID, to run: RunID, at now: Instant) {
    byPeer[peer]!.run = run
    byPeer[peer]!.strayedAt = nil
    byPeer[peer]!.progressAt = now
  }

  /// A worker that lost its connection and joined again continues to work for its run.
  mutating func assignAgain(_ peer: PeerID, to run: RunID) { byPeer[peer]!.run = run }

  mutating func progressed(_ peer: PeerID, at now: Instant) { byPeer[peer]!.progressAt = now }

  /// Tells a worker that its run does not need it any more.
  mutating func release(_ peer: PeerID, _ generation: UInt32, _ reason: String, _ turn: inout Turn) {
    byPeer[peer]!.run = nil
    byPeer[peer]!.strayedAt = nil
    turn.send(.stop(generation: generation, reason: reason), to: peer)
  }

  /// The workers of a run, which have been told to stop, are free.
  mutating func forget(run: RunID) { for peer in peers(of: run) { byPeer[peer]!.run = nil } }

  mutating func putAside(_ peer: PeerID, from run: RunID, until: Instant) { byPeer[peer]!.aside[run] = until }
}
