// The gradient of the total loss compared with central differences, parameter by parameter. The double build
// (RESS_DOUBLE=1) agrees to seven digits; in single precision the differences would be lost in rounding errors.

#if RESS_DOUBLE
  import Configuration
  import Kernels
  import Model
  import Testing

  @Suite struct FiniteDifferenceTests {
    /// The gradient stops at the cache by contract, so a difference of losses includes the path through the cache
    /// and the gradient does not. Cases with one segment check everything inside it. Cases without cache and
    /// recency check the memory's path across segments. What the cache itself contributes is compared with
    /// PyTorch's values (GoldenTests).
    typealias Change = @Sendable (inout ModelConfiguration) -> Void

    /// The cases with one segment.
    static let short: [(String, Change)] = [
      ("one segment", { _ in }),
      ("one segment, one step", { $0.steps = 1 }),
      ("one segment without recency", { $0.recencyTaps = 1 }),
      ("softmax", { $0.activation = .softmax }),
      ("1.5-entmax", { $0.activation = .entmax15 }),
      ("a shared expert", { $0.sharedExpert = true }),
      (
        "one expert",
        {
          $0.experts = 1; $0.activeExperts = 1
        }
      ),
      ("all experts active", { $0.activeExperts = 4 }),
      ("no neighbours by score", { $0.graphDegree = 0 }),
      (
        "every visible token a neighbour and every key kept",
        {
          $0.keys = nil; $0.graphDegree = nil
        }
      ),
      ("no memory", { $0.memorySlots = 0 }),
      ("no structure bias", { $0.structureBias = false }),
      ("a dense network for the experts", { $0.feedForward = .dense }),
      ("separate blocks", { $0.separateBlocks = true }),
      ("three steps of two blocks in turn", { ($0.separateBlocks, $0.steps, $0.blocks) = (true, 3, 2) }),
      (
        "four steps whose middle ones share a block",
        { ($0.separateBlocks, $0.steps, $0.blocks, $0.blockOrder) = (true, 4, 3, .middle) }
      ),
      ("separate blocks with one pool of experts", { ($0.separateBlocks, $0.poolExperts) = (true, true) }),
      (
        "tags",
        {
          $0.head = .tag; $0.classes = 3
        }
      ),
      (
        "tags from separate blocks",
        {
          $0.head = .tag; $0.separateBlocks = true
        }
      ),
      (
        "tags with softmax",
        {
          $0.head = .tag; $0.activation = .softmax
        }
      ),
      (
        "a class",
        {
          $0.head = .classify; $0.classes = 4
        }
      ),
      (
        "a class without memory",
        {
          $0.head = .classify; $0.memorySlots = 0
        }
      ),
      ("a span", { $0.head = .span }),
      (
        "a class of a set",
        {
          $0.head = .classify; $0.ordered = false
        }
      ),
      (
        "a class of the tokens of several segments",
        {
          ($0.head, $0.classPool) = (.classify, .tokens)
        }
      ),
      (
        "a class of the memory and the tokens",
        {
          ($0.head, $0.classPool) = (.classify, .both)
        }
      ),
      ("the baseline, rotary", { $0.architecture = .transformer }),
      (
        "the baseline, learned positions",
        {
          $0.architecture = .transformer; $0.positions = .learned
        }
      ),
      (
        "the baseline, a class",
        {
          $0.architecture = .transformer; $0.head = .classify
        }
      ),
      (
        "the baseline, tags",
        {
          $0.architecture = .transformer; $0.head = .tag; $0.positions = .none
        }
      ),
      ("the default model", { $0 = TinyModel.standard }),
      (
        "the default model of tags",
        {
          $0 = TinyModel.standard; $0.head = .tag; $0.classes = 3
        }
      ),
      (
        "the default model of a class of a set",
        {
          $0 = TinyModel.standard; $0.head = .classify; $0.ordered = false
        }
      ),
      (
        "the default model with separate blocks",
        {
          $0 = TinyModel.standard; $0.separateBlocks = true
        }
      ),
      (
        "the default model of tags with separate blocks and one pool of experts",
        {
          $0 = TinyModel.standard; $0.separateBlocks = true; $0.poolExperts = true; $0.head = .tag; $0.classes = 3
        }
      ),
      ("taps before the experts", { $0.expertTaps = 4 }),
      (
        "taps on both sides of a token",
        {
          $0.head = .tag; $0.expertTaps = 2; $0.twoSidedTaps = true
        }
      ),
      ("sigmoid gates", { $0.gates = .sigmoid }),
      ("forget gates", { $0.forgetGates = true }),
      (
        "forget gates with sparsemax and every key kept",
        {
          $0.forgetGates = true; $0.keys = nil; $0.graphDegree = nil
        }
      ),
      (
        "forget gates of a model that looks both ways",
        {
          $0.forgetGates = true; $0.head = .tag; $0.activation = .softmax
        }
      ),
      ("learned score scales", { $0.scoreScale = .learned }),
      (
        "a shared expert of each step's own",
        {
          $0.sharedExpert = true; $0.sharedEachStep = true; $0.sharedWidth = 10
        }
      ),
      (
        "a transformer with all that the default model has",
        {
          $0 = TinyModel.standard; $0.architecture = .transformer
        }
      ),
      (
        "a transformer of tags with all that the default model has",
        {
          $0 = TinyModel.standard; $0.architecture = .transformer; $0.head = .tag
        }
      ),
      (
        "a transformer with learned positions and a norm of its embedding",
        {
          $0.architecture = .transformer; $0.positions = .learned
        }
      ),
      (
        "a plain transformer",
        {
          $0.architecture = .transformer; $0.recencyTaps = 1; $0.embeddingNorm = false
        }
      ),
      ("no norm of the embedding", { $0.embeddingNorm = false }),
      ("relations", { $0.relationKinds = 2 }),
      ("relations without a weight of the graph", { ($0.relationKinds, $0.structureBias) = (2, false) }),
      ("relations where every token is a neighbour", { ($0.relationKinds, $0.graphDegree) = (1, nil) }),
      (
        "the default model of tags with relations",
        {
          $0 = TinyModel.standard; $0.head = .tag; $0.classes = 3; $0.relationKinds = 3
        }
      ),
      (
        "the default model of tags of a set with relations",
        {
          $0 = TinyModel.standard; $0.head = .tag; $0.ordered = false; $0.relationKinds = 2
        }
      ),
      (
        "the default model with separate blocks and relations",
        {
          $0 = TinyModel.standard; $0.separateBlocks = true; $0.relationKinds = 2
        }
      ),
    ]

    /// The cases whose segments are linked only by the memory.
    static let long: [(String, Change)] = [
      (
        "memory over three segments",
        {
          $0.cache = 0; $0.recencyTaps = 1
        }
      ),
      (
        "memory over ten segments",
        {
          $0.segment = 2; $0.cache = 0; $0.recencyTaps = 1
        }
      ),
      (
        "a class over three segments",
        {
          $0.head = .classify; $0.cache = 0; $0.recencyTaps = 1
        }
      ),
      (
        "a class of a set over three segments",
        {
          $0.head = .classify; $0.ordered = false
        }
      ),
      (
        "a class without memory over three segments",
        {
          $0.head = .classify; $0.memorySlots = 0; $0.cache = 0; $0.recencyTaps = 1
        }
      ),
      (
        "tags over three segments",
        {
          $0.head = .tag; $0.cache = 0; $0.recencyTaps = 1
        }
      ),
      (
        "a span over three segments",
        {
          $0.head = .span; $0.cache = 0; $0.recencyTaps = 1
        }
      ),
      (
        "the default model without cache and taps over three segments",
        {
          $0 = TinyModel.standard; $0.cache = 0; $0.recencyTaps = 1; $0.expertTaps = 1
        }
      ),
      (
        "separate blocks over three segments",
        {
          $0.separateBlocks = true; $0.cache = 0; $0.recencyTaps = 1
        }
      ),
      (
        "relations over three segments",
        {
          $0.head = .tag; $0.cache = 0; $0.recencyTaps = 1; $0.relationKinds = 2
        }
      ),
      (
        "separate blocks with one pool of experts over three segments",
        {
          $0.separateBlocks = true; $0.poolExperts = true; $0.cache = 0; $0.recencyTaps = 1
        }
      ),
    ]

    static let cases =
      short.map { name, change in
        (
          name,
          { (model: inout ModelConfiguration) in
            change(&model)
            model.segment = 24
          } as Change
        )
      } + long

    @Test(arguments: cases.indices)
    func `the loss changes as its gradient predicts`(index: Int) throws {
      var configuration = TinyModel.base
      Self.cases[index].1(&configuration)
      try check(configuration, Self.cases[index].0)
    }

    @Test(arguments: Architecture.allCases)
    func `the loss changes as its gradient predicts where tokens have several features`(architecture: Architecture)
      throws
    {
      var configuration = TinyModel.base
      configuration.segment = 24
      configuration.architecture = architecture
      configuration.head = .tag
      configuration.ordered = false
      try check(configuration, "bags") { example, vocabulary in example.bagged(vocabulary: vocabulary, seed: 6) }
    }

    private func check(
      _ configuration: ModelConfiguration, _ name: String,
      _ change: (TinyModel.Example, Int) -> TinyModel.Example = { example, _ in example }
    ) throws {
      let tiny = TinyModel(configuration, vocabulary: configuration.attentionTaps > 1 ? 13 : 23)
      var batch = [tiny.example(20, seed: 3), tiny.example(13, seed: 4)].map { change($0, tiny.vocabulary) }
      if configuration.relations > 0 {
        batch = batch.map {
          $0.related(TinyModel.relations(tokens: $0.tokenCount, kinds: configuration.relations, seed: 5))
        }
      }
      try tiny.loss(batch, gradient: true)
      let gradients = tiny.gradientsByName()
      var place = 0
      try tiny.parameters.forEachTensor { entry, values in
        defer { place += 1 }
        guard entry.isTrained, entry.count > 0 else { return }
        let gradient = gradients[place].values
        // Five entries of each tensor, including the one with the largest gradient.
        let largest = gradient.indices.max { abs(gradient[$0]) < abs(gradient[$1]) }!
        let random = Philox(seed: 11, stream: entry.stream)
        let entries = [largest] + (0..<4).map { Int(random.uniform(UInt64($0)) * Double(entry.count)) }
        for at in entries {
          let kept = values[at]
          let step = 1e-6
          values[at] = kept + step
          let above = try tiny.loss(batch).losses.total
          values[at] = kept - step
          let below = try tiny.loss(batch).losses.total
          values[at] = kept
          let slope = (above - below) / (2 * step)
          #expect(
            abs(slope - gradient[at]) <= 1e-7 + 1e-5 * abs(slope),
            "\(name): \(entry.name)[\(at)]: slope \(slope), gradient \(gradient[at])")
        }
      }
    }
  }
#endif
