// The stored form of a run: what a coordinator needs to know after a restart. Its fields and their names are a file
// format. Stores of older versions must load, so a field that was added later is optional.

import Configuration
import Wire

struct RunRecord: Codable, Equatable, Sendable {
  var id: RunID
  var submission: Submission
  var state = RunState.queued
  var reason = ""
  var phase = PhaseName.idle
  /// `Run.queueNumber`.
  var place: Int
  var folder = ""
  /// `Origin`: where the next generation begins, or, while a generation loads, where that one begins.
  var start = StartState.fresh
  var firstStep = 0
  var startsFromMemory = false
  var distrustsMemory = false
  var wasEverPrepared = false
  var token: String?
  /// `StepLog`, together with `leftOut`.
  var step = 0
  var evaluatedStep = 0
  var examinedStep: Int?
  /// `Checkpoints.newestStep`.
  var checkpointStep: Int?
  var generation: Generation?
  var memberships: Int?
  /// `Checkpoints`, together with `checkpointBytes`.
  var saves: [Int: [Int: [CheckpointManifest.File]]] = [:]
  var commits: [Int: CheckpointManifest] = [:]
  var unproven: String?
  var unprovenStep = 0
  /// `Phase.pending`.
  var wish: PendingChange?
  var eventCount = 0
  var fruitless = 0
  var wasPlaced = false
  var firstGeneration: UInt32 = 0
  var generations: [Generation] = []
  /// `Ledger`, together with the next three.
  var expertLoads: [Double] = []
  var goodput = Goodput()
  var stepSeconds = 0.0
  var sentBytes: Double?
  var memoryBytes: Int?
  var line: ExpertCopies.Line?
  var checkpointBytes: Int?
  var data: DataIdentity?
  var leftOut: [ClosedRange<Int>]?
  var from: WeightSource?
  var evaluations: [StepLog.Evaluation]?

  /// A run that was submitted a moment ago.
  init(id: RunID, submission: Submission) {
    self.id = id
    self.submission = submission
    place = 0
  }

  enum PhaseName: String, Codable, Equatable, Sendable {
    case idle, preparing, waiting, loading, training, halting, collecting, saving
  }
}

extension Run {
  var record: RunRecord {
    var record = RunRecord(id: id, submission: submission)
    record.state = state
    record.reason = reason
    record.place = queueNumber
    record.folder = folder
    record.token = token
    phase.store(in: &record)
    record.distrustsMemory = distrustsMemory
    record.wasEverPrepared = wasEverPrepared
    record.step = steps.step
    record.evaluatedStep = steps.evaluatedStep
    record.examinedStep = steps.examinedStep
    record.leftOut = steps.leftOut
    record.evaluations = steps.evaluations
    record.checkpointStep = checkpoints.newestStep
    record.checkpointBytes = checkpoints.byteCount
    record.saves = checkpoints.saves
    record.commits = checkpoints.commits
    record.unproven = checkpoints.unproven
    record.unprovenStep = checkpoints.unprovenStep
    record.memberships = memberships
    record.eventCount = eventCount
    record.fruitless = fruitless
    record.wasPlaced = wasPlaced
    record.firstGeneration = firstGeneration
    record.generations = generations
    record.expertLoads = ledger.expertLoads
    record.stepSeconds = ledger.stepSeconds
    record.sentBytes = ledger.sentBytes
    record.memoryBytes = ledger.memoryBytes
    record.line = ledger.line
    record.goodput = account.goodput
    record.data = data
    record.from = from
    return record
  }
}

extension Phase {
  /// The phase of a stored run. A record whose phase lacks its data, which no program writes, becomes idle: the run
  /// then begins again from its newest checkpoint.
  init(_ record: RunRecord) {
    let generation = record.generation, pending = record.wish
    switch record.phase {
    case .idle: self = .idle
    case .preparing: self = .preparing(after: generation, then: pending)
    case .waiting:
      let origin: Origin =
        record.startsFromMemory ? .memory(nil) : .disk(record.start, firstStep: record.firstStep)
      self = .waiting(origin, after: generation, then: pending)
    case .loading: self = generation.map { .loading($0, from: record.start, then: pending) } ?? .idle
    case .training: self = generation.map { .training($0, then: pending) } ?? .idle
    case .collecting: self = generation.map { .collecting($0, then: pending) } ?? .idle
    case .halting:
      if let generation, let pending { self = .halting(generation, then: pending) } else { self = .idle }
    case .saving:
      if let generation, let pending { self = .saving(generation, then: pending) } else { self = .idle }
    }
  }

  func store(in record: inout RunRecord) {
    record.generation = generation
    record.wish = pending
    switch self {
    case .idle: record.phase = .idle
    case .preparing: record.phase = .preparing
    case .waiting(.memory, _, _):
      record.phase = .waiting
      record.startsFromMemory = true
    case .waiting(.disk(let start, let firstStep), _, _):
      record.phase = .waiting
      (record.start, record.firstStep) = (start, firstStep)
    case .loading(let generation, let start, _):
      record.phase = .loading
      (record.start, record.firstStep) = (start, generation.firstStep)
      record.startsFromMemory = if case .memory = start { true } else { false }
    case .training: record.phase = .training
    case .halting: record.phase = .halting
    case .collecting: record.phase = .collecting
    case .saving: record.phase = .saving
    }
  }
}
