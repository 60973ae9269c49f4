// The sequences of one step, and the computation of its units: forward and backward of a unit's sequences, into a
// gradient of all dense parameters and a report. The gradients of experts stay with the experts.

import Configuration
import Data
import Kernels
import Model

final class StepBatch {
  private let held: HeldModel
  private let team: Team
  private let source: any SequenceSource
  /// Held while the source is read, which one thread may do at a time.
  private let reading: Lock
  private let order: SequenceOrder
  private let model: SequenceModel
  private let configuration: RunConfiguration
  private let gradients: DenseGradients
  private var buffer = SequenceBuffer()
  /// The sequences of the step, and the factors of its losses.
  private var sequences: [Int]
  private var scales: LossScales
  private(set) var tokenCount = 0
  /// The report of the unit that was computed last.
  private(set) var report: UnitReport

  var denseCount: Int { gradients.count }

  /// - Parameters:
  ///   - team: the threads of `model`.
  ///   - gradients: where gradients come from; batches whose gradients are added share one, and `reading`.
  init(
    _ configuration: RunConfiguration, _ held: HeldModel, _ team: Team, _ source: any SequenceSource, _ reading: Lock,
    _ model: SequenceModel, _ gradients: DenseGradients
  ) {
    self.configuration = configuration
    self.held = held
    self.team = team
    self.source = source
    self.reading = reading
    self.model = model
    self.gradients = gradients
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
    let gradient = gradients.take(team)
    let view = gradients.view(of: gradient)
    let perUnit = configuration.training.unitSequences
    report.clear()
    for sequence in 0..<perUnit {
      try team.measure(.read) {
        try reading.hold { try source.read(sequences[unit * perUnit + sequence], into: &buffer) }
      }
      try buffer.withInput { tokens, targets in
        try model.train(
          tokens, targets: targets, unit: number, sequence: sequence, weights: held.weights, scales: scales,
          bpttSegments: configuration.training.bpttSegments, gradient: view, report: &report)
      }
    }
    return gradient
  }

  func recycle(_ gradient: PooledBuffer) { gradients.recycle(gradient) }

  /// `unit 3 (training sequence 4711)`
  func spoken(_ unit: Int) -> String {
    let perUnit = configuration.training.unitSequences
    let own = sequences[unit * perUnit..<(unit + 1) * perUnit].map { String($0) }.joined(separator: ", ")
    return "unit \(unit) (training \(SpokenNumbers.noun(perUnit, "sequence")) \(own))"
  }
}
