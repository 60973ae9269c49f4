// A generation, as its workers are told of it.

import Configuration

/// One worker's part in a generation.
package struct RosterEntry: Codable, Equatable, Sendable {
  package var worker: WorkerDescription
  package var units: Range<Int>
  package var experts: [Int]

  package init(worker: WorkerDescription, units: Range<Int>, experts: [Int]) {
    self.worker = worker
    self.units = units
    self.experts = experts
  }
}

/// Where the state of a generation's first step comes from.
package enum StartState: Codable, Equatable, Sendable {
  /// The seed.
  case fresh
  /// A checkpoint's folder, whose files the coordinator has verified.
  case checkpoint(path: String)
  case memory(MemoryState)
}

/// A whole state in the memory of workers: the shards of `generation` at `step`.
package struct MemoryState: Codable, Equatable, Sendable {
  package var generation: UInt32
  package var step: Int
  /// Units and experts of that generation, which say what is in which shard.
  package var units: [Range<Int>]
  package var experts: [[Int]]
  /// Which peer of the new generation sends each shard.
  package var holders: [Int]

  package init(generation: UInt32, step: Int, units: [Range<Int>], experts: [[Int]], holders: [Int]) {
    self.generation = generation
    self.step = step
    self.units = units
    self.experts = experts
    self.holders = holders
  }
}

/// What a worker needs to take part in a generation.
package struct Assignment: Codable, Equatable, Sendable {
  package var run: RunID
  package var generation: UInt32
  package var configuration: RunConfiguration
  package var roster: [RosterEntry]
  /// Workers that only hand over what they hold; as peers they follow those of the roster.
  package var helpers: [WorkerDescription]
  /// This worker's place among the peers.
  package var index: Int
  package var threads: Int
  package var start: StartState
  package var firstStep: Int
  /// Steps that the coordinator has on record. Who computed later ones, and hears of their loss here, says them again.
  package var recorded: Int
  /// Reports of this worker in the generation that were taken before it was assigned (again).
  package var noted: Int
  /// Folder that checkpoints are written to.
  package var folder: String
  /// What the run reads; nil where no worker has said it yet.
  package var data: DataIdentity?
  /// What the coordinator has written into a file there, which every worker must find; nil where it has written nothing.
  package var token: String?
  /// Folders that the run may use (`ress coordinator --root`); nil or none: all.
  package var roots: [String]?

  /// The name of that file.
  package static let tokenName = "folder-token"

  package init(
    run: RunID, generation: UInt32, configuration: RunConfiguration, roster: [RosterEntry],
    helpers: [WorkerDescription] = [], index: Int, threads: Int, start: StartState, firstStep: Int, recorded: Int = 0,
    noted: Int = 0, folder: String, data: DataIdentity? = nil, token: String? = nil
  ) {
    self.data = data
    self.run = run
    self.generation = generation
    self.configuration = configuration
    self.roster = roster
    self.helpers = helpers
    self.index = index
    self.threads = threads
    self.start = start
    self.firstStep = firstStep
    self.recorded = recorded
    self.noted = noted
    self.folder = folder
    self.token = token
  }

  /// Everyone in the generation, by place.
  package var peers: [WorkerDescription] { roster.map(\.worker) + helpers }
  package var isHelper: Bool { index >= roster.count }
  /// The peer that keeps a copy of a worker's shard: the next one in the roster on another host, else the next one.
  package func mirror(of place: Int) -> Int? {
    let others = (1..<max(1, roster.count)).map { (place + $0) % roster.count }
    return others.first { roster[$0].worker.host != roster[place].worker.host } ?? others.first
  }
}

/// A unit that two workers computed with different results.
package struct Disagreement: Codable, Equatable, Sendable {
  /// Steps applied before the one that was not.
  package var step: Int
  package var unit: Int
  /// Places in the roster of those who computed it, and what each got, as a hash of losses and gradients.
  package var voters: [Int]
  package var hashes: [UInt64]

  package init(step: Int, unit: Int, voters: [Int], hashes: [UInt64]) {
    self.step = step
    self.unit = unit
    self.voters = voters
    self.hashes = hashes
  }
}

/// To write the file of one shard of a checkpoint again.
package struct RewriteOrder: Codable, Equatable, Sendable {
  package var shard: HeldShard
  /// Units and experts of its generation, which say what is in it.
  package var units: [Range<Int>]
  package var experts: [[Int]]
  /// The run's folder.
  package var folder: String
  /// Folders that the run may use; nil or none: all.
  package var roots: [String]?

  package init(shard: HeldShard, units: [Range<Int>], experts: [[Int]], folder: String) {
    self.shard = shard
    self.units = units
    self.experts = experts
    self.folder = folder
  }
}
