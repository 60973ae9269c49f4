// The events of a run. The coordinator stores them, `ress logs` and the dashboard show them, and the metrics
// files are written from them.

/// The record of one training step. Step n is the n-th, counted from 1: after it, `step` optimizer steps are done.
package struct StepRecord: Codable, Equatable, Sendable {
  package var step: Int
  package var loss: Double
  package var task: Double
  package var smooth: Double
  package var balance: Double
  package var routerZ: Double
  package var gradientNorm: Double
  package var learningRate: Double
  package var tokens: Int
  package var seconds: Double
  package var loads: [Int]
  /// Seconds that each worker of the roster spent computing; seconds that the reporting worker paused for
  /// checkpoints and copies.
  package var busy: [Double]
  package var stall: Double
  /// Bytes that each worker of the roster sent its peers for the step; nil in the records of older programs.
  package var sent: [Double]?
  /// Why the step was not applied; nil where it was applied.
  package var skipped: String?
  /// When the step ended, in seconds since 1970 by the clock of the reporting worker; nil in records of older
  /// programs.
  package var time: Double?

  package init(
    step: Int, loss: Double, task: Double, smooth: Double, balance: Double, routerZ: Double, gradientNorm: Double,
    learningRate: Double, tokens: Int, seconds: Double, loads: [Int], busy: [Double] = [], stall: Double = 0,
    sent: [Double]? = nil, skipped: String? = nil, time: Double? = nil
  ) {
    self.step = step
    self.loss = loss
    self.task = task
    self.smooth = smooth
    self.balance = balance
    self.routerZ = routerZ
    self.gradientNorm = gradientNorm
    self.learningRate = learningRate
    self.tokens = tokens
    self.seconds = seconds
    self.loads = loads
    self.busy = busy
    self.stall = stall
    self.sent = sent
    self.skipped = skipped
    self.time = time
  }
}

extension StepRecord {
  /// Whether the step was applied and its loss is finite.
  package var isSound: Bool { skipped == nil && loss.isFinite && task.isFinite }

  /// Nil where no time was measured.
  package var tokensPerSecond: Double? { seconds > 0 ? Double(tokens) / seconds : nil }

  /// Largest load of an expert divided by the mean load; nil where no tokens were routed.
  package var largestLoad: Double? {
    let total = loads.reduce(0, +)
    return total > 0 ? Double(loads.max()! * loads.count) / Double(total) : nil
  }
}

/// The result of one evaluation on the validation split.
package struct EvaluationRecord: Codable, Equatable, Sendable {
  package var step: Int
  /// Mean cross-entropy of the validation split, in nats per target.
  package var loss: Double
  /// Number of sequences; for tasks with questions, the number of questions.
  package var sequences: Int
  /// The measures of the task, in the order in which they are shown.
  package var metrics: [Metric]
  /// When it ended, in seconds since 1970; nil in records of older programs.
  package var time: Double?

  package struct Metric: Codable, Equatable, Sendable {
    package var name: String
    package var value: Double

    package init(name: String, value: Double) {
      self.name = name
      self.value = value
    }
  }

  package init(step: Int, loss: Double, sequences: Int, metrics: [Metric] = [], time: Double? = nil) {
    self.step = step
    self.loss = loss
    self.sequences = sequences
    self.metrics = metrics
    self.time = time
  }
}

/// The states of a run that a user sees. A run goes from queued over placing to running, may return to placing when
/// its membership changes and to queued when a run of higher priority takes its workers, and ends finished, failed
/// or cancelled. From paused and from an end, only a user's `resume` leads on.
package enum RunState: String, CaseIterable, Codable, Equatable, Sendable {
  /// Waits until it is its turn.
  case queued
  /// Waits for workers, or for its workers to load their state.
  case placing
  case running
  /// Its state is saved and it has no workers, until a user resumes it.
  case paused
  case finished, failed, cancelled

  /// Whether nothing more happens unless a user asks for it.
  package var isAtRest: Bool { self == .paused || isEnd }
  package var isEnd: Bool { self == .finished || self == .failed || self == .cancelled }
}

/// One event of a run.
package enum RunEvent: Codable, Equatable, Sendable {
  case began(name: String, firstStep: Int, steps: Int, checkpoint: String?)
  case state(RunState, reason: String)
  case placed(generation: UInt32, roster: [RosterEntry])
  case stepped(StepRecord)
  case evaluated(EvaluationRecord)
  case examined(RouterRecord)
  case saved(step: Int, path: String)
  case said(String)

  /// The event without its times and transfer counts, which differ between two equal runs. What remains is the
  /// training curve, so that two runs can be compared.
  package var timeless: RunEvent {
    switch self {
    case .stepped(var record):
      (record.seconds, record.busy, record.stall, record.sent, record.time) = (0, [], 0, nil, nil)
      return .stepped(record)
    case .evaluated(var record):
      record.time = nil
      return .evaluated(record)
    case .examined(var record):
      record.time = nil
      return .examined(record)
    case .began, .state, .placed, .saved, .said: return self
    }
  }

  /// When the event happened, in seconds since 1970, where its record contains it.
  package var time: Double? {
    switch self {
    case .stepped(let record): record.time
    case .evaluated(let record): record.time
    case .examined(let record): record.time
    case .began, .state, .placed, .saved, .said: nil
    }
  }
}
