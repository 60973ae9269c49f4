// One turn of the coordinator: its time, and the actions and changes that result. Every function that decides something
// receives the turn and adds to it, so no function reads a clock, and no function returns lists that its caller has to
// join.

import Wire

struct Turn {
  let settings: Settings
  /// The coordinator's own time (`SteadyClock`), which does not change within a turn.
  let now: Instant
  /// The actions that the daemon carries out, in this order.
  private(set) var actions: [Action] = []
  /// The changes that the store must hold before the daemon carries out any action.
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

  /// All actions of the turn. Changes of the store come first, so that every reply that is sent is based on stored
  /// state.
  func ended() -> [Action] { changes.isEmpty ? actions : [.store(changes)] + actions }
}

/// The settings with which a coordinator was started.
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
