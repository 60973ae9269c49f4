// What a coordinator knows, for those who ask.

package struct ClusterStatus: Codable, Equatable, Sendable {
  package struct Worker: Codable, Equatable, Sendable {
    package var description: WorkerDescription
    /// Name of the run it works for.
    package var run: String?
    package var silentSeconds: Double
    /// What it waits for, where it waits for long.
    package var waiting: String?

    /// A worker speaks several times a second; this one is stopped, or cannot be reached.
    package var isSilent: Bool { silentSeconds > 2 }

    package init(description: WorkerDescription, run: String?, silentSeconds: Double, waiting: String? = nil) {
      self.description = description
      self.run = run
      self.silentSeconds = silentSeconds
      self.waiting = waiting
    }
  }

  /// A worker that was here, and why it is not any more.
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

  package struct Run: Codable, Equatable, Sendable {
    package var id: RunID
    package var name: String
    package var state: RunState
    package var reason: String
    package var step: Int
    package var steps: Int
    package var priority: Int
    /// Number of its newest generation, among those of all runs; 0 before the first.
    package var generation: UInt32
    /// How many generations it has had; nil from older coordinators.
    package var memberships: Int?
    /// Names of the workers it has, and how many it may have.
    package var workers: [String]
    package var minimumWorkers: Int
    package var wantedWorkers: Int
    /// Steps of the newest checkpoint that was committed.
    package var checkpointStep: Int?
    package var goodput: Goodput
    /// What was expected of it, and how it turned out so far.
    package var forecast: Forecast?
    package var actual = Forecast()
    /// Events of its story so far.
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
  /// Workers that were lost or left lately, the newest last; nil from older coordinators.
  package var gone: [Gone]?

  package init(runs: [Run], workers: [Worker], gone: [Gone]? = nil) {
    self.runs = runs
    self.workers = workers
    self.gone = gone
  }

  /// By identifier, else the newest of that name: one order everywhere, so that what is judged is what is changed.
  package func run(_ text: String) -> Run? {
    runs.first { $0.id.description == text } ?? runs.last { $0.name == text }
  }
}

/// Where a run's time went, in seconds of all its workers together being held by it. Time in the queue is nobody's.
package struct Goodput: Codable, Equatable, Sendable {
  /// Computing steps that count for the first time.
  package var useful = 0.0
  /// Loading data, model and state for the first time, and after changes that were asked for.
  package var start = 0.0
  /// Training that stood still for checkpoints and copies of the state.
  package var checkpoint = 0.0
  /// From the loss of a worker to training again, and steps that were computed again.
  package var fault = 0.0
  /// Waiting for the slowest worker of a step.
  package var straggler = 0.0
  /// Waiting for rows and gradients under way.
  package var exchange = 0.0

  package init() {}

  package var total: Double { useful + start + checkpoint + fault + straggler + exchange }

  /// Share of the time in useful steps, 0 … 1; nil before the first.
  package var share: Double? { total > 0 ? useful / total : nil }

  /// The causes of loss, by name, in the order above.
  package var losses: [(cause: String, seconds: Double)] {
    [
      ("start", start), ("checkpoint", checkpoint), ("fault", fault), ("straggler", straggler), ("exchange", exchange),
    ]
  }
}
