// One membership of one run: which worker computes which units and holds which experts, and how far each worker is. It is stored with the
// run, so that a coordinator that was restarted continues with the same generation.

import Configuration
import Wire

struct Generation: Codable, Equatable, Sendable {
  var number: UInt32
  var roster: [RosterEntry]
  /// Workers that only send the shards that they hold, and are released afterwards.
  var helpers: [WorkerDescription] = []
  var firstStep: Int
  /// Number of reports that were taken of each peer.
  var acknowledged: [Int]
  /// Indices in the roster of the workers that have loaded.
  var ready: Set<Int> = []
  /// What workers found at the dataset's path, by index in the roster; nil before the first.
  var reads: [Int: DataIdentity]?
  /// The step after which each worker has stopped, by index in the roster.
  var halted: [Int: Int] = [:]
  var finished: Set<Int> = []
  /// While the run is collecting: indices of the peers that have not yet reported what they hold.
  var awaited: Set<Int> = []
  /// What the move of experts with which the generation began should save.
  var promise: PlacementPromise?

  /// All members of the generation. A position in the list is the member's index.
  var peers: [WorkerDescription] { roster.map(\.worker) + helpers }

  /// The experts that every worker has, as owner or as a copy.
  var copiedExperts: [Int] {
    let copied = Set(roster.flatMap { $0.copies ?? [] })
    return copied.filter { expert in
      roster.allSatisfy { $0.experts.contains(expert) || $0.copies?.contains(expert) == true }
    }.sorted()
  }

  /// The keys of the stored form, which stores of older versions have.
  private enum CodingKeys: String, CodingKey {
    case number, roster, helpers, firstStep, ready, reads, halted, finished, awaited, promise
    case acknowledged = "noted"
  }

  func index(of worker: WorkerDescription) -> Int? { peers.firstIndex(of: worker) }

  var allReady: Bool { ready.count == roster.count }
  var allHalted: Bool { halted.count == roster.count }
  var allFinished: Bool { finished.count == roster.count }
}
