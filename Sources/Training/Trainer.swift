// The training step, as one worker runs it:
//   batch → units → embedding → K × step → loss → backward → tree → finite check → AdamW → shared parameters
// The worker holds all dense parameters, the experts it was given, and the moments of the tensors it owns.

import CKernels
import Configuration
import Data
import Kernels
import Model

/// What a step did, the same on every worker.
package struct StepResult: Equatable, Sendable {
  package var step: Int
  package var losses: Losses
  package var gradientNorm: Double
  package var learningRate: Double
  /// Tokens each expert got in the step, over all workers and recurrence steps.
  package var loads: [Int]
  package var tokens: Int
  /// Why the step was not applied; nil where it was.
  package var skipped: String?
  /// What all workers agreed on: to stop behind this step, or to go on.
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
  // What a step fills again and again, so that a steady one takes nothing from the allocator.
  private var batch: [Int]
  private var tree = UnitTree<PooledBuffer>(unitCount: 1)
  private var lossTree = UnitTree<LossSums>(unitCount: 1)
  private var report: UnitReport
  private var loads: [Int]
  /// How the last step's tokens were routed, over all workers.
  package private(set) var routing: Routing
  /// Seconds that each worker computed in the last step; no two runs share them, so they are no part of its result.
  package private(set) var busy: [Double] = []
  /// Bytes that each worker sent its peers for the last step; the sharing of the parameters counts with the step behind it.
  package private(set) var sent: [Double] = []
  private var gradientViews: [RealPointer: Weights] = [:]
  private var roundNumber = 0
  private var note = StepNote()
  /// Seconds this worker has spent waiting for others since it began; what a step's computing is told from.
  package var waitedSeconds: () -> Double = { 0 }
  /// Bytes this worker has sent its peers for training since it began.
  package var sentBytes: () -> Int = { 0 }
  private var sentBefore = 0
  /// For drills: the step in which a bit of a unit's gradient is flipped here.
  package var flipsBitInStep: Int?

  /// How a worker's exchanges are made, once its experts exist.
  package typealias Exchanges = (LocalExperts, ExpertGradients, Team) -> (any ExpertExchange, any GradientExchange)

  /// Parameters are initialised from the seed; load a checkpoint into `parameters` and `optimizer` to go on from one.
  ///
  /// `isLoaded` spares the initialising of parameters that are about to be overwritten.
  package init(
    _ configuration: RunConfiguration, vocabulary: Int, plan: WorkPlan, source: any SequenceSource, threads: Int,
    memoryLimit: Int, isLoaded: Bool = false, exchanges: Exchanges? = nil
  ) throws {
    BLAS.useOneThread()
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

  /// Step `step` (from 0) of the run. `wish` is this worker's; all workers stop behind the step if one of them wishes it.
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

    // Units → gradients, summed in the tree as far as this worker's units go.
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

    // Every unit's report, the gradients this worker owns, and the global norm.
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
    // The same on every worker: all have the same reports and the same norm.
    let skipped = try notFinite(reports, norm: norm, step: step)

    // AdamW, the balancer, and the new parameters to everyone.
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

  /// Computes those of the units that this worker gives the `opinion`-th opinion on. Returns the hashes, 0 for the others'.
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

  /// Throws where the two results of a unit differ, with a third one if there is a third worker.
  private func compare(_ audit: Audit, step: Int) throws {
    let notes = gradientExchange.notes
    for (place, unit) in audit.units.enumerated() {
      var voters = (0...1).map { Audit.auditor(of: unit, opinion: $0, in: plan) }
      var hashes = [notes[voters[0]].owned[place], notes[voters[1]].audited[place]]
      guard hashes[0] != hashes[1] else { continue }
      if plan.workerCount > 2 {
        // All have heard of the difference and come to this round together.
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

  /// Of the step whose sequences are in `batch`.
  private var scales: LossScales {
    get throws {
      LossScales(
        configuration.model, targets: try batch.reduce(0) { $0 + (try source.targetCount(of: $1)) }, tokens: tokenCount)
    }
  }

  private var tokenCount: Int { batch.reduce(0) { $0 + source.tokenCount(of: $1) } }

  /// Losses and scores over `questions` of a split, evenly spaced, computed by all workers together.
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

  /// The sequences of a step, in the order of the run's permutation.
  private func sample(_ step: Int) {
    for place in batch.indices { batch[place] = order.sequence(at: step * batch.count + place) }
  }

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

  /// Adds a unit's gradients to `d`, and leaves its losses and loads in `report`. `number` is what the round calls it.
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

  /// The gradient buffers go round, so a step of a long run finds its views made.
  private func views(of gradient: RealPointer) -> Weights {
    if let views = gradientViews[gradient] { return views }
    let views = Weights(parameters.layout, dense: gradient, configuration.model)
    gradientViews[gradient] = views
    return views
  }

  /// In the tree, like the gradients.
  private func sum(_ reports: [UnitReport]) -> LossSums {
    lossTree.begin(unitCount: reports.count)
    for unit in reports.indices {
      lossTree.insert(reports[unit].losses, at: UnitNode(level: 0, index: unit)) { $0 + $1 }
    }
    return lossTree.total!
  }

  // MARK: steps that are no numbers

  /// What is not a finite number, and where it came from; nil where all is.
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

  /// Sums forget whose number it was, so every worker computes its units again. All come here together. Nil where only the gradients
  /// of experts are not finite, or of one that a sum made so.
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

  /// router_bias_j += u · sign(mean load − load_j): pushes tokens from full experts to idle ones without a gradient.
  /// arXiv 2408.15664.
  /// An expert is compared with the others of its block.
  private func balance(_ loads: [Int]) {
    let experts = sizes.experts
    let rate = Real(configuration.model.balancerRate)
    for (block, w) in weights.blocks.enumerated() {
      let total = loads[block * experts..<(block + 1) * experts].reduce(0, +)
      for expert in 0..<experts {
        // mean − load, times E, in whole numbers.
        let difference = total - loads[block * experts + expert] * experts
        if difference != 0 { w.routerBias[expert] += difference > 0 ? rate : -rate }
      }
    }
  }
}

/// A block of zeros for gradients that nothing reached.
private final class ParameterZeros {
  let pointer: RealPointer
  init(_ count: Int) {
    pointer = .allocate(capacity: count)
    pointer.initialize(repeating: 0, count: count)
  }
  deinit { pointer.deallocate() }
}

extension PooledBuffer {
  /// What a faulty processor does now and then: one bit of the largest of `count` numbers, which no rounding hides.
  fileprivate func flipABit(count: Int) {
    let place = (0..<count).max { abs(pointer[$0]) < abs(pointer[$1]) } ?? 0
    pointer[place] = Real(bitPattern: pointer[place].bitPattern ^ 1 << (Real.significandBitCount - 2))
  }
}

extension Duration {
  fileprivate var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
