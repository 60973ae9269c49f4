// Workers as the coordinator knows them: their description when they join, their heartbeats, and the shards they
// hold.

import Configuration

/// A worker process, as it describes itself when it joins.
package struct WorkerDescription: Codable, Equatable, Hashable, Sendable {
  package var name: String
  package var host: String
  package var process: Int
  /// The address at which its peers connect to it.
  package var dataAddress: String
  package var threads: Int
  /// The version of the kernels' definitions and a hash of what this process computed by them (Kernels/Fingerprint).
  /// Only workers with equal fingerprints train together.
  package var fingerprint: String
  package var program: String
  /// A random number that distinguishes this process from an earlier one of the same name.
  package var incarnation: UInt64
  /// The key that authenticates it to its peers; nil without encryption.
  package var publicKey: PublicKey?
  /// Its rank, where it was started by mpirun; nil otherwise.
  package var mpi: MPIPlace?
  /// Bytes of memory that the machine, or the process's control group, had left when the process started; nil where
  /// it is not known.
  package var memoryBytes: Int?
  /// The address of a Unix socket at which workers of the same `machine` can connect; nil where the worker has none.
  package var localAddress: String?
  /// Equal for processes that the operating system lets share memory and Unix sockets: those of one user, on one
  /// running machine, in the same namespaces. Nil where it is not known.
  package var machine: UInt64?
  /// The descriptor under which the process offers memory to others of its machine; nil where it offers none.
  package var sharedMemory: Int?

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

  /// Whether workers can exchange in shared memory: all are on one machine, each of them offers memory, and the run
  /// allows it (`cluster.same_machine`).
  package static func canShareMemory(_ workers: [WorkerDescription], _ cluster: ClusterConfiguration) -> Bool {
    guard cluster.sameMachine == .memory, let machine = workers.first?.machine else { return false }
    return workers.allSatisfy { $0.machine == machine && $0.sharedMemory != nil }
  }

  /// `worker-1 (node7, process 4711)`
  package var spoken: String { "\(name) (\(host), process \(process))" }
}

/// One rank of an MPI launch (a world). Ranks of one world can exchange data over MPI. When one of them dies, MPI
/// stops working for all.
package struct MPIPlace: Codable, Equatable, Hashable, Sendable {
  /// A random number that distinguishes this launch from others.
  package var world: UInt64
  package var rank: Int
  package var size: Int

  package init(world: UInt64, rank: Int, size: Int) {
    self.world = world
    self.rank = rank
    self.size = size
  }
}

/// What a worker does and holds. It is sent several times a second and always describes the whole state, so that
/// the loss of one heartbeat does not matter.
package struct Heartbeat: Codable, Equatable, Sendable {
  /// The generation that it works in; 0 for none.
  package var generation: UInt32 = 0
  /// Whether it has received `begin` for that generation.
  package var hasBegun = false
  package var step = 0
  /// A counter that the training thread increments as it works. The coordinator considers the thread stuck where it
  /// does not change.
  package var progress = 0
  /// What it waits for and from which workers, where it has waited for long.
  package var waiting: String?
  package var waitingSeconds = 0.0
  /// Roster indices of the workers it waits for.
  package var waitingFor: [Int] = []
  /// The shards in its memory.
  package var held: [HeldShard] = []
  /// Resident memory of its process, in bytes.
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

/// A shard is the part of a run's state that one worker of a generation updates: some tensors and their moments.
/// The shards of all workers of a generation after the same step are together the run's whole state.
package struct HeldShard: Codable, Hashable, Sendable {
  package var run: RunID
  package var generation: UInt32
  /// Roster index in that generation of the worker that the shard belongs to; the roster has `count` workers.
  package var index: Int
  package var count: Int
  /// Number of optimizer steps that were applied.
  package var step: Int

  package init(run: RunID, generation: UInt32, index: Int, count: Int, step: Int) {
    self.run = run
    self.generation = generation
    self.index = index
    self.count = count
    self.step = step
  }
}
