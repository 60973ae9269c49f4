// A generation, as the coordinator describes it to its workers.
//
// A generation is one membership of a run: a fixed list of workers (the roster), the units and experts that each of
// them computes, and the state that the first step begins from. The coordinator sends every member the same roster
// in an `Assignment`. Any change of membership is a new generation with a larger number.

import Configuration

/// One worker's part in a generation: the units of each step that it computes, and its experts.
package struct RosterEntry: Codable, Equatable, Sendable {
  package var worker: WorkerDescription
  package var units: Range<Int>
  /// The experts that it owns: it has their moments and updates them.
  package var experts: [Int]
  /// Experts of other workers whose weights it has too, so that the rows of its units need not travel to them; nil
  /// where it has none.
  package var copies: [Int]?

  package init(worker: WorkerDescription, units: Range<Int>, experts: [Int], copies: [Int] = []) {
    self.worker = worker
    self.units = units
    self.experts = experts
    self.copies = copies.isEmpty ? nil : copies
  }
}

/// Where a generation's first step takes parameters and moments from.
package enum StartState: Codable, Equatable, Sendable {
  /// A new run: parameters are drawn from the run's seed.
  case fresh
  /// A new run: weights come from a checkpoint of another run, which the coordinator has verified; what that one
  /// lacks is drawn from the seed.
  case weights(WeightSource)
  /// A checkpoint's folder, whose files the coordinator has verified.
  case checkpoint(path: String)
  /// Shards in the memory of workers, which send them to their new owners before training begins.
  case memory(MemoryState)

  /// Whether no step was done: moments are zero, and parameters are drawn from the seed at first.
  package var isBeginning: Bool {
    switch self {
    case .fresh, .weights: true
    case .checkpoint, .memory: false
    }
  }
}

/// A whole state of a run in the memory of workers: the shards of `generation` after `step` optimizer steps.
package struct MemoryState: Codable, Equatable, Sendable {
  package var generation: UInt32
  package var step: Int
  /// Units and experts of each worker of that generation. They determine which tensors each shard contains.
  package var units: [Range<Int>]
  package var experts: [[Int]]
  /// For each shard, the index of the peer of the new generation that sends it.
  package var holders: [Int]

  package init(generation: UInt32, step: Int, units: [Range<Int>], experts: [[Int]], holders: [Int]) {
    self.generation = generation
    self.step = step
    self.units = units
    self.experts = experts
    self.holders = holders
  }
}

/// All that a worker needs to take part in a generation.
package struct Assignment: Codable, Equatable, Sendable {
  package var run: RunID
  package var generation: UInt32
  package var configuration: RunConfiguration
  @EncodedOnce package var roster: [RosterEntry]
  /// Workers that train nothing in this generation and only send the shards they hold. Their peer indices follow
  /// the roster's.
  package var helpers: [WorkerDescription]
  /// This worker's index among `peers`.
  package var index: Int
  package var threads: Int
  package var start: StartState
  package var firstStep: Int
  /// Number of steps whose records the coordinator has stored. A worker that has computed later ones reports them
  /// again, since the worker that reported them first may have died before its reports were stored.
  package var recorded: Int
  /// Number of this worker's reports in the generation that the coordinator had stored when it sent the assignment.
  /// It is not 0 where a worker that lost its connection is assigned to the same generation again.
  package var noted: Int
  /// The folder that checkpoints are written to.
  package var folder: String
  /// Digests of the dataset and tokenizer that the run reads; nil until a worker has reported them.
  package var data: DataIdentity?
  /// The content of the file `tokenName` in the run's folder, by which a worker checks that it sees the same folder
  /// as the coordinator; nil where the coordinator has not written the file.
  package var token: String?
  /// Folders that the run may use (`ress coordinator --root`). Nil or an empty list permits all.
  package var roots: [String]?

  /// Whether the checkpoint may have been trained with other numerics than the workers'; nil means no.
  package var acceptsOtherNumerics: Bool?

  /// The name of the file that holds `token`.
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

  /// Every member of the generation in the order of their indices: the roster, then the helpers.
  package var peers: [WorkerDescription] { roster.map(\.worker) + helpers }
  package var isHelper: Bool { index >= roster.count }
  /// The index of the peer that keeps a copy of the shard of worker `place`: the next worker of the roster on
  /// another host, or the next worker where all are on one host; nil in a roster of one.
  package func mirror(of place: Int) -> Int? {
    let others = (1..<max(1, roster.count)).map { (place + $0) % roster.count }
    return others.first { roster[$0].worker.host != roster[place].worker.host } ?? others.first
  }
}

/// A unit that two workers computed with different results, where the audit of `cluster.audit` compared
/// them.
package struct Disagreement: Codable, Equatable, Sendable {
  /// Number of steps that were applied before the one in question, which no worker applies.
  package var step: Int
  package var unit: Int
  /// Roster indices of the workers that computed the unit, and for each a hash of its losses and gradients.
  package var voters: [Int]
  package var hashes: [UInt64]

  package init(step: Int, unit: Int, voters: [Int], hashes: [UInt64]) {
    self.step = step
    self.unit = unit
    self.voters = voters
    self.hashes = hashes
  }
}

/// An order to write one shard file of a damaged checkpoint again.
package struct RewriteOrder: Codable, Equatable, Sendable {
  package var shard: HeldShard
  /// Units and experts of each worker of the shard's generation. They determine which tensors the shard contains.
  package var units: [Range<Int>]
  package var experts: [[Int]]
  /// The run's folder.
  package var folder: String
  /// Folders that the run may use. Nil or an empty list permits all.
  package var roots: [String]?

  package init(shard: HeldShard, units: [Range<Int>], experts: [[Int]], folder: String) {
    self.shard = shard
    self.units = units
    self.experts = experts
    self.folder = folder
  }
}
