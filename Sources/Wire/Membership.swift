// Workers as the coordinator sees them: who they are, what they say of themselves, and what they hold.

/// A worker process, as it introduces itself.
package struct WorkerDescription: Codable, Equatable, Hashable, Sendable {
  package var name: String
  package var host: String
  package var process: Int
  /// Where peers reach it.
  package var dataAddress: String
  package var threads: Int
  /// What decides the bits of its results; see Kernels.Fingerprint.
  package var fingerprint: String
  package var program: String
  /// Random, so that two processes are never taken for one.
  package var incarnation: UInt64
  /// What it proves itself with to its peers; nil in the clear.
  package var publicKey: PublicKey?
  /// Where it was started as a rank of an MPI launch.
  package var mpi: MPIPlace?

  package init(
    name: String, host: String, process: Int, dataAddress: String, threads: Int, fingerprint: String, program: String,
    incarnation: UInt64 = 0
  ) {
    self.name = name
    self.host = host
    self.process = process
    self.dataAddress = dataAddress
    self.threads = threads
    self.fingerprint = fingerprint
    self.program = program
    self.incarnation = incarnation
  }

  /// `worker-1 (node7, process 4711)`
  package var spoken: String { "\(name) (\(host), process \(process))" }
}

/// One rank of an MPI launch. Ranks of one world reach each other over MPI, and die together.
package struct MPIPlace: Codable, Equatable, Hashable, Sendable {
  /// Random, so that no two launches are taken for one.
  package var world: UInt64
  package var rank: Int
  package var size: Int

  package init(world: UInt64, rank: Int, size: Int) {
    self.world = world
    self.rank = rank
    self.size = size
  }
}

/// What a worker is doing and holds, said several times a second. It tells a state and no change, so that a lost one costs
/// nothing.
package struct Heartbeat: Codable, Equatable, Sendable {
  /// Generation it works in, 0 for none.
  package var generation: UInt32 = 0
  /// Whether it was told to begin it.
  package var hasBegun = false
  package var step = 0
  /// Counts what the training thread does; one that stands still is stuck.
  package var progress = 0
  /// What it waits for and from whom, where it has waited for long.
  package var waiting: String?
  package var waitingSeconds = 0.0
  /// Places in the roster of those it waits for.
  package var waitingFor: [Int] = []
  /// Parts of runs' states in its memory.
  package var held: [HeldShard] = []
  /// Resident memory of its process.
  package var memoryBytes = 0

  package init(
    generation: UInt32 = 0, step: Int = 0, waiting: String? = nil, waitingSeconds: Double = 0, waitingFor: [Int] = []
  ) {
    self.generation = generation
    self.step = step
    self.waiting = waiting
    self.waitingSeconds = waitingSeconds
    self.waitingFor = waitingFor
  }
}

/// A shard is all that one worker of a generation alone holds: the tensors it updates and their moments. The shards of all
/// workers of a generation at one step are the run's whole state.
package struct HeldShard: Codable, Hashable, Sendable {
  package var run: RunID
  package var generation: UInt32
  /// Place in that generation's roster, of `count`.
  package var index: Int
  package var count: Int
  /// Optimizer steps applied.
  package var step: Int

  package init(run: RunID, generation: UInt32, index: Int, count: Int, step: Int) {
    self.run = run
    self.generation = generation
    self.index = index
    self.count = count
    self.step = step
  }
}
