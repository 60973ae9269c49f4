// The sequences of one step, and the computation of its units: forward and backward of a unit's sequences, into a
// gradient of all dense parameters and a report. The gradients of experts stay with the experts.

import Configuration
import Data
import Kernels
import Model

final class StepBatch {
  private let held: HeldModel
  private let source: any SequenceSource
  private let order: SequenceOrder
  private let model: SequenceModel
  private let configuration: RunConfiguration
  private let pool: BufferPool
  private var buffer = SequenceBuffer()
  /// The sequences of the step, and the factors of its losses.
  private var sequences: [Int]
  private var scales: LossScales
  private(set) var tokenCount = 0
  /// The report of the unit that was computed last.
  private(set) var report: UnitReport
  private var views: [RealPointer: Weights] = [:]

  var denseCount: Int { held.layout.denseCount }

  /// - Parameter pool: where gradients come from; batches whose gradients are added share one.
  init(
    _ configuration: RunConfiguration, _ held: HeldModel, _ source: any SequenceSource, _ model: SequenceModel,
    _ pool: BufferPool
  ) {
    self.configuration = configuration
    self.held = held
    self.source = source
    self.model = model
    self.pool = pool
    order = source.order(seed: configuration.training.seed)
    sequences = Array(repeating: 0, count: configuration.training.batchSequences)
    scales = LossScales(configuration.model, targets: 0, tokens: 0)
    report = UnitReport(held.sizes)
  }

  /// Chooses the step's sequences, in the order of the run's permutation.
  func sample(_ step: Int) throws {
    for place in sequences.indices { sequences[place] = order.sequence(at: step * sequences.count + place) }
    tokenCount = sequences.reduce(0) { $0 + source.tokenCount(of: $1) }
    let targets = try sequences.reduce(0) { $0 + (try source.targetCount(of: $1)) }
    scales = LossScales(configuration.model, targets: targets, tokens: tokenCount)
  }

  /// Computes a unit. Returns its gradient, which the caller gives back with `recycle`, and leaves its losses and
  /// loads in `report`.
  /// - Parameter number: the unit's number in the round, which differs from `unit` in an audit.
  func train(_ unit: Int, as number: Int) throws -> PooledBuffer {
    let gradient = pool.take(denseCount)
    gradient.pointer.update(repeating: 0, count: denseCount)
    let perUnit = configuration.training.unitSequences
    report.clear()
    for sequence in 0..<perUnit {
      try held.team.measure(.read) { try source.read(sequences[unit * perUnit + sequence], into: &buffer) }
      try buffer.withInput { tokens, targets in
        try model.train(
          tokens, targets: targets, unit: number, sequence: sequence, held.weights, scales: scales,
          bpttSegments: configuration.training.bpttSegments, gradient: views(of: gradient.pointer), report: &report)
      }
    }
    return gradient
  }

  func recycle(_ gradient: PooledBuffer) { pool.give(gradient) }

  /// left += right, whose memory is used again.
  func add(_ left: PooledBuffer, _ right: PooledBuffer) -> PooledBuffer {
    left.add(right, count: denseCount)
    pool.give(right)
    return left
  }

  /// `unit 3 (training sequence 4711)`
  func spoken(_ unit: Int) -> String {
    let perUnit = configuration.training.unitSequences
    let own = sequences[unit * perUnit..<(unit + 1) * perUnit].map { String($0) }.joined(separator: ", ")
    return "unit \(unit) (training sequence\(perUnit == 1 ? "" : "s") \(own))"
  }

  /// The weight views of a gradient buffer. Buffers are reused, so after some steps the views exist already.
  private func views(of gradient: RealPointer) -> Weights {
    if let known = views[gradient] { return known }
    let new = Weights(held.layout, dense: gradient, configuration.model)
    views[gradient] = new
    return new
  }
}
