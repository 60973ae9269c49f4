// The connected workers, by their connection, and the workers that have left recently. Coordinator+Workers.swift
// decides when a worker counts as lost.

import Wire

struct Member: Equatable, Sendable {
  var id: WorkerID
  var peer: PeerID
  var description: WorkerDescription
  var joinedAt: Instant
  var lastHeard: Instant
  var heartbeat = Heartbeat()
  /// The worker's run.
  fileprivate(set) var run: RunID?
  /// When its count of progress last grew.
  fileprivate(set) var progressAt: Instant
  /// When its heartbeats began to name another generation than the one that it belongs to.
  var strayedAt: Instant?
  /// When its connection was closed; nil if a message arrived since.
  var closedAt: Instant?
  /// Runs that exclude it, and until when.
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
  /// Workers that have left are kept for `ress status`: at most this many, each for an hour or until a worker of its
  /// name joins.
  private static let goneLimit = 20
  private static let goneFor = Duration.seconds(3600)

  private var byPeer: [PeerID: Member] = [:]
  /// In the order in which they joined.
  private var order: [PeerID] = []
  /// One name, one process.
  private var byName: [String: PeerID] = [:]
  /// The newest last.
  private var gone: [Gone] = []
  /// MPI worlds that have lost a rank. No worker of such a world may return.
  private var brokenWorlds: Set<UInt64> = []

  subscript(peer: PeerID) -> Member? {
    get { byPeer[peer] }
    _modify { yield &byPeer[peer] }
  }

  /// In the order in which they joined.
  var inOrder: [Member] { order.map { byPeer[$0]! } }

  func named(_ name: String) -> Member? { byName[name].flatMap { byPeer[$0] } }

  /// The connected worker of a run.
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

  /// An MPI world has lost a rank. Returns the ranks that are still connected, or nil where the world was given up
  /// before.
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

  /// Releases a worker that its run no longer needs.
  mutating func release(_ peer: PeerID, _ generation: UInt32, _ reason: String, _ turn: inout Turn) {
    byPeer[peer]!.run = nil
    byPeer[peer]!.strayedAt = nil
    turn.send(.stop(generation: generation, reason: reason), to: peer)
  }

  /// Frees the workers of a run, which were asked to stop.
  mutating func forget(run: RunID) { for peer in peers(of: run) { byPeer[peer]!.run = nil } }

  mutating func putAside(_ peer: PeerID, from run: RunID, until: Instant) { byPeer[peer]!.aside[run] = until }
}
