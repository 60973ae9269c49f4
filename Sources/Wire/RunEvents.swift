// What happens in a run, as it is told to those who watch and written into its history.

/// One step of a run, as it is logged. Step n is the n-th, counted from 1: `step` optimizer steps are done.
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
  /// Seconds each worker of the roster computed, and this one stood still for checkpoints and copies.
  package var busy: [Double]
  package var stall: Double
  /// Bytes that each worker of the roster sent its peers for the step; nil in the records of older programs.
  package var sent: [Double]?
  /// Why the step was not applied; nil where it was.
  package var skipped: String?
  /// When it was done, seconds since 1970 by the clock of the worker that reports; nil in the records of older programs.
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
  /// Whether the step was applied and its loss is a number.
  package var isSound: Bool { skipped == nil && loss.isFinite && task.isFinite }

  /// nil where the step took no time that was measured.
  package var tokensPerSecond: Double? { seconds > 0 ? Double(tokens) / seconds : nil }

  /// The largest load of an expert, over the mean; nil where nothing was routed.
  package var largestLoad: Double? {
    let total = loads.reduce(0, +)
    return total > 0 ? Double(loads.max()! * loads.count) / Double(total) : nil
  }
}

package struct EvaluationRecord: Codable, Equatable, Sendable {
  package var step: Int
  /// Mean cross-entropy of the validation split, nats a target.
  package var loss: Double
  /// Sequences, or questions with the sequences that belong to each.
  package var sequences: Int
  /// What the task is measured by, as it is shown.
  package var metrics: [Metric]
  /// As a step's.
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

package enum RunState: String, CaseIterable, Codable, Equatable, Sendable {
  /// Waits for its turn.
  case queued
  /// Waits for workers, or for them to be ready.
  case placing
  case running
  /// Saved and without workers until someone resumes it.
  case paused
  case finished, failed, cancelled

  /// Nothing more happens unless somebody asks for it.
  package var isAtRest: Bool { self == .paused || isEnd }
  package var isEnd: Bool { self == .finished || self == .failed || self == .cancelled }
}

/// What happens in a run, from its first line to its last.
package enum RunEvent: Codable, Equatable, Sendable {
  case began(name: String, firstStep: Int, steps: Int, checkpoint: String?)
  case state(RunState, reason: String)
  case placed(generation: UInt32, roster: [RosterEntry])
  case stepped(StepRecord)
  case evaluated(EvaluationRecord)
  case examined(RouterRecord)
  case saved(step: Int, path: String)
  case said(String)

  /// The event without what no two runs share: how long it took, when it was, and what was sent. What is left is the curve.
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

  /// When it happened, where its record says so.
  package var time: Double? {
    switch self {
    case .stepped(let record): record.time
    case .evaluated(let record): record.time
    case .examined(let record): record.time
    case .began, .state, .placed, .saved, .said: nil
    }
  }
}
