// A model that is small enough to check every value, with all parts in it.

import Configuration
import Kernels
import Model

final class TinyModel {
  let configuration: ModelConfiguration
  let vocabulary: Int
  let sizes: Sizes
  let layout: ParameterLayout
  let parameters: ParameterBuffer
  let gradients: ParameterBuffer
  let team: Team
  let experts: LocalExperts
  let model: SequenceModel
  var bpttSegments: Int?
  /// The gradient of the last loss.
  private(set) var lastRouting: Routing

  /// A tiny model in the form that was first specified. A case adds the parts that it tests.
  static var base: ModelConfiguration {
    var model = ModelConfiguration.firstForm
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

  /// A tiny model with the default switches of a run.
  static var standard: ModelConfiguration {
    var model = base
    let standard = ModelConfiguration()
    model.activation = standard.activation
    model.forgetGates = standard.forgetGates
    model.scoreScale = standard.scoreScale
    model.expertTaps = 3
    model.twoSidedTaps = standard.twoSidedTaps
    model.gates = standard.gates
    model.sharedExpert = standard.sharedExpert
    model.sharedWidth = 20
    model.sharedEachStep = standard.sharedEachStep
    model.classPool = standard.classPool
    return model
  }

  init(
    _ configuration: ModelConfiguration = TinyModel.standard, vocabulary: Int = 13, maximumTokens: Int = 20,
    threads: Int = 1,
    recompute: Recompute = .never, steps: Int? = nil, seed: UInt64? = 7
  ) {
    self.configuration = configuration
    self.vocabulary = vocabulary
    layout = ParameterLayout(configuration, vocabulary: vocabulary)
    let all = Array(0..<configuration.expertCount)
    sizes = Sizes(configuration, vocabulary: vocabulary, steps: steps)
    parameters = ParameterBuffer(layout, experts: all)
    gradients = ParameterBuffer(layout, experts: all)
    team = Team(laneCount: threads)
    experts = LocalExperts(configuration, parameters: parameters, held: all, team: team)
    model = SequenceModel(
      sizes, maximumTokens: maximumTokens, recompute: recompute,
      memoryLimit: .max, team: team, exchange: experts)
    lastRouting = Routing(sizes)
    if let seed { randomize(seed: seed) }
  }

  /// Makes every tensor random, with values large enough to have an effect.
  func randomize(seed: UInt64) {
    parameters.initialize(seed: seed)
    parameters.forEachTensor { entry, values in
      let noise = Philox(seed: seed &+ 1, stream: entry.stream)
      var spread = 0.0
      switch entry.initial {
      case .constant, .values: spread = 0.2
      case .normal(let deviation): spread = deviation == 0.02 ? 0.3 : 0
      }
      for index in 0..<entry.count { values[index] += Real(spread * (noise.uniform(UInt64(index)) * 2 - 1)) }
    }
  }

  /// Random text over the tiny vocabulary.
  static func tokens(_ count: Int, vocabulary: Int = 13, seed: UInt64 = 3) -> [Int32] {
    let random = Philox(seed: seed, stream: 99)
    return (0..<count).map { Int32(random.uniform(UInt64($0)) * Double(vocabulary)) }
  }

  /// The loss of a batch of texts (inputs and one more token). With `gradient`, its gradient is in `gradients`.
  @discardableResult
  func loss(_ batch: [[Int32]], gradient: Bool = false) throws -> (losses: Losses, loads: [Int]) {
    try loss(batch.map { Example(tokens: Array($0.dropLast()), targets: Array($0.dropFirst())) }, gradient: gradient)
  }

  struct Relation: Hashable, Comparable {
    var token, other, kind: Int
    static func < (a: Relation, b: Relation) -> Bool { (a.token, a.other, a.kind) < (b.token, b.other, b.kind) }
  }

  /// Random relations: each token is related to about two others, in one direction, and a token in the middle to every
  /// other one, which are more than the graph has places.
  static func relations(tokens: Int, kinds: Int, seed: UInt64) -> Set<Relation> {
    let random = Philox(seed: seed, stream: 96)
    var relations: Set<Relation> = []
    for token in 0..<tokens {
      for draw in 0..<2 {
        let place = UInt64(4 * token + 2 * draw)
        let other = Int(random.uniform(place) * Double(tokens)), kind = Int(random.uniform(place + 1) * Double(kinds))
        if other != token { relations.insert(Relation(token: token, other: other, kind: kind)) }
      }
    }
    for other in 0..<tokens where other != tokens / 2 {
      relations.insert(Relation(token: tokens / 2, other: other, kind: 0))
    }
    return relations
  }

  struct Example {
    var tokens: [Int32]
    var targets: [Int32]
    /// Index of the first feature of each token, and the end of the last one's; empty where every token has one
    /// feature.
    var bags: [Int32] = []
    var relations = RelationTable()

    var tokenCount: Int { bags.isEmpty ? tokens.count : bags.count - 1 }

    func withInput<Result>(_ body: (TokenInput) throws -> Result) rethrows -> Result {
      try tokens.withUnsafeBufferPointer { tokens in
        try bags.withUnsafeBufferPointer { bags in
          try relations.withView { try body(TokenInput(tokens, bags: bags, relations: $0)) }
        }
      }
    }

    /// The same tokens with relations.
    func related(_ relations: Set<TinyModel.Relation>) -> Example {
      var example = self
      example.relations.set(
        relations.sorted().flatMap { [Int32($0.token), Int32($0.other), Int32($0.kind)] }, tokens: tokenCount)
      return example
    }

    /// The same tokens, each with up to two more features.
    func bagged(vocabulary: Int, seed: UInt64) -> Example {
      let random = Philox(seed: seed, stream: 97)
      var example = Example(tokens: [], targets: targets, bags: [0])
      for (place, token) in tokens.enumerated() {
        example.tokens.append(token)
        for more in 0..<place % 3 {
          example.tokens.append(Int32(random.uniform(UInt64(3 * place + more)) * Double(vocabulary)))
        }
        example.bags.append(Int32(example.tokens.count))
      }
      return example
    }
  }

  /// A random sequence with random targets for the model's head.
  func example(_ count: Int, seed: UInt64) -> Example {
    var tokens = TinyModel.tokens(count, vocabulary: vocabulary, seed: seed)
    if configuration.attentionTaps == 1, count <= vocabulary {
      // Without recency, equal tokens are equal in every respect and tie in every choice, so all tokens are
      // different here.
      let random = Philox(seed: seed, stream: 98)
      let drawn = (0..<vocabulary).map { (key: random.uniform(UInt64($0)), token: Int32($0)) }
      tokens = drawn.sorted { $0.key < $1.key }.prefix(count).map(\.token)
    }
    let choices = configuration.head == .span ? count : configuration.head == .lm ? vocabulary : configuration.classes
    var targets = TinyModel.tokens(sizes.targetRows(count), vocabulary: choices, seed: seed + 50)
    // Some tokens have no label.
    if configuration.head == .tag { for index in stride(from: 1, to: count, by: 4) { targets[index] = -1 } }
    return Example(tokens: tokens, targets: targets)
  }

  @discardableResult
  func loss(_ batch: [Example], gradient: Bool = false) throws -> (losses: Losses, loads: [Int]) {
    // Tests change parameters directly.
    parameters.changed()
    let w = Weights(parameters, configuration)
    let d = Weights(gradients.layout, dense: gradients.dense, model: configuration)
    let scales = LossScales(
      configuration, targets: batch.reduce(0) { $0 + $1.targets.count { $0 >= 0 } },
      tokens: batch.reduce(0) { $0 + $1.tokenCount })
    var report = SequenceReport(sizes)
    gradients.forEachTensor { entry, values in values.update(repeating: 0, count: entry.count) }
    for (index, example) in batch.enumerated() {
      try example.withInput { tokens in
        try example.targets.withUnsafeBufferPointer { targets in
          if gradient {
            try model.train(
              tokens, targets: targets, unit: index, sequence: 0, weights: w, scales: scales,
              bpttSegments: bpttSegments, gradient: d, report: &report)
          } else {
            try model.evaluate(tokens, targets: targets, unit: index, sequence: 0, weights: w, report: &report)
          }
        }
      }
      for expert in experts.held {
        guard let block = experts.takeGradient(unit: index, expert: expert) else { continue }
        for place in 0..<layout.expertCount { gradients.experts[expert]![place] += block.pointer[place] }
        experts.recycle(block)
      }
    }
    var loads = Array(repeating: 0, count: configuration.expertCount)
    report.routing.addLoads(to: &loads)
    lastRouting = report.routing
    return (Losses(report.losses, configuration, steps: sizes.steps), loads)
  }

  func logits(_ sequence: [Int32]) throws -> [Real] { try logits(Example(tokens: sequence, targets: [])) }

  func logits(_ example: Example) throws -> [Real] {
    parameters.changed()
    let count = example.tokenCount
    let (rows, columns) = (sizes.logitRows(count), sizes.logitColumns)
    var out = [Real](repeating: 0, count: rows * columns)
    try out.withUnsafeMutableBufferPointer { out in
      try example.withInput { tokens in
        try model.logits(
          tokens, weights: Weights(parameters, configuration),
          into: Matrix(out.baseAddress!, rows: rows, columns: columns))
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
