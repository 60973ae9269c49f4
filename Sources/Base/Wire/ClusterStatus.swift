// The answer to `ress status`: a snapshot of the coordinator's runs and workers. The command line and the dashboard
// show it.

import Configuration

/// Everything that `ress status` shows, in one message. Fields that older coordinators do not send are optional.
package struct ClusterStatus: Codable, Equatable, Sendable {
  /// A worker that is connected now.
  package struct Worker: Codable, Equatable, Sendable {
    package var description: WorkerDescription
    /// Name of the run it works for.
    package var run: String?
    package var silentSeconds: Double
    /// What the worker waits for, where it has waited for long; nil otherwise.
    package var waiting: String?

    /// Whether the worker is stopped or cannot be reached: a healthy one sends several heartbeats a second.
    package var isSilent: Bool { silentSeconds > 2 }

    package init(description: WorkerDescription, run: String?, silentSeconds: Double, waiting: String? = nil) {
      self.description = description
      self.run = run
      self.silentSeconds = silentSeconds
      self.waiting = waiting
    }
  }

  /// A worker that was lost or that left, and the reason.
  package struct Gone: Codable, Equatable, Sendable {
    package var description: WorkerDescription
    /// Name of the run that it worked for.
    package var run: String?
    package var reason: String
    package var secondsAgo: Double

    package init(description: WorkerDescription, run: String?, reason: String, secondsAgo: Double) {
      self.description = description
      self.run = run
      self.reason = reason
      self.secondsAgo = secondsAgo
    }
  }

  /// What one worker of a run does in a step, measured over the last steps of the generation.
  package struct Share: Codable, Equatable, Sendable {
    package var worker: String
    /// Seconds of a step in which it computes, and in which it does not; nil before the first step.
    package var busySeconds: Double?
    package var waitSeconds: Double?
    /// Bytes that it sends its peers in a step; nil before the first step.
    package var sentBytes: Int?
    /// Resident memory; nil where it is not connected.
    package var memoryBytes: Int?
    /// Share of the steps in which it computed longest, so that all others waited for it; nil before the first step.
    package var lastShare: Double?
    /// The first workers that it has waited for since more than a second, and the number of all of them.
    package var waitsFor: [String]
    package var waitsForCount: Int

    /// Most names in `waitsFor`.
    package static let namesShown = 3

    package init(
      worker: String, busySeconds: Double? = nil, waitSeconds: Double? = nil, sentBytes: Int? = nil,
      memoryBytes: Int? = nil, lastShare: Double? = nil, waitsFor: [String] = []
    ) {
      self.worker = worker
      self.busySeconds = busySeconds
      self.waitSeconds = waitSeconds
      self.sentBytes = sentBytes
      self.memoryBytes = memoryBytes
      self.lastShare = lastShare
      self.waitsFor = Array(waitsFor.prefix(Self.namesShown))
      waitsForCount = waitsFor.count
    }

    /// `worker-2, worker-3 and 5 others`; empty where it does not wait for a worker.
    package var spokenWaits: String { SpokenNumbers.names(waitsFor, of: waitsForCount) }
  }

  /// A run in any state, also one that has ended.
  package struct Run: Codable, Equatable, Sendable {
    package var id: RunID
    package var name: String
    package var state: RunState
    package var reason: String
    package var step: Int
    package var steps: Int
    package var priority: Int
    /// Number of its newest generation, counted over all runs of the coordinator; 0 before the first.
    package var generation: UInt32
    /// How many generations it has had; nil from older coordinators.
    package var memberships: Int?
    /// Names of the workers it has now. The next two fields are the fewest and the most that it may have.
    package var workers: [String]
    package var minimumWorkers: Int
    package var wantedWorkers: Int
    /// Number of steps at the newest committed checkpoint; nil before the first.
    package var checkpointStep: Int?
    package var goodput: Goodput
    /// What `ress plan` expected the run to cost, and what was measured so far.
    package var forecast: Forecast?
    package var actual = Forecast()
    /// What each worker of the present generation does; nil without one, and from older coordinators.
    package var shares: [Share]?
    /// Number of events of the run so far.
    package var eventCount = 0

    package init(
      id: RunID, name: String, state: RunState, reason: String, step: Int, steps: Int, priority: Int = 0,
      generation: UInt32 = 0, workers: [String] = [], minimumWorkers: Int = 1, wantedWorkers: Int = 1,
      checkpointStep: Int? = nil, goodput: Goodput = Goodput()
    ) {
      self.id = id
      self.name = name
      self.state = state
      self.reason = reason
      self.step = step
      self.steps = steps
      self.priority = priority
      self.generation = generation
      self.workers = workers
      self.minimumWorkers = minimumWorkers
      self.wantedWorkers = wantedWorkers
      self.checkpointStep = checkpointStep
      self.goodput = goodput
    }
  }

  package var runs: [Run]
  package var workers: [Worker]
  /// Workers that were lost or left recently, the newest last; nil from older coordinators.
  package var gone: [Gone]?

  package init(runs: [Run], workers: [Worker], gone: [Gone]? = nil) {
    self.runs = runs
    self.workers = workers
    self.gone = gone
  }

  /// Finds a run by its identifier, or else the newest run of that name. Permission checks and changes use the same
  /// order, so that the run that is checked is the run that is changed.
  package func run(_ text: String) -> Run? {
    runs.first { $0.id.description == text } ?? runs.last { $0.name == text }
  }
}

/// How a run spent its time, in worker seconds: one second in which three workers belong to the run counts three.
/// Time in the queue is not counted.
package struct Goodput: Codable, Equatable, Sendable {
  /// Computing steps for the first time.
  package var useful = 0.0
  /// Loading data, model and state at the start of the run, and after changes that a user asked for.
  package var start = 0.0
  /// Training that stopped for checkpoints and for copies of the state.
  package var checkpoint = 0.0
  /// From the loss of a worker until training continues, and computing again the steps that were lost.
  package var fault = 0.0
  /// Waiting for the slowest worker of each step.
  package var straggler = 0.0
  /// Waiting for rows and gradients on the network.
  package var exchange = 0.0

  package init() {}

  package var total: Double { useful + start + checkpoint + fault + straggler + exchange }

  /// Share of the time that went into useful steps, 0 … 1; nil where no time was counted yet.
  package var share: Double? { total > 0 ? useful / total : nil }

  /// The causes of loss, by name, in the order above.
  package var losses: [(cause: String, seconds: Double)] {
    [
      ("start", start), ("checkpoint", checkpoint), ("fault", fault), ("straggler", straggler), ("exchange", exchange),
    ]
  }
}
