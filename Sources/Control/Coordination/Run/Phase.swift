// The phase of a run. Each case carries the data that are meaningful in it, and names the phases that may follow.
//
//     idle → preparing → waiting → loading → training → halting → saving → idle
//                           ↑                              │
//                           └──────────────────────────────┘ the next generation
//
//     loading, training, halting → collecting → waiting, or preparing where no complete state is left in memory
//
// From any phase a run that ends, or is paused without a checkpoint, becomes idle.

import Wire

enum Phase: Equatable, Sendable {
  /// No worker is assigned to the run: it is paused, has ended, or is in the queue. → preparing
  case idle
  /// The run's folder is being examined. `after` is the previous generation, which `ress status` still shows. →
  /// waiting, idle
  case preparing(after: Generation?, then: PendingChange?)
  /// Ready to run; waiting for workers. Workers of the previous generation may still report files of a checkpoint. →
  /// loading, preparing, idle
  case waiting(Origin, after: Generation?, then: PendingChange?)
  /// Workers load the model and the state. → training, collecting, idle
  case loading(Generation, from: StartState, then: PendingChange?)
  /// Workers do steps. → halting, collecting, idle
  case training(Generation, then: PendingChange?)
  /// Workers were asked to stop together at the end of a step. → waiting, saving, collecting, idle
  case halting(Generation, then: PendingChange)
  /// A worker was lost; the others stop at once and report the shards that they hold. → waiting, preparing, idle
  case collecting(Generation, then: PendingChange?)
  /// All workers have stopped; their checkpoint is being written. → idle
  case saving(Generation, then: PendingChange)
}

/// Where the next generation's state comes from.
enum Origin: Equatable, Sendable {
  /// The seed or a checkpoint, of which `firstStep` steps are done.
  case disk(StartState, firstStep: Int)
  /// The state in the workers' memory, which is newer than any checkpoint.
  case memory(Reunion?)

  /// All workers fell silent at the same time, so they may return with their state.
  struct Reunion: Equatable, Sendable {
    /// When enough of them had returned for the run.
    var since: Instant?
  }
}

/// A change that takes effect at the end of the step in progress, or of the next step where none is in progress.
enum PendingChange: Codable, Equatable, Sendable {
  /// The run is paused after a checkpoint.
  case pause(reason: String)
  /// The run gives its workers to a run of higher priority and waits in the queue again.
  case giveWay(reason: String)
  /// A new generation is formed from the workers that are available at that time.
  case renew(reason: String)

  var reason: String {
    switch self {
    case .pause(let reason), .giveWay(let reason), .renew(let reason): reason
    }
  }

  /// Whether the workers are released, which needs a checkpoint.
  var releasesWorkers: Bool {
    switch self {
    case .pause, .giveWay: true
    case .renew: false
    }
  }
}

extension Phase {
  /// Whether the run counts on workers.
  var hasWorkers: Bool {
    switch self {
    case .loading, .training, .halting, .collecting: true
    case .idle, .preparing, .waiting, .saving: false
    }
  }

  var isWaiting: Bool { if case .waiting = self { true } else { false } }
  var isPreparing: Bool { if case .preparing = self { true } else { false } }
  var isLoading: Bool { if case .loading = self { true } else { false } }
  var isTraining: Bool { if case .training = self { true } else { false } }
  var isHalting: Bool { if case .halting = self { true } else { false } }
  var isCollecting: Bool { if case .collecting = self { true } else { false } }
  var isSaving: Bool { if case .saving = self { true } else { false } }

  /// The present generation, or the last one; nil where there was none since the run was last put into the queue.
  var generation: Generation? {
    get {
      switch self {
      case .idle: nil
      case .preparing(let generation, _), .waiting(_, let generation, _): generation
      case .loading(let generation, _, _), .training(let generation, _), .collecting(let generation, _): generation
      case .halting(let generation, _), .saving(let generation, _): generation
      }
    }
    set {
      guard let newValue else { preconditionFailure("a generation cannot be taken away from \(self)") }
      switch self {
      case .idle: preconditionFailure("an idle run has no generation")
      case .preparing(_, let change): self = .preparing(after: newValue, then: change)
      case .waiting(let origin, _, let change): self = .waiting(origin, after: newValue, then: change)
      case .loading(_, let start, let change): self = .loading(newValue, from: start, then: change)
      case .training(_, let change): self = .training(newValue, then: change)
      case .halting(_, let change): self = .halting(newValue, then: change)
      case .collecting(_, let change): self = .collecting(newValue, then: change)
      case .saving(_, let change): self = .saving(newValue, then: change)
      }
    }
  }

  /// The change that is pending. A run that is halting or saving always has one.
  var pending: PendingChange? {
    get {
      switch self {
      case .idle: nil
      case .preparing(_, let change), .waiting(_, _, let change), .loading(_, _, let change): change
      case .training(_, let change), .collecting(_, let change): change
      case .halting(_, let change), .saving(_, let change): change
      }
    }
    set {
      switch self {
      case .idle: if newValue != nil { preconditionFailure("an idle run has no step to change after") }
      case .preparing(let generation, _): self = .preparing(after: generation, then: newValue)
      case .waiting(let origin, let generation, _): self = .waiting(origin, after: generation, then: newValue)
      case .loading(let generation, let start, _): self = .loading(generation, from: start, then: newValue)
      case .training(let generation, _): self = .training(generation, then: newValue)
      case .collecting(let generation, _): self = .collecting(generation, then: newValue)
      case .halting(let generation, let change): self = .halting(generation, then: newValue ?? change)
      case .saving(let generation, let change): self = .saving(generation, then: newValue ?? change)
      }
    }
  }
}
