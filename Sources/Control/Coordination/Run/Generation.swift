// One membership of one run: who does which units and holds which experts, and how far each worker has come in it. It is stored with the
// run, so a coordinator that was restarted goes on with the same generation.

import Configuration
import Wire

struct Generation: Codable, Equatable, Sendable {
  var number: UInt32
  @EncodedOnce private(set) var roster: [RosterEntry]
  /// Workers that hand over what they hold and are then released.
  let helpers: [WorkerDescription]
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

  /// The place of each peer, by its name: an event of a worker must not cost a look at all others.
  private var places: [String: Int] = [:]

  /// The stored fields; `places` follows from them.
  private enum CodingKeys: String, CodingKey {
    case number, roster, helpers, firstStep, noted, ready, reads, halted, finished, awaited, promise
  }

  init(
    number: UInt32, roster: [RosterEntry], helpers: [WorkerDescription], firstStep: Int, promise: PlacementPromise?
  ) {
    self.number = number
    self.roster = roster
    self.helpers = helpers
    self.firstStep = firstStep
    self.promise = promise
    noted = Array(repeating: 0, count: roster.count + helpers.count)
    findPlaces()
  }

  init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    number = try fields.decode(UInt32.self, forKey: .number)
    _roster = try fields.decode(EncodedOnce<[RosterEntry]>.self, forKey: .roster)
    helpers = try fields.decode([WorkerDescription].self, forKey: .helpers)
    firstStep = try fields.decode(Int.self, forKey: .firstStep)
    noted = try fields.decode([Int].self, forKey: .noted)
    ready = try fields.decode(Set<Int>.self, forKey: .ready)
    reads = try fields.decodeIfPresent([Int: DataIdentity].self, forKey: .reads)
    halted = try fields.decode([Int: Int].self, forKey: .halted)
    finished = try fields.decode(Set<Int>.self, forKey: .finished)
    awaited = try fields.decode(Set<Int>.self, forKey: .awaited)
    promise = try fields.decodeIfPresent(PlacementPromise.self, forKey: .promise)
    findPlaces()
  }

  private mutating func findPlaces() {
    for (place, peer) in peers.enumerated() where places[peer.name] == nil { places[peer.name] = place }
  }

  /// Everyone in the generation. An index into it is a peer's place.
  var peers: [WorkerDescription] { roster.map(\.worker) + helpers }

  /// The peer at a place; nil where there is no such place.
  func peer(at place: Int) -> WorkerDescription? {
    if roster.indices.contains(place) { return roster[place].worker }
    let helper = place - roster.count
    return helpers.indices.contains(helper) ? helpers[helper] : nil
  }

  func place(named name: String) -> Int? { places[name] }

  /// The experts that every worker has, as owner or as a copy.
  var copiedExperts: [Int] {
    let copied = Set(roster.flatMap { $0.copies ?? [] })
    return copied.filter { expert in
      roster.allSatisfy { $0.experts.contains(expert) || $0.copies?.contains(expert) == true }
    }.sorted()
  }

  func place(of worker: WorkerDescription) -> Int? {
    places[worker.name].flatMap { peer(at: $0) == worker ? $0 : nil }
  }

  var allReady: Bool { ready.count == roster.count }
  var allHalted: Bool { halted.count == roster.count }
  var allFinished: Bool { finished.count == roster.count }
}
