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

import CKernels
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

/// One worker's part of a run's training.
package final class Trainer {
  package let configuration: RunConfiguration
  package let plan: WorkPlan
  package let parameters: ParameterBuffer
  package let optimizer: Optimizer
  package let team: Team
  package let experts: LocalExperts
  package let expertGradients: ExpertGradients
  private let sizes: Sizes
  private let source: any SequenceSource
  private let order: SequenceOrder
  private let expertExchange: any ExpertExchange
  private let gradientExchange: any GradientExchange
  private let model: SequenceModel
  private let weights: Weights
  private let pool = BufferPool()
  private let zeros: ParameterZeros
  private var buffer = SequenceBuffer()
  // Reused in every step, so that a steady step does not allocate.
  private var batch: [Int]
  private var tree = UnitTree<PooledBuffer>(unitCount: 1)
  private var lossTree = UnitTree<LossSums>(unitCount: 1)
  private var report: UnitReport
  private var loads: [Int]
  /// How the last step's tokens were routed, over all workers.
  package private(set) var routing: Routing
  /// Seconds that each worker computed in the last step. They differ between equal runs, so they are not part of
  /// the step's result.
  package private(set) var busy: [Double] = []
  /// Bytes that each worker sent its peers in the last step. The parameters that follow a step are counted in the
  /// next one.
  package private(set) var sent: [Double] = []
  private var gradientViews: [RealPointer: Weights] = [:]
  private var roundNumber = 0
  private var note = StepNote()
  /// Returns the seconds that this worker has waited for others since it began, to be subtracted from the step's
  /// time.
  package var waitedSeconds: () -> Double = { 0 }
  /// Returns the bytes that this worker has sent its peers for training since it began.
  package var sentBytes: () -> Int = { 0 }
  private var sentBefore = 0
  /// For drills: the step in which one bit of a unit's gradient is flipped.
  package var flipsBitInStep: Int?

  /// Makes a worker's exchanges, once its experts exist.
  package typealias Exchanges = (LocalExperts, ExpertGradients, Team) -> (any ExpertExchange, any GradientExchange)

  /// Parameters are initialised from the seed. To continue from a checkpoint, read it into `parameters` and
  /// `optimizer` afterwards.
  ///
  /// - Parameters:
  ///   - memoryLimit: bytes of activations above which segments are recomputed, with `recompute: auto`.
  ///   - isLoaded: skips the initialisation, for parameters that will be overwritten.
  ///   - exchanges: nil for a single worker.
  package init(
    _ configuration: RunConfiguration, vocabulary: Int, plan: WorkPlan, source: any SequenceSource, threads: Int,
    memoryLimit: Int, isLoaded: Bool = false, exchanges: Exchanges? = nil
  ) throws {
    self.configuration = configuration
    self.plan = plan
    self.source = source
    sizes = Sizes(configuration.model, vocabulary: vocabulary)
    guard source.sequenceCount > 0 else {
      throw TrainingError.tooFewSequences(available: 0, length: source.length, split: "train")
    }
    batch = Array(repeating: 0, count: configuration.training.batchSequences)
    report = UnitReport(sizes)
    routing = Routing(sizes)
    loads = Array(repeating: 0, count: configuration.model.expertCount)
    order = source.order(seed: configuration.training.seed)
    team = Team(laneCount: threads)
    let layout = ParameterLayout(configuration.model, vocabulary: vocabulary)
    parameters = ParameterBuffer(layout, experts: plan.myExperts)
    if !isLoaded { parameters.initialize(seed: configuration.training.seed) }
    weights = Weights(parameters, configuration.model)
    experts = LocalExperts(configuration.model, parameters: parameters, owned: plan.myExperts, team: team)
    expertGradients = ExpertGradients(experts, layout: layout)
    optimizer = Optimizer(configuration.optimizer, parameters: parameters, plan: plan, team: team)
    (expertExchange, gradientExchange) =
      exchanges?(experts, expertGradients, team) ?? (experts, LocalGradientExchange(expertGradients, sizes))
    model = SequenceModel(
      sizes, maximumTokens: source.length, recompute: configuration.training.recompute, memoryLimit: memoryLimit,
      team: team, exchange: expertExchange)
    zeros = ParameterZeros(Optimizer.zeroCount)
  }

  /// Bytes of parameters, moments and activations.
  package var byteCount: Int { parameters.byteCount + optimizer.byteCount + model.byteCount }
  package var recomputes: Bool { model.recomputes }

  /// Runs step `step` (from 0). `wish` is this worker's request to stop; all workers stop after the step if any of
  /// them has one.
  package func step(_ step: Int, wish: HaltWish = .none) throws -> StepResult {
    note.halt = wish
    return try team.measure(.step) { try applied(step) }
  }

  private func applied(_ step: Int) throws -> StepResult {
    let begun = ContinuousClock.now
    let waited = waitedSeconds()
    sample(step)
    let training = configuration.training
    let audit = Audit(
      share: configuration.cluster.audit, seed: training.seed, step: step, unitCount: plan.unitCount,
      workerCount: plan.workerCount)
    note.owned = Array(repeating: 0, count: audit.units.count)
    note.audited = note.owned
    if !audit.units.isEmpty { note.audited = try examine(audit.units, step: step, opinion: 1) }

    _ = try begin(step: step, .training, unitCount: plan.unitCount)
    expertGradients.begin(unitCount: plan.unitCount)
    let scales = try self.scales

    // Compute the units. Their gradients are added in the tree as far as this worker's units form complete
    // subtrees.
    tree.begin(unitCount: plan.unitCount)
    let denseCount = parameters.layout.denseCount
    for unit in plan.myUnits {
      let gradient = pool.take(denseCount)
      gradient.pointer.update(repeating: 0, count: denseCount)
      try trainUnit(unit, as: unit, scales, views(of: gradient.pointer))
      if step == flipsBitInStep, unit == plan.myUnits.lowerBound { gradient.flipABit(count: denseCount) }
      if let place = audit.units.firstIndex(of: unit) {
        note.owned[place] = Audit.hash(report, gradient: gradient.pointer, count: denseCount)
      }
      team.measure(.tree) {
        tree.insert(gradient, at: UnitNode(level: 0, index: unit)) { left, right in
          left.add(right, count: denseCount)
          pool.give(right)
          return left
        }
      }
      try team.measure(.tree) { try gradientExchange.finish(unit: unit, report) }
    }

    // Exchange: every unit's report, the total gradients of the parameters that this worker owns, and the global
    // norm.
    let reports = try team.measure(.waiting) { try gradientExchange.reports() }
    let losses = Losses(sum(reports), configuration.model)
    add(loadsOf: reports)
    let dense = try team.measure(.waiting) { try gradientExchange.reduce(tree.pending) }
    expertGradients.finish()
    let gradients = Optimizer.Gradients(dense: dense, experts: expertGradients.totals)
    let mine = team.measure(.optimizer) { optimizer.squares(gradients) }
    note.busy = begun.duration(to: .now).inSeconds - (waitedSeconds() - waited)
    note.sent = Double(sentBytes() - sentBefore)
    sentBefore = sentBytes()
    let squares = try team.measure(.waiting) { try gradientExchange.gather(mine, note) }
    try compare(audit, step: step)
    let norm = squares.reduce(0, +).squareRoot()
    let notes = gradientExchange.notes
    if busy.count != notes.count { busy = Array(repeating: 0, count: notes.count) }
    if sent.count != notes.count { sent = Array(repeating: 0, count: notes.count) }
    for worker in notes.indices { (busy[worker], sent[worker]) = (notes[worker].busy, notes[worker].sent) }
    // All workers have the same reports and norm, so all decide the same.
    let skipped = try notFinite(reports, norm: norm, step: step)

    // Apply AdamW and the balancer, and send the new parameters to everyone.
    let rate = configuration.optimizer.learningRate(step: step, of: configuration.training.steps)
    if skipped == nil {
      team.measure(.optimizer) {
        optimizer.update(
          gradients, scale: optimizer.clipScale(norm: norm), step: step, rate: rate, zeros: zeros.pointer)
      }
    }
    for (_, buffer) in tree.pending { if let buffer { pool.give(buffer) } }
    tree.begin(unitCount: plan.unitCount)
    expertGradients.recycle()
    if skipped == nil {
      try team.measure(.waiting) { try gradientExchange.share(parameters) }
      parameters.changed()
      balance(loads)
    }
    return StepResult(
      step: step, losses: losses, gradientNorm: norm, learningRate: rate, loads: loads,
      tokens: tokenCount, skipped: skipped, halt: notes.reduce(.none) { max($0, $1.halt) })
  }

  // MARK: audits

  /// Computes the units for which this worker is the auditor with number `opinion`. Returns their hashes, and 0 for
  /// the other units.
  private func examine(_ units: [Int], step: Int, opinion: Int) throws -> [UInt64] {
    _ = try begin(step: step, .audit, unitCount: units.count)
    var hashes = [UInt64](repeating: 0, count: units.count)
    let denseCount = parameters.layout.denseCount
    for (place, unit) in units.enumerated() {
      guard Audit.auditor(of: unit, opinion: opinion, in: plan) == plan.index else { continue }
      let gradient = pool.take(denseCount)
      gradient.pointer.update(repeating: 0, count: denseCount)
      try trainUnit(unit, as: place, try scales, views(of: gradient.pointer))
      hashes[place] = Audit.hash(report, gradient: gradient.pointer, count: denseCount)
      pool.give(gradient)
      try gradientExchange.finish(unit: place, report)
    }
    _ = try gradientExchange.reports()
    return hashes
  }

  /// Throws where two results of a unit differ, together with a third result where there is a third worker.
  private func compare(_ audit: Audit, step: Int) throws {
    let notes = gradientExchange.notes
    for (place, unit) in audit.units.enumerated() {
      var voters = (0...1).map { Audit.auditor(of: unit, opinion: $0, in: plan) }
      var hashes = [notes[voters[0]].owned[place], notes[voters[1]].audited[place]]
      guard hashes[0] != hashes[1] else { continue }
      if plan.workerCount > 2 {
        // All workers see the difference in the notes, so all come to this additional round.
        var third = StepNote()
        third.owned = [0]
        third.audited = try examine([unit], step: step, opinion: 2)
        _ = try gradientExchange.gather(Array(repeating: 0, count: optimizer.chunkCount), third)
        voters.append(Audit.auditor(of: unit, opinion: 2, in: plan))
        hashes.append(gradientExchange.notes[voters[2]].audited[0])
      }
      throw AuditFailure(step: step, unit: unit, voters: voters, hashes: hashes)
    }
  }

  /// Loss factors of the step whose sequences are in `batch`.
  private var scales: LossScales {
    get throws {
      LossScales(
        configuration.model, targets: try batch.reduce(0) { $0 + (try source.targetCount(of: $1)) }, tokens: tokenCount)
    }
  }

  private var tokenCount: Int { batch.reduce(0) { $0 + source.tokenCount(of: $1) } }

  /// Losses and scores over `questions` questions of a split, evenly spaced, computed by all workers together. Nil
  /// where it has none.
  package func evaluate(_ validation: any SequenceSource, step: Int, questions: Int) throws -> LossSums? {
    let count = min(questions, validation.questionCount)
    guard count > 0 else { return nil }
    _ = try begin(step: step, .evaluation, unitCount: count)
    let evaluator = Evaluator(validation, sizes)
    for unit in evenShares(of: count, among: plan.workerCount)[plan.index] {
      report.clear()
      try evaluator.ask(unit * validation.questionCount / count, unit: unit, model, weights, &report)
      try gradientExchange.finish(unit: unit, report)
    }
    return sum(try gradientExchange.reports())
  }

  /// Fills `batch` with the step's sequences, in the order of the run's permutation.
  private func sample(_ step: Int) {
    for place in batch.indices { batch[place] = order.sequence(at: step * batch.count + place) }
  }

  /// Sums the routing of all units, in their order.
  private func add(loadsOf reports: [UnitReport]) {
    routing.clear()
    for unit in reports.indices { routing.add(reports[unit].routing) }
    for expert in loads.indices { loads[expert] = 0 }
    routing.addLoads(to: &loads)
  }

  private func begin(step: Int, _ purpose: Round.Purpose, unitCount: Int) throws -> Round {
    roundNumber += 1
    let round = Round(number: roundNumber, step: step, purpose: purpose, unitCount: unitCount)
    try gradientExchange.begin(round)
    return round
  }

  /// Computes one unit: adds its gradients to `d`, and stores its losses and loads in `report`. `number` is the
  /// unit's number in the round, which differs from `unit` in an audit.
  private func trainUnit(_ unit: Int, as number: Int, _ scales: LossScales, _ d: Weights) throws {
    let perUnit = configuration.training.unitSequences
    report.clear()
    for sequence in 0..<perUnit {
      try team.measure(.read) {
        try source.read(batch[unit * perUnit + sequence], into: &buffer)
      }
      try buffer.withInput { tokens, targets in
        try model.train(
          tokens, targets: targets, unit: number, sequence: sequence, weights, scales: scales,
          bpttSegments: configuration.training.bpttSegments, gradient: d, report: &report)
      }
    }
  }

  /// The weight views of a gradient buffer. Buffers are reused, so after some steps the views exist already.
  private func views(of gradient: RealPointer) -> Weights {
    if let views = gradientViews[gradient] { return views }
    let views = Weights(parameters.layout, dense: gradient, configuration.model)
    gradientViews[gradient] = views
    return views
  }

  /// Adds losses in the units' tree, like the gradients.
  private func sum(_ reports: [UnitReport]) -> LossSums {
    lossTree.begin(unitCount: reports.count)
    for unit in reports.indices {
      lossTree.insert(reports[unit].losses, at: UnitNode(level: 0, index: unit)) { $0 + $1 }
    }
    return lossTree.total!
  }

  // MARK: steps that are not finite

  /// What in the step is not finite, and which unit caused it; nil where everything is finite.
  private func notFinite(_ reports: [UnitReport], norm: Double, step: Int) throws -> String? {
    for (unit, report) in reports.enumerated() {
      let losses = report.losses
      guard (losses.task + losses.smooth + losses.balance + losses.routerZ).isFinite else {
        return "the loss of \(spoken(unit)) is not a finite number"
      }
    }
    if norm.isFinite { return nil }
    guard let unit = try unitOfBadGradient(step) else { return "the gradient's norm is not a finite number" }
    return "the gradient of \(spoken(unit)) is not finite"
  }

  /// `unit 3 (training sequence 4711)`
  private func spoken(_ unit: Int) -> String {
    let perUnit = configuration.training.unitSequences
    let sequences = batch[unit * perUnit..<(unit + 1) * perUnit].map { String($0) }.joined(separator: ", ")
    return "unit \(unit) (training sequence\(perUnit == 1 ? "" : "s") \(sequences))"
  }

  /// Finds the unit whose gradient is not finite. The sums no longer show it, so every worker computes its units
  /// again; all workers come here together. Nil where only gradients of experts are not finite, or where a sum of
  /// finite gradients overflowed.
  private func unitOfBadGradient(_ step: Int) throws -> Int? {
    _ = try begin(step: step, .audit, unitCount: plan.unitCount)
    let denseCount = parameters.layout.denseCount
    var first = plan.unitCount
    for unit in plan.myUnits {
      let gradient = pool.take(denseCount)
      gradient.pointer.update(repeating: 0, count: denseCount)
      try trainUnit(unit, as: unit, try scales, views(of: gradient.pointer))
      if first == plan.unitCount, !(0..<denseCount).allSatisfy({ gradient.pointer[$0].isFinite }) { first = unit }
      pool.give(gradient)
      try gradientExchange.finish(unit: unit, report)
    }
    _ = try gradientExchange.reports()
    var note = StepNote()
    (note.owned, note.audited) = ([UInt64(first)], [0])
    _ = try gradientExchange.gather(Array(repeating: 0, count: optimizer.chunkCount), note)
    let found = gradientExchange.notes.map { Int($0.owned[0]) }.min()!
    return found < plan.unitCount ? found : nil
  }

  /// The balancer's bias of each expert, by block.
  package var routerBias: [[Real]] {
    weights.blocks.map { block in (0..<sizes.experts).map { block.routerBias[$0] } }
  }

  /// router_bias_j += u · sign(mean load − load_j), for the experts of each block. It moves tokens from overloaded
  /// experts to idle ones without a gradient (auxiliary-loss-free balancing, arXiv 2408.15664).
  private func balance(_ loads: [Int]) {
    let experts = sizes.experts
    let rate = Real(configuration.model.balancerRate)
    for (block, w) in weights.blocks.enumerated() {
      let total = loads[block * experts..<(block + 1) * experts].reduce(0, +)
      for expert in 0..<experts {
        // (mean − load) · E, in integers, so that there is no rounding.
        let difference = total - loads[block * experts + expert] * experts
        if difference != 0 { w.routerBias[expert] += difference > 0 ? rate : -rate }
      }
    }
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

extension Duration {
  fileprivate var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
