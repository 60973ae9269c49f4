// Several workers in one process: real jobs, real exchanges, real checkpoints, and a hub in place of the network.
// Each job trains on a thread of its own.

import Checkpoint
import Configuration
import Data
import Exchange
import Foundation
import Kernels
import RunFolder
import Synchronization
import Training
import Wire
import Worker

/// A folder of the test's own, removed at its end.
final class ScratchFolder: Sendable {
  let path: String
  init() {
    path = NSTemporaryDirectory() + "ress-test-" + UUID().uuidString
    try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }
}

final class HubChannel: WorkerChannel, @unchecked Sendable {
  let mailbox = Mailbox<WorkerEvent>()
  private let index: Int
  private let hub: OneProcessCluster
  private let reported = Mutex<[Report]>([])
  let store: ShardStore
  let memory = OfferedMemory()

  init(_ index: Int, _ hub: OneProcessCluster, _ store: ShardStore) {
    self.index = index
    self.hub = hub
    self.store = store
  }

  var reports: [Report] { reported.withLock { $0 } }

  /// Bytes of the largest message that was sent.
  let largest = Mutex(0)
  /// Number of messages that were sent, by phase.
  let counts = Mutex<[DataPhase: Int]>([:])

  func send(_ message: DataMessage, to index: Int) {
    counts.withLock { $0[message.header.phase, default: 0] += 1 }
    largest.withLock { $0 = max($0, message.payload.bytes.count) }
    // Encoded and decoded, as on a network.
    let copy = Payload(byteCount: message.payload.bytes.count)
    copy.bytes.copyMemory(from: UnsafeRawBufferPointer(message.payload.bytes))
    let arrived = try! DataMessage(header: message.encodedHeader(), payload: copy)
    hub.channels[index].mailbox.put(.data(arrived))
  }
  func report(_ report: Report, generation: UInt32) { reported.withLock { $0.append(report) } }
  func note(_ heartbeat: Heartbeat) {}
  func next(timeout: Duration?) -> WorkerEvent? { mailbox.take(timeout: timeout) }
  func pendingHalt(_ generation: UInt32) -> HaltWish {
    mailbox.first { if case .halt(generation, let saving) = $0 { saving ? .haltSaving : .halt } else { nil } } ?? .none
  }

  /// The work of the network threads of two processes.
  func mirror(_ key: HeldShard, _ copy: LateCopy, to index: Int) {
    let size = ShardStore.mirrorPieceSize, count = copy.layout.count
    let pieces = (count + size - 1) / size
    for piece in 0..<pieces {
      let values = copy.payload(piece * size..<min(count, (piece + 1) * size))
      let isTaken = hub.channels[index].store.accept(key, piece: piece, of: pieces, values)
      precondition(isTaken, "piece \(piece) of \(pieces) of the copy of step \(key.step) was refused")
    }
    store.mirrored(key.step)
  }

  func pendingStop() -> String? {
    mailbox.first { if case .stop(_, let reason) = $0 { reason } else { nil } }
  }
}

final class OneProcessCluster: @unchecked Sendable {
  private(set) var channels: [HubChannel] = []
  private var assignments: [Assignment] = []
  private let generation: UInt32
  /// The fingerprint of all its workers.
  static let numerics = "ress-test/1"

  /// - Parameters:
  ///   - copies: the experts that each worker has a copy of; nil for those that the configuration chooses.
  ///   - sharesMemory: whether the workers may use a board.
  ///   - before: a cluster that has halted after `firstStep` steps, or has copies of that step. Its state is taken
  ///     over. Its first workers are the workers of this cluster, as far as it has them.
  ///   - holders: by worker, the worker that has its shard; nil: the worker itself.
  init(
    _ configuration: RunConfiguration, workers: Int, threads: Int, folder: String, checkpoint: String? = nil,
    firstStep: Int = 0, acceptsOtherNumerics: Bool = false, from: WeightSource? = nil, copies: [[Int]]? = nil,
    sharesMemory: Bool = false, after before: OneProcessCluster? = nil, holders: [Int]? = nil
  ) {
    let units = evenShares(of: configuration.training.unitCount, among: workers)
    let experts = evenShares(of: configuration.model.routedExperts, among: workers).map {
      configuration.model.experts(in: $0)
    }
    let chosen = copies ?? (0..<workers).map { _ in ExpertCopies(configuration, workers: workers).choose() }
    let generation = (before?.generation ?? 0) + 1
    self.generation = generation
    channels = (0..<workers).map { HubChannel($0, self, before?.store($0) ?? ShardStore()) }
    let descriptions = channels.enumerated().map { index, channel in
      var description = WorkerDescription(
        name: "w\(index)", host: "here", process: Int(getpid()), dataAddress: "hub", threads: threads,
        fingerprint: Self.numerics, program: "", incarnation: UInt64(index))
      if sharesMemory {
        (description.machine, description.sharedMemory) = (1, channel.memory.map { Int($0.descriptor) })
      }
      return description
    }
    let roster = (0..<workers).map { index in
      RosterEntry(
        worker: descriptions[index],
        units: units[index], experts: experts[index],
        copies: chosen[index].filter { !experts[index].contains($0) })
    }
    var start = checkpoint.map { StartState.checkpoint(path: $0) } ?? from.map { .weights($0) } ?? .fresh
    if let before {
      start = .memory(
        MemoryState(
          generation: before.generation, step: firstStep, units: before.assignments[0].roster.map(\.units),
          experts: before.assignments[0].roster.map(\.experts), holders: holders ?? Array(before.assignments.indices)))
    }
    assignments = (0..<workers).map { index in
      var assignment = Assignment(
        run: RunID(1), generation: generation, configuration: configuration, roster: roster, index: index,
        threads: threads, start: start, firstStep: firstStep, folder: folder)
      if acceptsOtherNumerics { assignment.acceptsOtherNumerics = true }
      return assignment
    }
  }

  /// The store of a worker; nil for one that the cluster does not have.
  private func store(_ index: Int) -> ShardStore? { channels.indices.contains(index) ? channels[index].store : nil }

  /// The results of the run: records of steps and evaluations from the first worker, and every worker's errors.
  struct Outcome {
    var steps: [StepRecord]
    /// Bytes that each worker sent in each step.
    var sent: [[Double]] = []
    var evaluations: [EvaluationRecord]
    var examinations: [RouterRecord] = []
    var files: [Int: [CheckpointManifest.File]]
    var errors: [String]
    var endings: [RunJob.Ending] = []
    /// Bytes that each worker held at the end, counted; those of its copies on disk; and of the largest message.
    var heldBytes: [Int] = []
    var diskBytes: [Int] = []
    /// Number of messages of all workers, by phase.
    var messages: [DataPhase: Int] = [:]
    var largestMessage = 0
  }

  /// What threads have loaded, by index. Each writes its own place, and it is read when all have ended.
  private final class Loaded: @unchecked Sendable {
    private let lock = NSLock()
    private var jobs: [Int: RunJob] = [:]
    private var failure: (any Error)?

    func keep(_ index: Int, _ job: RunJob) { lock.withLock { jobs[index] = job } }

    /// Keeps the first error. The later ones are those of jobs that were stopped because of it.
    func fail(_ error: any Error) { lock.withLock { failure = failure ?? error } }

    func all(_ count: Int) throws -> [RunJob] {
      if let failure { throw failure }
      return (0..<count).map { jobs[$0]! }
    }
  }

  /// Loads all jobs, each on a thread of its own, because a state that moves from memory to memory needs all of them.
  private func load() throws -> [RunJob] {
    let loaded = Loaded()
    let group = DispatchGroup()
    for assignment in assignments {
      group.enter()
      let thread = Thread { [self] in
        let channel = channels[assignment.index]
        channel.store.begin(
          assignment.run, from: assignment.start, keepingOn: assignment.configuration.cluster.stateCopies)
        do {
          loaded.keep(
            assignment.index, try RunJob(assignment, network: channel, store: channel.store, log: { _ in }))
        } catch {
          loaded.fail(error)
          stopAll()
        }
        group.leave()
      }
      thread.stackSize = 8 << 20
      thread.start()
    }
    group.wait()
    return try loaded.all(assignments.count)
  }

  /// Stops all jobs because one failed, as the coordinator does. Otherwise they would wait for it for ever.
  private func stopAll() {
    for channel in channels { channel.mailbox.put(.stop(generation: generation, reason: "a job failed")) }
  }

  /// Runs all jobs to their end.
  /// - Parameters:
  ///   - meanwhile: called when all jobs have begun, on the caller's thread. It comes first of the two closures,
  ///     because Swift gives a trailing closure without a label to the first one.
  ///   - loaded: called when all jobs are loaded and none has begun its first step.
  func run(
    leftOut: Int = 0, evaluations: EvaluationStanding = EvaluationStanding(), meanwhile: () -> Void = {},
    loaded: () -> Void = {}
  ) throws -> Outcome {
    let errors = Mutex<[String]>([])
    let endings = Mutex<[RunJob.Ending]>([])
    let group = DispatchGroup()
    let jobs = try load()
    for channel in channels { channel.store.dropLive() }
    loaded()
    for job in jobs {
      nonisolated(unsafe) let job = job
      group.enter()
      let thread = Thread {
        do {
          let ending = try job.run(leftOut: leftOut, evaluations)
          endings.withLock { $0.append(ending) }
        } catch {
          errors.withLock { $0.append("\(job.assignment.index): \(error)") }
          self.stopAll()
        }
        group.leave()
      }
      thread.start()
    }
    meanwhile()
    group.wait()
    var outcome = Outcome(steps: [], evaluations: [], files: [:], errors: errors.withLock { $0 })
    outcome.endings = endings.withLock { $0 }
    outcome.heldBytes = jobs.map(\.heldByteCount)
    outcome.diskBytes = channels.map { 4 * $0.store.diskValueCount }
    outcome.largestMessage = channels.map { $0.largest.withLock { $0 } }.max() ?? 0
    for channel in channels {
      outcome.messages.merge(channel.counts.withLock { $0 }, uniquingKeysWith: +)
      for report in channel.reports {
        switch report {
        case .stepDone(let record):
          var record = record
          outcome.sent.append(record.sent ?? [])
          (record.seconds, record.busy, record.stall, record.sent, record.time) = (0, [], 0, nil, nil)
          outcome.steps.append(record)
        case .evaluated(var record):
          record.time = nil
          outcome.evaluations.append(record)
        case .examined(var record):
          record.time = nil
          outcome.examinations.append(record)
        case .saved(let step, let files): outcome.files[step, default: []] += files
        default: break
        }
      }
    }
    return outcome
  }
}

/// A small run on text that the test generates.
func smallRun(_ folder: ScratchFolder) throws -> RunConfiguration {
  var c = RunConfiguration.smallModel
  c.run = "small"
  c.data.path = folder.path + "/text.h5"
  c.data.sequenceLength = 40
  c.training.batchSequences = 6
  c.training.steps = 20
  c.training.evaluateEvery = 10
  c.training.evaluateSequences = 4
  c.checkpoint.every = 0
  c.optimizer.learningRate = 1e-2
  c.optimizer.warmupSteps = 4
  if !FileManager.default.fileExists(atPath: c.data.path) {
    let random = Philox(seed: 5, stream: 1)
    let words = ["sea", "ship", "wind", "shore", "gull", "tide", "mast", "rope"]
    let text = (0..<4000).map { words[Int(random.uniform(UInt64($0)) * 8)] }.joined(separator: " ")
    let source = folder.path + "/text.txt"
    try text.write(toFile: source, atomically: true, encoding: .utf8)
    _ = try DatasetPreparation(sources: [source], output: c.data.path).run()
  }
  return c
}
