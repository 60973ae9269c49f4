// One membership of one run: who does which units and holds which experts, and how far each worker has come in it. It is stored with the
// run, so a coordinator that was restarted goes on with the same generation.

import Configuration
import Wire

struct Generation: Codable, Equatable, Sendable {
  var number: UInt32
  var roster: [RosterEntry]
  /// Workers that hand over what they hold and are then released.
  var helpers: [WorkerDescription] = []
  var firstStep: Int
  /// How many reports of each peer were taken.
  var noted: [Int]
  /// Places in the roster of the workers that have loaded.
  var ready: Set<Int> = []
  /// What workers found at the dataset's path, by place in the roster; nil before the first.
  var reads: [Int: DataIdentity]?
  /// The step after which each worker has stopped, by place in the roster.
  var halted: [Int: Int] = [:]
  var finished: Set<Int> = []
  /// While the run is collecting: places of the peers that have not yet reported what they hold.
  var awaited: Set<Int> = []
  /// What the experts' new places should bring.
  var promise: PlacementPromise?

  /// Everyone in the generation. An index into it is a peer's place.
  var peers: [WorkerDescription] { roster.map(\.worker) + helpers }

  /// The experts that every worker has, as owner or as a copy.
  var copiedExperts: [Int] {
    let copied = Set(roster.flatMap { $0.copies ?? [] })
    return copied.filter { expert in
      roster.allSatisfy { $0.experts.contains(expert) || $0.copies?.contains(expert) == true }
    }.sorted()
  }

  func place(of worker: WorkerDescription) -> Int? { peers.firstIndex(of: worker) }

  var allReady: Bool { ready.count == roster.count }
  var allHalted: Bool { halted.count == roster.count }
  var allFinished: Bool { finished.count == roster.count }
}
