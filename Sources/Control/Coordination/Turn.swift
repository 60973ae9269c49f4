// One turn of the coordinator: the time at which it is taken, and what comes of it. Every function that decides something is passed
// the turn and adds to it, so that none reads a clock and none returns lists to be joined.

import Wire

struct Turn {
  let settings: Settings
  /// The coordinator's own time (`SteadyClock`), which does not change within a turn.
  let now: Instant
  /// What the daemon is to do, in this order.
  private(set) var actions: [Action] = []
  /// What the store must hold before the daemon does any of it.
  private(set) var changes: [StoreChange] = []

  init(_ settings: Settings, now: Instant) {
    self.settings = settings
    self.now = now
  }

  mutating func add(_ action: Action) { actions.append(action) }

  mutating func send(_ reply: Reply, to peer: PeerID) { actions.append(.send(peer, reply)) }

  mutating func refuse(_ reason: String, to peer: PeerID) { send(.refused(reason: reason), to: peer) }

  mutating func log(_ line: String) { actions.append(.log(line)) }

  mutating func store(_ change: StoreChange) { changes.append(change) }

  /// All actions of the turn. What is stored comes first, so that whatever was answered is remembered.
  func ended() -> [Action] { changes.isEmpty ? actions : [.store(changes)] + actions }
}

/// What a coordinator was started with.
struct Settings: Sendable {
  /// Random, so that run identifiers of two coordinators differ.
  let seed: UInt64
  /// Silence after which a worker is lost; a run's own setting decides about the workers that work for it.
  let patience: Duration
  /// Name and version, written into checkpoints.
  let program: String
  /// Folders that runs may use; none: all.
  let roots: [String]
}
