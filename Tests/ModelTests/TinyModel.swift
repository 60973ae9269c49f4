// A model small enough to check number by number, with every part in it.

import Configuration
import Kernels
import Model

final class TinyModel {
  let configuration: ModelConfiguration
  let vocabulary: Int
  let layout: ParameterLayout
  let parameters: ParameterBuffer
  let gradients: ParameterBuffer
  let team: Team
  let experts: LocalExperts
  let model: LanguageModel
  var bpttSegments: Int?

  static var base: ModelConfiguration {
    var model = ModelConfiguration()
    model.width = 16
    model.heads = 2
    model.steps = 3
    model.segment = 8
    model.memorySlots = 3
    model.cache = 6
    model.window = 3
    model.structureRank = 4
    model.graphDegree = 3
    model.keys = 5
    model.recencyTaps = 3
    model.experts = 4
    model.activeExperts = 2
    model.expertWidth = 12
    model.smoothWeight = 0.3
    model.balanceWeight = 0.2
    model.routerZWeight = 0.05
    return model
  }

  init(
    _ configuration: ModelConfiguration = TinyModel.base, vocabulary: Int = 13, maximumTokens: Int = 20,
    threads: Int = 1,
    recompute: Recompute = .never, seed: UInt64? = 7
  ) {
    BLAS.useOneThread()
    self.configuration = configuration
    self.vocabulary = vocabulary
    layout = ParameterLayout(configuration, vocabulary: vocabulary)
    let all = Array(0..<configuration.experts)
    parameters = ParameterBuffer(layout, experts: all)
    gradients = ParameterBuffer(layout, experts: all)
    team = Team(laneCount: threads)
    experts = LocalExperts(configuration, parameters: parameters, owned: all, team: team)
    model = LanguageModel(
      Sizes(configuration, vocabulary: vocabulary), maximumTokens: maximumTokens, recompute: recompute,
      memoryLimit: .max, team: team, exchange: experts)
    if let seed { randomize(seed: seed) }
  }

  /// Every tensor random, and large enough to matter.
  func randomize(seed: UInt64) {
    parameters.initialize(seed: seed)
    parameters.forEachTensor { entry, values in
      let noise = Philox(seed: seed &+ 1, stream: entry.stream)
      var spread = 0.0
      switch entry.initial {
      case .constant: spread = 0.2
      case .normal(let deviation): spread = deviation == 0.02 ? 0.3 : 0
      }
      for index in 0..<entry.count { values[index] += Real(spread * (noise.uniform(UInt64(index)) * 2 - 1)) }
    }
  }

  /// Random text of the tiny vocabulary.
  static func tokens(_ count: Int, vocabulary: Int = 13, seed: UInt64 = 3) -> [Int32] {
    let random = Philox(seed: seed, stream: 99)
    return (0..<count).map { Int32(random.uniform(UInt64($0)) * Double(vocabulary)) }
  }

  /// Loss of a batch of sequences (inputs and one more), and with `gradient` its gradient in `gradients`.
  @discardableResult
  func loss(_ batch: [[Int32]], gradient: Bool = false) throws -> (losses: Losses, loads: [Int]) {
    let w = Weights(parameters, configuration)
    let d = Weights(gradients, configuration)
    let count = batch.reduce(0) { $0 + $1.count - 1 }
    let scales = LossScales(configuration, targets: count, tokens: count)
    var sums = LossSums()
    var loads = Array(repeating: 0, count: configuration.experts)
    gradients.forEachTensor { entry, values in values.update(repeating: 0, count: entry.count) }
    for (index, sequence) in batch.enumerated() {
      let report = try sequence.withUnsafeBufferPointer { tokens in
        let inputs = UnsafeBufferPointer(rebasing: tokens[0..<tokens.count - 1])
        let targets = UnsafeBufferPointer(rebasing: tokens[1...])
        return gradient
          ? try model.train(
            tokens: inputs, targets: targets, unit: index, sequence: 0, w, scales: scales, bpttSegments: bpttSegments,
            gradient: d)
          : try model.evaluate(tokens: inputs, targets: targets, unit: index, sequence: 0, w)
      }
      sums = sums + report.losses
      for expert in loads.indices { loads[expert] += report.loads[expert] }
      for (expert, block) in experts.takeGradients(unit: index) {
        for place in 0..<layout.expertCount { gradients.experts[expert]![place] += block.pointer[place] }
        experts.recycle(block)
      }
    }
    return (Losses(sums, configuration), loads)
  }

  func logits(_ sequence: [Int32]) throws -> [Real] {
    var out = [Real](repeating: 0, count: sequence.count * vocabulary)
    try out.withUnsafeMutableBufferPointer { out in
      try sequence.withUnsafeBufferPointer { tokens in
        try model.logits(
          tokens: tokens, Weights(parameters, configuration),
          into: Matrix(out.baseAddress!, rows: sequence.count, columns: vocabulary))
      }
    }
    return out
  }

  /// All gradients by name.
  func gradientsByName() -> [(name: String, values: [Real])] {
    var all: [(String, [Real])] = []
    gradients.forEachTensor { entry, values in
      all.append((entry.name, Array(UnsafeBufferPointer(start: values, count: entry.count))))
    }
    return all
  }
}
