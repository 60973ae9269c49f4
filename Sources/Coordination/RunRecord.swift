// All that is remembered of a run, also by the coordinator that comes after a dead one.

import Configuration
import Wire

/// One run, from its first submission to its last event, over all generations, pauses and resumes.
struct RunRecord: Codable, Equatable, Sendable {
  var id: RunID
  var submission: Submission
  var state = RunState.queued
  var reason = ""
  var phase = Phase.idle
  /// Order among runs of one priority: a resumed run waits again, behind those that waited before.
  var place: Int
  var folder = ""
  /// Where the next generation begins.
  var start = StartState.fresh
  var firstStep = 0
  /// Workers hold a newer state than `start`.
  var startsFromMemory = false
  /// What workers hold is newer than what was recorded, and nobody is left who could tell of it.
  var distrustsMemory = false
  /// Its folder was looked at and is its own. It then goes on from its newest checkpoint, or else from what it was submitted to begin
  /// from, which `submission.resume` keeps.
  var wasEverPrepared = false
  /// What the coordinator wrote into the folder for the workers to find; nil in the records of older programs.
  var token: String?
  /// Steps that were recorded; what is computed again must be the same, and is not recorded twice.
  var step = 0
  var evaluatedStep = 0
  /// Last look at the router; nil before the first, as in the records of older programs.
  var examinedStep: Int?
  /// Newest checkpoint that was committed.
  var checkpointStep: Int?
  var generation: Generation?
  /// How many generations it has had; nil before the first, and in the records of older programs.
  var memberships: Int?
  /// Files of checkpoints that are being saved, by step and place in the roster.
  var saves: [Int: [Int: [CheckpointManifest.File]]] = [:]
  /// Checkpoints handed to the disk and not yet confirmed, by step.
  var commits: [Int: CheckpointManifest] = [:]
  /// The checkpoint whose proof, the step after it, is awaited.
  var unproven: String?
  var unprovenStep = 0
  /// Told at a boundary of a step, whenever one comes: what to do there.
  var wish: Wish?
  var eventCount = 0
  /// Generations in a row that did not add a step.
  var fruitless = 0
  /// Whether it once had all its workers: only a first placement waits for more than the minimum.
  var wasPlaced = false
  /// Seen since its first generation: which generations' shards belong to the present submission.
  var firstGeneration: UInt32 = 0
  /// Rosters of the generations whose shards may still be held.
  var generations: [Generation] = []
  /// Tokens that each expert got in recent steps, fading.
  var expertLoads: [Double] = []
  var goodput = Goodput()
  /// Seconds of a step, fading.
  var stepSeconds = 0.0
  /// Bytes that a worker sends in a step, fading; the most memory that one had, in whole MiB; the newest checkpoint. Nil before the
  /// first, as in the records of older programs.
  var sentBytes: Double?
  var memoryBytes: Int?
  var checkpointBytes: Int?
  /// What the run reads; nil before its first workers or checkpoint have said it, as in the records of older programs.
  var data: DataIdentity?
  /// Steps that were not applied, in ascending order, from around the newest checkpoint on. Nil for none, as in the records of older
  /// programs.
  var leftOut: [ClosedRange<Int>]?

  var name: String { submission.configuration.run }
  var configuration: RunConfiguration { submission.configuration }
  var roster: [RosterEntry] { generation?.roster ?? [] }

  /// What happens now.
  enum Phase: String, Codable, Equatable, Sendable {
    /// Nobody works for it.
    case idle
    /// The disk looks at its folder.
    case preparing
    /// All but workers is there.
    case waiting
    /// Workers load.
    case loading
    case training
    /// Workers were asked to stop at a boundary.
    case halting
    /// A worker was lost, and the others were told to stop.
    case collecting
    /// The last checkpoint of a pause is on its way.
    case saving
  }

  enum Wish: Codable, Equatable, Sendable {
    case pause(reason: String)
    /// A run of higher priority needs its workers: it waits in the queue again.
    case giveWay(reason: String)
    /// A new generation with the workers and the placement of then.
    case renew(reason: String)

    var reason: String {
      switch self {
      case .pause(let reason), .giveWay(let reason), .renew(let reason): reason
      }
    }

    /// Whether the workers are let go, which needs a checkpoint.
    var isFarewell: Bool {
      switch self {
      case .pause, .giveWay: true
      case .renew: false
      }
    }
  }
}

// Steps that were not applied. Where a run stops is decided by how many there are in a row, so the count must be right wherever a
// generation begins.
extension RunRecord {
  /// Ranges of them that are remembered: more between two checkpoints than any honest run has.
  private static let leftOutLimit = 1_000

  /// How many steps in a row, up to and with `step`, were not applied.
  func leftOutInARow(_ step: Int) -> Int {
    leftOut?.last { $0.contains(step) }.map { step - $0.lowerBound + 1 } ?? 0
  }

  /// The same as workers are to count on from. Where a run has stopped for it and was resumed, they count from nothing.
  func leftOutToCountFrom(_ step: Int) -> Int {
    let count = leftOutInARow(step)
    return count > configuration.training.skipAtMost ? 0 : count
  }

  /// Takes down that these steps, the last of which is `step`, were not applied.
  mutating func leaveOut(_ step: Int, count: Int = 1) {
    var ranges = leftOut ?? []
    guard count > 0, !ranges.contains(where: { $0.contains(step) }) else { return }
    if let last = ranges.last, last.upperBound + 1 == step {
      ranges[ranges.count - 1] = last.lowerBound...step
    } else {
      ranges.append(step - count + 1...step)
    }
    // A generation that begins before the newest checkpoint begins from an older one, whose manifest has the count.
    leftOut = ranges.filter { $0.upperBound >= checkpointStep ?? 0 }.suffix(RunRecord.leftOutLimit)
  }

  /// The run has stopped because too many were left out, and somebody wants it to go on.
  mutating func forgiveLeftOut() {
    if leftOutInARow(step) > configuration.training.skipAtMost { leftOut?.removeAll { $0.contains(step) } }
  }
}

/// One membership of one run.
struct Generation: Codable, Equatable, Sendable {
  var number: UInt32
  var roster: [RosterEntry]
  var helpers: [WorkerDescription] = []
  var firstStep: Int
  /// Reports taken, by place in the roster.
  var noted: [Int]
  var ready: Set<Int> = []
  /// What workers found at the dataset's path, by place in the roster; nil before the first.
  var reads: [Int: DataIdentity]?
  var halted: [Int: Int] = [:]
  var finished: Set<Int> = []
  /// Those that have still to say what they hold, after a loss.
  var awaited: Set<Int> = []
  /// What the experts' places were expected to bring.
  var promise: PlacementPromise?

  var peers: [WorkerDescription] { roster.map(\.worker) + helpers }
}
