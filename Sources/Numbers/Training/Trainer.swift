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
  /// The model and the batch of each place at which a unit may be under way.
  private let models: [SequenceModel]
  private let batches: [StepBatch]
  private let loop: UnitLoop
  /// Held while a source of sequences is read.
  private let reading = Lock()
  private let rounds: Rounds
  private let auditor: Auditor
  private let search: NonFiniteSearch
  private let balancer: Balancer
  private let clock: StepClock
  private let zeros: ParameterZeros
  /// For drills: the step in which one bit of a unit's gradient is flipped.
  private let flipsBitInStep: Int?
  // Reused in every step, so that a steady step does not allocate.
  private let gradients: DenseGradients
  private let postponed: PostponedSums
  private var lossTree = UnitTree<LossSums>(unitCount: 1)
  private var loads: [Int]
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
    let units = held.plan.myUnits.count, teams = held.division.teams.count
    let loop = UnitLoop(held.division, relays: units > teams ? exchanges.relays : [])
    self.loop = loop
    models = (0..<loop.placeCount).map { place in
      let team = loop.team(ofPlace: place)
      return SequenceModel(
        held.sizes, maximumTokens: source.length, recompute: configuration.training.recompute,
        memoryLimit: memoryLimit / loop.placeCount, team: held.division.teams[team], exchange: exchanges.experts[team])
    }
    // One for each unit under way, and one for each sum that waits. With several teams the sums are postponed, and how
    // many wait at the same time depends on chance.
    let sums = Int.bitWidth - units.leadingZeroBitCount
    let reserve = teams == 1 ? 0 : min(units, 2 * loop.placeCount + sums)
    gradients = DenseGradients(held.layout, configuration.model, reserve: reserve)
    held.expertGradients.reserve(reserve)
    postponed = PostponedSums(capacity: reserve * (1 + held.experts.held.count * held.expertGradients.parts.count))
    let gradients = gradients, reading = reading
    batches = models.enumerated().map { place, model in
      StepBatch(
        configuration, held, held.division.teams[loop.team(ofPlace: place)], source, reading, model, gradients)
    }
    rounds = Rounds(exchange, chunkCount: optimizer.chunkCount)
    auditor = Auditor(configuration, held.plan, loop, batches, rounds)
    search = NonFiniteSearch(plan: held.plan, loop: loop, batches: batches, rounds: rounds)
    balancer = Balancer(configuration.model, held)
    clock = StepClock(exchange)
    zeros = ParameterZeros(Optimizer.zeroCount)
    routing = Routing(held.sizes)
    loads = Array(repeating: 0, count: configuration.model.expertCount)
  }

  /// A trainer without peers.
  package convenience init(
    alone configuration: RunConfiguration, vocabulary: Int, source: any SequenceSource, threads: Int, teams: Int = 1
  ) throws {
    let layout = ParameterLayout(configuration, vocabulary: vocabulary)
    let held = HeldModel(
      configuration, vocabulary: vocabulary, plan: .alone(configuration, layout: layout), threads: threads,
      teams: min(teams, configuration.training.unitCount))
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
    byteCount + held.weights.packedByteCount
      + held.teamExperts.reduce(held.experts.sharedByteCount) { $0 + $1.byteCount } + gradients.byteCount
  }
  package var recomputes: Bool { models[0].recomputes }
  private var batch: StepBatch { batches[0] }
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

  /// Before teams compute, all threads pack the weights (`held.refresh`), which teams then only read.
  private func runStep(_ step: Int, _ wish: HaltWish) throws -> StepResult {
    clock.begin()
    var note = StepNote()
    note.halt = wish
    for batch in batches { try batch.sample(step) }
    held.refresh()
    let audit = try auditor.begin(step, &note)
    try rounds.begin(.training, step: step, unitCount: plan.unitCount)
    try computeUnits(step, audit, &note)

    try team.measure(.tree) { try exchange.publish(gradients.sums) }
    let reports = try team.measure(.waiting) { try exchange.reports() }
    let losses = Losses(sum(reports), configuration.model)
    addRouting(of: reports)
    let total = try self.total()
    let mine = team.measure(.optimizer) { optimizer.squares(total) }
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
    if skipped == nil { update(total, norm: norm, step: step, rate: rate) }
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
    gradients.begin(unitCount: plan.unitCount)
    try loop.run(plan.myUnits) { unit, place in
      let batch = batches[place.number], team = held.division.teams[place.team]
      let gradient = try batch.train(unit, as: unit)
      if step == flipsBitInStep, unit == plan.myUnits.lowerBound { gradient.flipABit(count: batch.denseCount) }
      if let opinion = audit.units.firstIndex(of: unit) {
        let hash = Audit.hash(batch.report, gradient: gradient.pointer, count: batch.denseCount)
        loop.alone { note.owned[opinion] = hash }
      }
      let end = loop.end(unit, at: place)
      team.measure(.tree) { gradients.insert(gradient, unit: unit, end) }
      try team.measure(.tree) { try exchange.finish(unit: unit, batch.report, end) }
    }
    team.measure(.tree) { formPostponedSums() }
  }

  /// Makes the additions that teams have left to all threads together, level by level of the tree.
  private func formPostponedSums() {
    held.expertGradients.computePostponed()
    while true {
      let dense = gradients.takePairs(postponed), experts = held.expertGradients.takePairs(postponed)
      guard dense || experts else { return }
      postponed.run(team)
      gradients.putBack()
      held.expertGradients.putBack()
    }
  }

  /// The gradients over the whole batch of what this worker updates.
  private func total() throws -> Optimizer.Gradients {
    let dense = try team.measure(.waiting) { try exchange.reduce(gradients.sums) }
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
    gradients.recycle()
    held.expertGradients.recycle()
  }

  /// Sends the new parameters to everyone and receives theirs; the balancer follows on every worker alike.
  private func share() throws {
    try team.measure(.waiting) { try exchange.share(parameters) }
    parameters.changed()
    balancer.apply(loads)
  }

  /// Agrees with the other workers how to exchange; every worker must call it before its first step.
  package func prepare() throws { try rounds.prepare() }
  /// Whether the workers exchange gradients and parameters in shared memory.
  package var sharesMemory: Bool { exchange.sharesMemory }

  /// Measures the connections between the workers; every worker must call it at the same place. Nil without peers.
  package func probe() throws -> LineSpeed? { try rounds.probe() }

  /// Losses and scores over `questions` questions of a split, evenly spaced, computed by all workers together. Nil
  /// where it has none.
  package func evaluate(_ validation: any SequenceSource, step: Int, questions: Int) throws -> LossSums? {
    let count = min(questions, validation.questionCount)
    guard count > 0 else { return nil }
    try rounds.begin(.evaluation, step: step, unitCount: count)
    held.refresh()
    let evaluators = models.map { _ in Evaluator(validation, held.sizes, reading) }
    try loop.run(evenShares(of: count, among: plan.workerCount)[plan.index]) { unit, place in
      var report = UnitReport(held.sizes)
      try evaluators[place.number].ask(
        unit * validation.questionCount / count, unit: unit, models[place.number], held.weights, &report)
      try exchange.finish(unit: unit, report, loop.end(unit, at: place))
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
