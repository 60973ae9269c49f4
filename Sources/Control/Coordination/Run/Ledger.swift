// Which worker is late, in what, and by how long. The ledger measures and finds; the run decides what to do about a finding
// (Run+Ledger.swift). A run never just stands still: a worker that all others wait for is named at half the patience and replaced when
// the patience is over; one that is much slower than the others is replaced when that makes the run faster; experts move when the time
// that this saves is worth the bytes.

import Configuration
import Wire

/// What the ledger can find. Those of the first kind are reported once a generation, those of the second end the generation.
enum Finding: Hashable, Sendable {
  /// A worker was not heard for half the patience.
  case silent(place: Int, step: Int)
  /// A worker has waited for a disk or for another worker for half the patience.
  case waits(place: Int, step: Int)
  /// A worker computes several times as long as the others.
  case slow(place: Int)

  /// A worker is heard and has not worked for the generation for the whole patience.
  case strayed(place: Int)
  /// A worker waits for a disk or a line that has moved nothing for many times the patience.
  case blocked(place: Int)
  /// A worker is heard and has done nothing for the whole patience.
  case stuck(place: Int)
  /// Every worker waits for another one.
  case deadlock
}

struct Ledger: Equatable, Sendable {
  /// A worker is slow when its steps take so many times the median of the others.
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
  /// A disk or a line that has moved nothing for so many times the patience is taken to be gone.
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
  /// How many times the usual gain a move of experts must promise: more, after moves that did not keep what they promised.
  private var moveCaution = 1.0
  /// Steps of this generation.
  private(set) var generationSteps = 0
  /// Seconds of computing in a step, by place, fading.
  private(set) var busy: [Double] = []
  /// Since when a worker has been slow, by place.
  private var slowSince: [Int: Instant] = [:]
  /// Since when all workers have waited for each other.
  private var deadlockedSince: Instant?
  /// What was reported already in this generation.
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
    busy = []
    slowSince = [:]
    reported = []
  }

  /// Returns whether the finding was not reported yet in this generation, and from now on it was.
  mutating func isNew(_ finding: Finding) -> Bool { reported.insert(finding).inserted }

  // MARK: measuring

  mutating func countStep() { generationSteps += 1 }

  /// Takes in a step's times and loads.
  mutating func weigh(_ record: StepRecord) {
    func faded(_ old: [Double], _ new: [Double]) -> [Double] {
      old.count == new.count ? zip(old, new).map { Ledger.fade * $0 + (1 - Ledger.fade) * $1 } : new
    }
    busy = faded(busy, record.busy)
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
  ///   - workers: the connected ones, with their places in the roster.
  ///   - since: when the present phase began.
  mutating func inspect(
    _ workers: [(place: Int, member: Member)], phase: Phase, since: Instant, patience: Duration, at now: Instant
  ) -> [Finding] {
    guard let generation = phase.generation else { return [] }
    var findings: [Finding] = []
    for (place, worker) in workers {
      let half = patience.inSeconds / 2
      if (now - worker.lastHeard).inSeconds > half {
        findings.append(.silent(place: place, step: worker.heartbeat.step))
      }
      if worker.heartbeat.waiting != nil, worker.heartbeat.waitingSeconds > half {
        findings.append(.waits(place: place, step: worker.heartbeat.step))
      }
    }
    findings = findings.filter { isNew($0) }
    for (place, worker) in workers where !generation.finished.contains(place) {
      let isHalted = generation.halted[place] != nil
      if let strayed = worker.strayedAt, strayed + patience < now, !isHalted {
        return findings + [.strayed(place: place)]
      }
      let isWaiting = worker.heartbeat.waiting != nil
      if isWaiting, worker.heartbeat.waitingFor.isEmpty,
        worker.heartbeat.waitingSeconds > Ledger.blockedPatiences * patience.inSeconds
      {
        return findings + [.blocked(place: place)]
      }
      // It sends heartbeats, and nothing moves: a dead file system, say. A worker that is silent is another case.
      let isHeard = worker.lastHeard + patience / 4 > now
      let isWorking =
        !isWaiting && !isHalted && worker.heartbeat.generation == generation.number
        && !(phase.isLoading && generation.ready.contains(place))
      if isWorking && isHeard && Ledger.still(worker, since, now) > patience {
        return findings + [.stuck(place: place)]
      }
    }
    return isDeadlocked(workers, generation, phase, patience, at: now) ? findings + [.deadlock] : findings
  }

  /// For how long a worker has made no progress in a phase.
  static func still(_ worker: Member, _ since: Instant, _ now: Instant) -> Duration {
    now - max(worker.progressAt, since)
  }

  /// All wait for each other: a message was lost, which should not happen, and must not hang.
  private mutating func isDeadlocked(
    _ workers: [(place: Int, member: Member)], _ generation: Generation, _ phase: Phase, _ patience: Duration,
    at now: Instant
  ) -> Bool {
    let unready = workers.filter { phase.isTraining || !generation.ready.contains($0.place) }
    let allWait = unready.allSatisfy { _, worker in
      !worker.heartbeat.waitingFor.isEmpty && worker.heartbeat.waitingSeconds > patience.inSeconds
    }
    guard phase.isTraining || phase.isLoading, workers.count == generation.roster.count, !unready.isEmpty, allWait
    else {
      deadlockedSince = nil
      return false
    }
    // Workers that were stopped together with their machine report so too, once, before they go on.
    let since = deadlockedSince ?? now
    deadlockedSince = since
    guard since + Ledger.deadlockedFor < now else { return false }
    deadlockedSince = nil
    return true
  }

  // MARK: slow workers

  struct SlowWorker {
    var place: Int
    /// How many times as long as the others it computes.
    var factor: Double
    var since: Instant
  }

  /// The workers that are much slower than the others, of `count`.
  mutating func slowWorkers(of count: Int, at now: Instant) -> [SlowWorker] {
    guard busy.count > 1, busy.count == count, generationSteps > 3 else { return [] }
    let sorted = busy.sorted()
    return busy.indices.compactMap { place in
      // The median of the others: of the sorted times without this worker's own.
      let middle = (busy.count - 1) / 2
      let median = busy[place] <= sorted[middle] ? sorted[middle + 1] : sorted[middle]
      guard busy[place] > Ledger.slow * median else {
        slowSince[place] = nil
        return nil
      }
      let since = slowSince[place] ?? now
      slowSince[place] = since
      return SlowWorker(place: place, factor: Double(Int(10 * busy[place] / median)) / 10, since: since)
    }
  }

  // MARK: moving experts

  /// A change of the places of experts that is worth its cost.
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
    for (place, entry) in roster.enumerated() { for expert in entry.experts { owners[expert] = place } }
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

  /// Another choice of the experts that are copied, where it is worth its cost by the measured connections and loads.
  func worthwhileCopies(_ configuration: RunConfiguration, _ generation: Generation, step: Int, changeSeconds: Double)
    -> ExpertMove?
  {
    let roster = generation.roster
    guard let line, configuration.cluster.experts == .auto, roster.count > 1,
      expertLoads.count == configuration.model.expertCount, isSettled(generation)
    else { return nil }
    let copies = ExpertCopies(configuration, workers: roster.count, loads: expertLoads, line: line)
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

  /// Whether the loads of a generation can be trusted, and the last change of its experts was measured.
  private func isSettled(_ generation: Generation) -> Bool {
    generationSteps >= Ledger.settledSteps && generationSteps.isMultiple(of: 10)
      && (generation.promise.map { $0.steps >= PlacementPromise.measuredSteps } ?? true)
  }

  /// A move of experts was measured. One that did not bring half of what it promised makes the next one promise more, because something
  /// else decides how long a step takes.
  mutating func judge(_ promise: PlacementPromise) {
    let gain = promise.stepSecondsBefore - promise.seconds / Double(promise.steps)
    let isKept = gain > (promise.stepSecondsBefore - promise.stepSecondsExpected) / 2
    moveCaution = isKept ? max(1, moveCaution / 2) : min(64, moveCaution * 2)
  }
}
