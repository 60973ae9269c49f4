// One membership of one run: which worker computes which units and holds which experts, and how far each worker is. It
// is stored with the run, so that a coordinator that was restarted continues with the same generation.

import Configuration
import Wire

struct Generation: Codable, Equatable, Sendable {
  var number: UInt32
  @EncodedOnce private(set) var roster: [RosterEntry]
  /// Workers that only send the shards that they hold, and are released afterwards.
  let helpers: [WorkerDescription]
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

  /// The index of each peer, by its name, so that an event of one worker does not cost a search among all.
  private var indices: [String: Int] = [:]

  /// The stored fields, with the keys that stores of older versions have; `indices` follows from them.
  private enum CodingKeys: String, CodingKey {
    case number, roster, helpers, firstStep, ready, reads, halted, finished, awaited, promise
    case acknowledged = "noted"
  }

  init(
    number: UInt32, roster: [RosterEntry], helpers: [WorkerDescription], firstStep: Int, promise: PlacementPromise?
  ) {
    self.number = number
    self.roster = roster
    self.helpers = helpers
    self.firstStep = firstStep
    self.promise = promise
    acknowledged = Array(repeating: 0, count: roster.count + helpers.count)
    findIndices()
  }

  init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    number = try fields.decode(UInt32.self, forKey: .number)
    _roster = try fields.decode(EncodedOnce<[RosterEntry]>.self, forKey: .roster)
    helpers = try fields.decode([WorkerDescription].self, forKey: .helpers)
    firstStep = try fields.decode(Int.self, forKey: .firstStep)
    acknowledged = try fields.decode([Int].self, forKey: .acknowledged)
    ready = try fields.decode(Set<Int>.self, forKey: .ready)
    reads = try fields.decodeIfPresent([Int: DataIdentity].self, forKey: .reads)
    halted = try fields.decode([Int: Int].self, forKey: .halted)
    finished = try fields.decode(Set<Int>.self, forKey: .finished)
    awaited = try fields.decode(Set<Int>.self, forKey: .awaited)
    promise = try fields.decodeIfPresent(PlacementPromise.self, forKey: .promise)
    findIndices()
  }

  private mutating func findIndices() {
    for (index, peer) in peers.enumerated() where indices[peer.name] == nil { indices[peer.name] = index }
  }

  /// All members of the generation. A position in the list is the member's index.
  var peers: [WorkerDescription] { roster.map(\.worker) + helpers }

  /// The peer with an index; nil where there is no such index.
  func peer(at index: Int) -> WorkerDescription? {
    if roster.indices.contains(index) { return roster[index].worker }
    let helper = index - roster.count
    return helpers.indices.contains(helper) ? helpers[helper] : nil
  }

  func index(named name: String) -> Int? { indices[name] }

  /// The experts that every worker has, as owner or as a copy.
  var copiedExperts: [Int] {
    let copied = Set(roster.flatMap { $0.copies ?? [] })
    return copied.filter { expert in
      roster.allSatisfy { $0.experts.contains(expert) || $0.copies?.contains(expert) == true }
    }.sorted()
  }

  func index(of worker: WorkerDescription) -> Int? {
    indices[worker.name].flatMap { peer(at: $0) == worker ? $0 : nil }
  }

  /// The place of a worker in the roster; nil for helpers and for workers of other generations.
  func place(of worker: WorkerDescription) -> Int? { index(of: worker).flatMap { $0 < roster.count ? $0 : nil } }

  var allReady: Bool { ready.count == roster.count }
  var allHalted: Bool { halted.count == roster.count }
  var allFinished: Bool { finished.count == roster.count }
}
