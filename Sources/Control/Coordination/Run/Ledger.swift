// Which worker is late, with what, and by how long. The ledger measures and finds; the run decides what follows from a
// finding (Run+Ledger.swift). A run never stands still without a reaction: a worker that all others wait for is named
// after half the patience and replaced after the whole patience; a worker that is much slower than the others is
// replaced where that makes the run faster; experts move where the time that this saves is worth the bytes.

import Configuration
import Wire

/// The findings. Those of the first group are reported once in a generation; those of the second group end the
/// generation.
enum Finding: Hashable, Sendable {
  /// No heartbeat of a worker arrived for half the patience.
  case silent(index: Int, step: Int)
  /// A worker has waited for a disk or for another worker for half the patience.
  case waits(index: Int, step: Int)
  /// A worker computes several times as long as the others.
  case slow(index: Int)

  /// A worker's heartbeats arrive, but it has not worked for the generation for the whole patience.
  case strayed(index: Int)
  /// A worker has waited for a disk or a connection for many times the patience without any progress.
  case blocked(index: Int)
  /// A worker's heartbeats arrive, but it made no progress for the whole patience.
  case stuck(index: Int)
  /// Every worker waits for another one.
  case deadlock
}

struct Ledger: Equatable, Sendable {
  /// A worker is slow if its steps take this many times the median of the others.
  private static let slow = 4.0
  /// A move of experts must save this share of a step.
  private static let worthwhile = 0.03
  /// Every worker must have waited for another for this long in the coordinator's own time: several heartbeats.
  private static let deadlockedFor = Duration.seconds(1)
  /// Steps of a generation before its loads are trusted.
  private static let settledSteps = 30
  /// Bytes a second between hosts that are assumed before any were measured: a tenth of a gigabit.
  private static let assumedBandwidth = 12.5e6
  /// Weight of the past in a fading mean.
  private static let fade = 0.9
  /// A disk or a connection without progress for this many times the patience counts as gone.
  private static let blockedPatiences = 20.0

  /// Tokens that each expert got in recent steps, fading.
  private(set) var expertLoads: [Double] = []
  /// Seconds of a step, fading; 0 before the first.
  private(set) var stepSeconds = 0.0
  /// Bytes that a worker sends in a step, fading; nil before the first.
  private(set) var sentBytes: Double?
  /// The most memory that a worker of the run had, in whole MiB; nil before the first heartbeat.
  private(set) var memoryBytes: Int?
  /// The workers' slowest connection; nil before the first measurement.
  var line: ExpertCopies.Line?
  /// Factor of the gain that a move of experts must promise. It grows after moves that saved less than expected.
  private var moveCaution = 1.0
  /// Steps of this generation.
  private(set) var generationSteps = 0
  /// Seconds of computing in a step, by index, fading.
  private(set) var busy: [Double] = []
  /// Bytes that a worker sends in a step, by index, fading.
  private(set) var sent: [Double] = []
  /// Share of the steps in which a worker computed longest, by index, fading.
  private(set) var lastShares: [Double] = []
  /// When a worker became slow, by index.
  private var slowSince: [Int: Instant] = [:]
  /// When all workers began to wait for each other.
  private var deadlockedSince: Instant?
  /// Findings that were reported in this generation.
  private var reported: Set<Finding> = []

  init() {}

  init(_ record: RunRecord) {
    expertLoads = record.expertLoads
    stepSeconds = record.stepSeconds
    sentBytes = record.sentBytes
    memoryBytes = record.memoryBytes
    line = record.line
  }

  mutating func beginGeneration() {
    generationSteps = 0
    (busy, sent, lastShares) = ([], [], [])
    slowSince = [:]
    reported = []
  }

  /// Returns whether the finding is new in this generation, and records it.
  mutating func isNew(_ finding: Finding) -> Bool { reported.insert(finding).inserted }

  // MARK: measuring

  mutating func countStep() { generationSteps += 1 }

  /// Takes in a step's times and loads.
  mutating func weigh(_ record: StepRecord) {
    func faded(_ old: [Double], _ new: [Double]) -> [Double] {
      old.count == new.count ? zip(old, new).map { Ledger.fade * $0 + (1 - Ledger.fade) * $1 } : new
    }
    busy = faded(busy, record.busy)
    sent = faded(sent, record.sent ?? [])
    let last = record.busy.indices.max { record.busy[$0] < record.busy[$1] }
    lastShares = faded(lastShares, record.busy.indices.map { $0 == last ? 1 : 0 })
    expertLoads = faded(expertLoads, record.loads.map { Double($0) })
    stepSeconds =
      generationSteps > 1 && stepSeconds > 0
      ? Ledger.fade * stepSeconds + (1 - Ledger.fade) * record.seconds : record.seconds
    if let sent = record.sent, !sent.isEmpty {
      let mean = sent.reduce(0, +) / Double(sent.count)
      sentBytes = sentBytes.map { Ledger.fade * $0 + (1 - Ledger.fade) * mean } ?? mean
    }
  }

  /// A worker has reported its memory.
  mutating func weigh(memory bytes: Int) {
    // In whole MiB, so that a worker that fills up does not make the store write at every heartbeat.
    let mebibyte = 1 << 20
    let rounded = (bytes + mebibyte - 1) / mebibyte * mebibyte
    if rounded > memoryBytes ?? 0 { memoryBytes = rounded }
  }

  // MARK: late workers

  /// Looks at the workers of a generation. The last finding, and only the last, may be one that ends the generation.
  /// - Parameters:
  ///   - workers: the connected workers, with their indices in the roster.
  ///   - since: when the present phase began.
  mutating func inspect(
    _ workers: [(index: Int, member: Member)], phase: Phase, since: Instant, patience: Duration, at now: Instant
  ) -> [Finding] {
    guard let generation = phase.generation else { return [] }
    var findings: [Finding] = []
    for (index, worker) in workers {
      let half = patience.inSeconds / 2
      if (now - worker.lastHeard).inSeconds > half {
        findings.append(.silent(index: index, step: worker.heartbeat.step))
      }
      if worker.heartbeat.waiting != nil, worker.heartbeat.waitingSeconds > half {
        findings.append(.waits(index: index, step: worker.heartbeat.step))
      }
    }
    findings = findings.filter { isNew($0) }
    for (index, worker) in workers where !generation.finished.contains(index) {
      let isHalted = generation.halted[index] != nil
      if let strayed = worker.strayedAt, strayed + patience < now, !isHalted {
        return findings + [.strayed(index: index)]
      }
      let isWaiting = worker.heartbeat.waiting != nil
      if isWaiting, worker.heartbeat.waitingFor.isEmpty,
        worker.heartbeat.waitingSeconds > Ledger.blockedPatiences * patience.inSeconds
      {
        return findings + [.blocked(index: index)]
      }
      // It sends heartbeats and makes no progress, because of a dead file system for example. A silent worker is
      // another case.
      let isHeard = worker.lastHeard + patience / 4 > now
      let isWorking =
        !isWaiting && !isHalted && worker.heartbeat.generation == generation.number
        && !(phase.isLoading && generation.ready.contains(index))
      if isWorking && isHeard && Ledger.still(worker, since, now) > patience {
        return findings + [.stuck(index: index)]
      }
    }
    return isDeadlocked(workers, generation, phase, patience, at: now) ? findings + [.deadlock] : findings
  }

  /// The time without progress of a worker in a phase.
  static func still(_ worker: Member, _ since: Instant, _ now: Instant) -> Duration {
    now - max(worker.progressAt, since)
  }

  /// Whether all workers wait for each other. That needs a lost message, which should not happen; if it does, the run
  /// must not hang.
  private mutating func isDeadlocked(
    _ workers: [(index: Int, member: Member)], _ generation: Generation, _ phase: Phase, _ patience: Duration,
    at now: Instant
  ) -> Bool {
    let unready = workers.filter { phase.isTraining || !generation.ready.contains($0.index) }
    let allWait = unready.allSatisfy { _, worker in
      !worker.heartbeat.waitingFor.isEmpty && worker.heartbeat.waitingSeconds > patience.inSeconds
    }
    guard phase.isTraining || phase.isLoading, workers.count == generation.roster.count, !unready.isEmpty, allWait
    else {
      deadlockedSince = nil
      return false
    }
    // Workers that were stopped together with their machine report the same once, before they continue.
    let since = deadlockedSince ?? now
    deadlockedSince = since
    guard since + Ledger.deadlockedFor < now else { return false }
    deadlockedSince = nil
    return true
  }

  // MARK: slow workers

  struct SlowWorker {
    var index: Int
    /// How many times as long as the others it computes.
    var factor: Double
    var since: Instant
  }

  /// The workers that are much slower than the others, of `count`.
  mutating func slowWorkers(of count: Int, at now: Instant) -> [SlowWorker] {
    guard busy.count > 1, busy.count == count, generationSteps > 3 else { return [] }
    let sorted = busy.sorted()
    return busy.indices.compactMap { index in
      // The median of the others: of the sorted times without this worker's own.
      let middle = (busy.count - 1) / 2
      let median = busy[index] <= sorted[middle] ? sorted[middle + 1] : sorted[middle]
      guard busy[index] > Ledger.slow * median else {
        slowSince[index] = nil
        return nil
      }
      let since = slowSince[index] ?? now
      slowSince[index] = since
      return SlowWorker(index: index, factor: Double(Int(10 * busy[index] / median)) / 10, since: since)
    }
  }

  // MARK: moving experts

  /// A move of experts that is worth its cost.
  struct ExpertMove {
    var what: String
    var promise: PlacementPromise
  }

  /// The move of experts that is worth its cost, if there is one.
  func worthwhileMove(_ configuration: RunConfiguration, _ generation: Generation, step: Int, changeSeconds: Double)
    -> ExpertMove?
  {
    let model = configuration.model, training = configuration.training
    let roster = generation.roster
    guard roster.count > 1, model.routedExperts > 0, expertLoads.count == model.expertCount,
      isSettled(generation)
    else { return nil }
    var owners = [Int](repeating: 0, count: model.expertCount)
    for (index, entry) in roster.enumerated() { for expert in entry.experts { owners[expert] = index } }
    // The rows of copied experts stay with their units, wherever the owners are.
    let copied = Set(generation.copiedExperts)
    let loads = expertLoads.indices.map { copied.contains($0) ? 0 : expertLoads[$0] }
    let placed = ExpertPlacement.place(loads: loads, owners: owners, workers: roster.count)
    let moved = owners.indices.count { owners[$0] != placed[$0] }
    guard moved > 0 else { return nil }
    let tokens = roster.map {
      Double($0.units.count * training.unitSequences * configuration.data.sequenceLength)
    }
    let expected = StepCost(model).predict(
      seconds: stepSeconds, tokens: tokens, loads: loads, owners: owners, newOwners: placed,
      recurrence: model.steps)
    let saved = stepSeconds - expected
    let bytes = Double(moved * 3 * 3 * model.width * model.expertWidth * 4)
    let cost = changeSeconds + bytes / Ledger.assumedBandwidth
    let left = Double(training.steps - step)
    guard saved > Ledger.worthwhile * moveCaution * stepSeconds, saved * left > 2 * cost else { return nil }
    return ExpertMove(
      what: "\(moved) expert\(moved == 1 ? " moves" : "s move") (\(Int(bytes / 1e3)) kB)",
      promise: PlacementPromise(stepSecondsBefore: stepSeconds, stepSecondsExpected: expected))
  }

  /// The cost and gain of copies of experts among some workers, from the measured loads and connections.
  func copies(_ configuration: RunConfiguration, _ workers: [WorkerDescription]) -> ExpertCopies {
    ExpertCopies(
      configuration, workers: workers.count, loads: expertLoads,
      line: line ?? .assumed(hosts: Set(workers.map(\.host)).count),
      canShareMemory: WorkerDescription.canShareMemory(workers, configuration.cluster))
  }

  /// Another choice of the experts that are copied, where it is worth its cost by the measured connections and loads.
  func worthwhileCopies(_ configuration: RunConfiguration, _ generation: Generation, step: Int, changeSeconds: Double)
    -> ExpertMove?
  {
    let roster = generation.roster
    guard let line, configuration.cluster.experts == .auto, roster.count > 1,
      expertLoads.count == configuration.model.expertCount, isSettled(generation)
    else { return nil }
    let copies = copies(configuration, roster.map(\.worker))
    let present = generation.copiedExperts
    let best = copies.choose(memoryBytes: Placement.memoryForCopies(roster.map(\.worker)))
    let saved = copies.seconds(present) - copies.seconds(best)
    let added = Set(best).subtracting(present).count
    let bytes = Double(added * 3 * configuration.model.width * configuration.model.expertWidth * 4)
    let cost = changeSeconds + bytes / line.bytesPerSecond
    let left = Double(configuration.training.steps - step)
    guard saved > Ledger.worthwhile * moveCaution * stepSeconds, saved * left > 2 * cost else { return nil }
    return ExpertMove(
      what: copies.spoken(best),
      promise: PlacementPromise(stepSecondsBefore: stepSeconds, stepSecondsExpected: max(0, stepSeconds - saved)))
  }

  /// Whether the loads of a generation can be trusted and the last move of experts was measured.
  private func isSettled(_ generation: Generation) -> Bool {
    generationSteps >= Ledger.settledSteps && generationSteps.isMultiple(of: 10)
      && (generation.promise.map { $0.steps >= PlacementPromise.measuredSteps } ?? true)
  }

  /// A move of experts was measured. If it saved less than half of what was expected, something else determines the
  /// duration of a step, so the next move must promise more.
  mutating func judge(_ promise: PlacementPromise) {
    let gain = promise.stepSecondsBefore - promise.seconds / Double(promise.steps)
    let isKept = gain > (promise.stepSecondsBefore - promise.stepSecondsExpected) / 2
    moveCaution = isKept ? max(1, moveCaution / 2) : min(64, moveCaution * 2)
  }
}
