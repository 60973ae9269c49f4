// The training step, as one worker runs it:
//   batch → units → embedding → K × step → loss → backward → tree → finite check → AdamW → shared parameters
//
// A worker holds all dense parameters, the experts assigned to it, and the moments of the tensors that it updates.
// In a step it computes its own units; meanwhile its experts also serve the units of other workers (through the
// exchange). The gradients of units are added in the units' tree, each tensor's total goes to its owner, the owner
// applies AdamW, and the new dense parameters go to everyone.
//
// Every decision of a step (whether it is applied, whether to stop after it) follows from numbers that all workers
// have, so they all decide the same.

import Configuration
import Data
import Kernels
import Model

/// The result of a step, the same on every worker.
package struct StepResult: Equatable, Sendable {
  package var step: Int
  package var losses: Losses
  package var gradientNorm: Double
  package var learningRate: Double
  /// Number of tokens that each expert received in the step, over all workers and recurrence steps.
  package var loads: [Int]
  package var tokens: Int
  /// Why the step was not applied; nil where it was applied.
  package var skipped: String?
  /// Whether all workers stop after this step, and whether with a checkpoint.
  package var halt = HaltWish.none
}

package enum TrainingError: Error, Equatable, CustomStringConvertible {
  case tooFewSequences(available: Int, length: Int, split: String)

  package var description: String {
    switch self {
    case .tooFewSequences(let available, let length, let split):
      "the \(split) split holds \(available) sequences of \(length) tokens; at least 1 is needed: "
        + "prepare more text or lower data.sequence_length"
    }
  }
}

/// Keeps copies of a worker's state, which are made from the trainer's own tensors while a step is computed. A step
/// changes these tensors only in its update.
package protocol StateKeeper: AnyObject {
  /// All units of the step are computed. The other workers wait for this worker's norms when this returns.
  func beforeNorms() throws
  /// The norms of all workers have arrived: each of them has returned from `beforeNorms` in this step. The state
  /// changes when this returns.
  func beforeUpdate()
}

/// One worker's part of a run's training.
package final class Trainer {
  package let configuration: RunConfiguration
  package let held: HeldModel
  package let optimizer: Optimizer
  private let exchange: any GradientExchange
  private let models: [SequenceModel]
  /// The batch, for each unit that may be under way; evaluations and audits use the first.
  private let lanes: [StepBatch]
  private let relay: Relay?
  private let gradientPool: BufferPool
  private let rounds: Rounds
  private let auditor: Auditor
  private let search: NonFiniteSearch
  private let balancer: Balancer
  private let clock: StepClock
  private let zeros: ParameterZeros
  /// For drills: the step in which one bit of a unit's gradient is flipped.
  private let flipsBitInStep: Int?
  // Reused in every step, so that a steady step does not allocate.
  private var tree = UnitTree<PooledBuffer>(unitCount: 1)
  private var lossTree = UnitTree<LossSums>(unitCount: 1)
  private var loads: [Int]
  /// Units of this worker that no lane has taken. A property and not a variable of the step, which would be allocated.
  private var unitsLeft = 0..<0
  /// Called in every step before the state changes.
  package weak var keeper: (any StateKeeper)?
  /// Whether the state is that after a step. It is not between the update and the end of a step.
  package private(set) var isWhole = true
  /// How the last step's tokens were routed, over all workers.
  package private(set) var routing: Routing

  /// To continue from a checkpoint, read it into `parameters` and `optimizer` afterwards.
  ///
  /// - Parameters:
  ///   - memoryLimit: bytes of activations above which segments are recomputed, with `recompute: auto`.
  ///   - flipsBitInStep: for drills; nil otherwise.
  package init(
    _ configuration: RunConfiguration, _ held: HeldModel, _ exchanges: Exchanges, source: any SequenceSource,
    memoryLimit: Int, flipsBitInStep: Int? = nil
  ) throws {
    guard source.sequenceCount > 0 else {
      throw TrainingError.tooFewSequences(available: 0, length: source.length, split: "train")
    }
    self.configuration = configuration
    self.held = held
    self.flipsBitInStep = flipsBitInStep
    exchange = exchanges.gradients
    optimizer = Optimizer(configuration.optimizer, parameters: held.parameters, plan: held.plan, team: held.team)
    relay = held.plan.myUnits.count > 1 ? exchanges.relay : nil
    let count = relay == nil ? 1 : Relay.laneCount
    models = (0..<count).map { _ in
      SequenceModel(
        held.sizes, maximumTokens: source.length, recompute: configuration.training.recompute,
        memoryLimit: memoryLimit / count, team: held.team, exchange: exchanges.experts)
    }
    let pool = BufferPool()
    gradientPool = pool
    lanes = models.map { StepBatch(configuration, held, source, $0, pool) }
    let batch = lanes[0]
    rounds = Rounds(exchange, chunkCount: optimizer.chunkCount)
    auditor = Auditor(configuration, held.plan, batch, rounds)
    search = NonFiniteSearch(plan: held.plan, batch: batch, rounds: rounds)
    balancer = Balancer(configuration.model, held)
    clock = StepClock(exchange)
    zeros = ParameterZeros(Optimizer.zeroCount)
    routing = Routing(held.sizes)
    loads = Array(repeating: 0, count: configuration.model.expertCount)
  }

  /// A trainer without peers.
  package convenience init(
    alone configuration: RunConfiguration, vocabulary: Int, source: any SequenceSource, threads: Int
  ) throws {
    let layout = ParameterLayout(configuration, vocabulary: vocabulary)
    let held = HeldModel(
      configuration, vocabulary: vocabulary, plan: .alone(configuration, layout: layout), threads: threads)
    try self.init(configuration, held, Exchanges(alone: held), source: source, memoryLimit: .max)
  }

  package var plan: WorkPlan { held.plan }
  package var team: Team { held.team }
  package var parameters: ParameterBuffer { held.parameters }
  /// Bytes of parameters, moments and activations.
  package var byteCount: Int { parameters.byteCount + optimizer.byteCount + models.reduce(0) { $0 + $1.byteCount } }
  /// The same with packed weights, gradients and rows that wait for experts: everything that a step needs here, but
  /// for messages.
  package var heldByteCount: Int {
    byteCount + held.weights.packedByteCount + held.experts.byteCount + gradientPool.byteCount
  }
  package var recomputes: Bool { models[0].recomputes }
  private var batch: StepBatch { lanes[0] }
  /// Seconds that each worker computed in the last step, and bytes that it sent.
  package var busy: [Double] { clock.busy }
  package var sent: [Double] { clock.sent }
  /// The balancer's bias of each expert, by block.
  package var routerBias: [[Real]] { balancer.routerBias }

  /// Runs step `step` (from 0). `wish` is this worker's request to stop; all workers stop after the step if any of
  /// them has one.
  package func step(_ step: Int, wish: HaltWish = .none) throws -> StepResult {
    try team.measure(.step) { try runStep(step, wish) }
  }

  private func runStep(_ step: Int, _ wish: HaltWish) throws -> StepResult {
    clock.begin()
    var note = StepNote()
    note.halt = wish
    for lane in lanes { try lane.sample(step) }
    let audit = try auditor.begin(step, &note)
    try rounds.begin(.training, step: step, unitCount: plan.unitCount)
    try computeUnits(step, audit, &note)

    let reports = try team.measure(.waiting) { try exchange.reports() }
    let losses = Losses(sum(reports), configuration.model)
    addRouting(of: reports)
    let gradients = try total()
    let mine = team.measure(.optimizer) { optimizer.squares(gradients) }
    clock.stamp(&note)
    try keeper?.beforeNorms()
    let squares = try team.measure(.waiting) { try exchange.gather(mine, note) }
    clock.read(exchange.notes)
    // All workers have the same reports, notes and norm, so all decide the same.
    try auditor.compare(audit, step: step)
    let norm = squares.reduce(0, +).squareRoot()
    let skipped = try search.find(reports, norm: norm, step: step)
    let rate = configuration.optimizer.learningRate(step: step, of: configuration.training.steps)
    keeper?.beforeUpdate()
    isWhole = skipped != nil
    if skipped == nil { update(gradients, norm: norm, step: step, rate: rate) }
    recycle()
    if skipped == nil { try share() }
    isWhole = true
    return StepResult(
      step: step, losses: losses, gradientNorm: norm, learningRate: rate, loads: loads, tokens: batch.tokenCount,
      skipped: skipped, halt: exchange.notes.reduce(.none) { max($0, $1.halt) })
  }

  /// Computes this worker's units. Their gradients are added in the tree as far as its units form complete subtrees.
  private func computeUnits(_ step: Int, _ audit: Audit, _ note: inout StepNote) throws {
    held.expertGradients.begin(unitCount: plan.unitCount)
    tree.begin(unitCount: plan.unitCount)
    unitsLeft = plan.myUnits
    if let relay {
      try relay.run { lane in while !unitsLeft.isEmpty { try computeNext(step, lanes[lane], audit, &note) } }
    } else {
      while !unitsLeft.isEmpty { try computeNext(step, batch, audit, &note) }
    }
  }

  private func computeNext(_ step: Int, _ batch: StepBatch, _ audit: Audit, _ note: inout StepNote) throws {
    let unit = unitsLeft.removeFirst()
    let gradient = try batch.train(unit, as: unit)
    if step == flipsBitInStep, unit == plan.myUnits.lowerBound { gradient.flipABit(count: batch.denseCount) }
    if let place = audit.units.firstIndex(of: unit) {
      note.owned[place] = Audit.hash(batch.report, gradient: gradient.pointer, count: batch.denseCount)
    }
    team.measure(.tree) { tree.insert(gradient, at: UnitNode(level: 0, index: unit), add: { batch.add($0, $1) }) }
    try team.measure(.tree) { try exchange.finish(unit: unit, batch.report) }
  }

  /// The gradients over the whole batch of what this worker updates.
  private func total() throws -> Optimizer.Gradients {
    let dense = try team.measure(.waiting) { try exchange.reduce(tree.pending) }
    held.expertGradients.finish()
    return Optimizer.Gradients(dense: dense, experts: held.expertGradients.totals)
  }

  private func update(_ gradients: Optimizer.Gradients, norm: Double, step: Int, rate: Double) {
    team.measure(.optimizer) {
      optimizer.update(gradients, scale: optimizer.clipScale(norm: norm), step: step, rate: rate, zeros: zeros.pointer)
    }
  }

  /// Returns the memory of the step's gradients.
  private func recycle() {
    for (_, buffer) in tree.pending { if let buffer { batch.recycle(buffer) } }
    tree.begin(unitCount: plan.unitCount)
    held.expertGradients.recycle()
  }

  /// Sends the new parameters to everyone and receives theirs; the balancer follows on every worker alike.
  private func share() throws {
    try team.measure(.waiting) { try exchange.share(parameters) }
    parameters.changed()
    balancer.apply(loads)
  }

  /// Measures the connections between the workers; every worker must call it at the same place. Nil without peers.
  package func probe() throws -> LineSpeed? { try rounds.probe() }

  /// Losses and scores over `questions` questions of a split, evenly spaced, computed by all workers together. Nil
  /// where it has none.
  package func evaluate(_ validation: any SequenceSource, step: Int, questions: Int) throws -> LossSums? {
    let count = min(questions, validation.questionCount)
    guard count > 0 else { return nil }
    try rounds.begin(.evaluation, step: step, unitCount: count)
    let evaluator = Evaluator(validation, held.sizes)
    var report = UnitReport(held.sizes)
    for unit in evenShares(of: count, among: plan.workerCount)[plan.index] {
      report.clear()
      try evaluator.ask(unit * validation.questionCount / count, unit: unit, models[0], held.weights, &report)
      try exchange.finish(unit: unit, report)
    }
    return sum(try exchange.reports())
  }

  /// Sums the routing of all units, in their order.
  private func addRouting(of reports: [UnitReport]) {
    routing.clear()
    for unit in reports.indices { routing.add(reports[unit].routing) }
    for expert in loads.indices { loads[expert] = 0 }
    routing.addLoads(to: &loads)
  }

  /// Adds losses in the units' tree, like the gradients.
  private func sum(_ reports: [UnitReport]) -> LossSums {
    lossTree.begin(unitCount: reports.count)
    for unit in reports.indices {
      lossTree.insert(reports[unit].losses, at: UnitNode(level: 0, index: unit)) { $0 + $1 }
    }
    return lossTree.total!
  }
}

/// Zeros, for the gradients of experts that no token reached.
private final class ParameterZeros {
  let pointer: RealPointer
  init(_ count: Int) {
    pointer = .allocate(capacity: count)
    pointer.initialize(repeating: 0, count: count)
  }
  deinit { pointer.deallocate() }
}

extension PooledBuffer {
  /// Simulates a faulty processor: flips one bit of the largest of `count` numbers, so that rounding cannot hide
  /// it.
  fileprivate func flipABit(count: Int) {
    let place = (0..<count).max { abs(pointer[$0]) < abs(pointer[$1]) } ?? 0
    pointer[place] = Real(bitPattern: pointer[place].bitPattern ^ 1 << (Real.significandBitCount - 2))
  }
}
