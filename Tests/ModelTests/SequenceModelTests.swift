// Properties of the whole model that must hold to the bit.

import Configuration
import Kernels
import Model
import Testing

@Suite struct SequenceModelTests {
  @Test(arguments: [0, 5, 7, 8, 9, 15, 16, 19])
  func `a changed token leaves every earlier logit bit-identical, across segment borders too`(changed: Int) throws {
    let tiny = TinyModel()
    var tokens = TinyModel.tokens(20)
    let before = try tiny.logits(tokens)
    tokens[changed] = (tokens[changed] + 1) % 13
    let after = try tiny.logits(tokens)
    let border = changed * tiny.vocabulary
    #expect(before[..<border] == after[..<border])
    #expect(before[border...] != after[border...])
  }

  @Test func `a token beyond the cache still has an effect through the memory`() throws {
    var configuration = TinyModel.standard
    configuration.cache = 0
    configuration.recencyTaps = 1
    configuration.expertTaps = 1
    let tokens = TinyModel.tokens(20)
    var changed = tokens
    changed[0] = (changed[0] + 1) % 13
    let last = 19 * 13..<20 * 13
    let tiny = TinyModel(configuration)
    #expect(try tiny.logits(tokens)[last] != tiny.logits(changed)[last])
    configuration.memorySlots = 0
    let forgetful = TinyModel(configuration)
    #expect(try forgetful.logits(tokens)[last] == forgetful.logits(changed)[last])
  }

  /// Losses, loads and every gradient, as bits.
  private func fingerprint(_ tiny: TinyModel) throws -> [[Real]] {
    let (losses, loads) = try tiny.loss([TinyModel.tokens(21), TinyModel.tokens(18, seed: 5)], gradient: true)
    return [[Real(losses.total), Real(losses.smooth), Real(losses.balance)], loads.map { Real($0) }]
      + tiny.gradientsByName().map(\.values)
  }

  @Test func `recomputing a segment gives the same bits as keeping it`() throws {
    let kept = TinyModel(recompute: .never)
    let again = TinyModel(recompute: .always)
    #expect(!kept.model.recomputes && again.model.recomputes)
    #expect(try fingerprint(kept) == fingerprint(again))
  }

  @Test func `two and three threads give the same bits as one`() throws {
    // Wide enough for several tiles, heads and experts at the same time.
    var configuration = TinyModel.standard
    configuration.segment = 200
    configuration.cache = 150
    configuration.graphDegree = 9
    let batch = [TinyModel.tokens(401), TinyModel.tokens(300, seed: 5)]
    var results: [[[Real]]] = []
    for threads in 1...3 {
      let tiny = TinyModel(configuration, maximumTokens: 400, threads: threads)
      let (losses, _) = try tiny.loss(batch, gradient: true)
      results.append([[Real(losses.total)]] + tiny.gradientsByName().map(\.values))
    }
    #expect(results[0] == results[1])
    #expect(results[0] == results[2])
  }

  @Test func `recompute auto keeps activations if they fit, and recomputes otherwise`() {
    let sizes = Sizes(TinyModel.standard, vocabulary: 13)
    let tiny = TinyModel()
    func recomputes(limit: Int) -> Bool {
      SequenceModel(
        sizes, maximumTokens: 80, recompute: .auto, memoryLimit: limit, team: tiny.team, exchange: tiny.experts
      ).recomputes
    }
    #expect(!recomputes(limit: .max))
    #expect(recomputes(limit: 1 << 10))
  }

  @Test func `the memory of a recomputed sequence does not grow with its length`() {
    let tiny = TinyModel()
    func bytes(_ tokens: Int) -> Int {
      SequenceModel(
        tiny.sizes, maximumTokens: tokens, recompute: .always, memoryLimit: 0, team: tiny.team, exchange: tiny.experts
      ).byteCount
    }
    #expect(bytes(100_000) == bytes(16))
  }

  /// Caches shorter and longer than a segment, and taps over several segments: everything that crosses a border is
  /// read back from the file.
  @Test(arguments: [(6, 3, 8), (8, 3, 8), (20, 3, 8), (3, 12, 4), (0, 1, 8), (0, 3, 1), (13, 9, 3)])
  func `what crosses a segment's border is restored exactly`(cache: Int, taps: Int, segment: Int) throws {
    for head in [Head.lm, .tag] {
      var configuration = Self.bidirectional(head)
      (configuration.cache, configuration.recencyTaps, configuration.segment) = (cache, taps, segment)
      configuration.expertTaps = max(1, taps - 1)
      var results: [[[Real]]] = []
      for recompute in [Recompute.never, .always] {
        let tiny = TinyModel(configuration, maximumTokens: 40, recompute: recompute)
        // Two sequences, so that the second one overwrites the records of the first.
        let (losses, _) = try tiny.loss([tiny.example(40, seed: 3), tiny.example(29, seed: 4)], gradient: true)
        results.append([[Real(losses.total)]] + tiny.gradientsByName().map(\.values))
      }
      #expect(results[0] == results[1])
    }
  }

  @Test(arguments: [1, 3, 8, 20])
  func `reading text in pieces gives the logits of reading it whole`(piece: Int) throws {
    let tiny = TinyModel(maximumTokens: 100)
    let tokens = TinyModel.tokens(100)
    let whole = try tiny.logits(tokens)
    let decoder = Decoder(
      Sizes(tiny.configuration, vocabulary: 13), weights: Weights(tiny.parameters, tiny.configuration), team: tiny.team,
      exchange: tiny.experts)
    var position = 0
    while position < tokens.count {
      let next = min(tokens.count, position + piece)
      let logits = try Array(decoder.append(Array(tokens[position..<next])))
      for token in 0..<13 {
        let expected = whole[(next - 1) * 13 + token]
        #expect(abs(logits[token] - expected) < 2e-4 * (1 + abs(expected)), "token \(next - 1)")
      }
      position = next
    }
  }

  // MARK: bidirectional and unordered inputs

  private static func bidirectional(_ head: Head) -> ModelConfiguration {
    var configuration = TinyModel.standard
    configuration.head = head
    configuration.classes = 3
    return configuration
  }

  @Test func `in a bidirectional model a later token of the segment affects an earlier one`() throws {
    let tiny = TinyModel(Self.bidirectional(.tag))
    let tokens = TinyModel.tokens(8)
    var changed = tokens
    changed[7] = (changed[7] + 1) % 13
    #expect(try tiny.logits(tokens)[0..<3] != tiny.logits(changed)[0..<3])
  }

  /// The relative difference of two results.
  private func distance(_ x: [Real], _ y: [Real]) -> Real {
    let scale = max(x.map(abs).max() ?? 0, y.map(abs).max() ?? 0)
    return (zip(x, y).map { abs($0 - $1) }.max() ?? 0) / max(scale, 1e-6)
  }

  @Test(arguments: 1...5)
  func `a set has the same class in any order, and every token keeps its tag`(seed: UInt64) throws {
    var configuration = Self.bidirectional(.classify)
    configuration.ordered = false
    configuration.segment = 12
    configuration.graphDegree = 5
    let random = Philox(seed: seed, stream: 41)
    // Two segments, with a permutation within each.
    let order = [0..<12, 12..<20].flatMap { part in
      part.map { (key: random.uniform(UInt64($0)), place: $0) }.sorted { $0.key < $1.key }.map(\.place)
    }
    let set = TinyModel(configuration, vocabulary: 23)
    let tokens = set.example(20, seed: seed).tokens
    let moved = order.map { tokens[$0] }
    #expect(moved != tokens)
    // Sums are formed in another order, so the last bits may differ.
    #expect(try distance(set.logits(tokens), set.logits(moved)) < 1e-4)

    configuration.head = .tag
    let tags = TinyModel(configuration, vocabulary: 23)
    let before = try tags.logits(tokens)
    let after = try tags.logits(moved)
    #expect(distance(after, order.flatMap { before[$0 * 3..<($0 + 1) * 3] }) < 1e-4)
  }

  @Test func `a token with one feature in a bag equals the plain token, and features have no order`() throws {
    let tiny = TinyModel(Self.bidirectional(.tag), vocabulary: 23)
    let plain = tiny.example(20, seed: 1)
    var bagged = plain
    bagged.bags = (0...20).map { Int32($0) }
    #expect(try tiny.logits(plain) == tiny.logits(bagged))

    let many = plain.bagged(vocabulary: 23, seed: 2)
    var turned = many
    for token in 0..<20 {
      turned.tokens[Int(many.bags[token])..<Int(many.bags[token + 1])].reverse()
    }
    #expect(turned.tokens != many.tokens)
    #expect(try distance(tiny.logits(many), tiny.logits(turned)) < 1e-4)
    #expect(try distance(tiny.logits(many), tiny.logits(plain)) > 1e-2)
  }

  @Test func `the order of tokens affects an ordered classifier`() throws {
    let tiny = TinyModel(Self.bidirectional(.classify), vocabulary: 23)
    let tokens = tiny.example(8, seed: 1).tokens
    #expect(try distance(tiny.logits(tokens), tiny.logits(tokens.reversed())) > 1e-2)
  }

  @Test(arguments: [Head.tag, .classify, .span])
  func `recomputing a segment gives every head the same bits`(head: Head) throws {
    var results: [[[Real]]] = []
    for recompute in [Recompute.never, .always] {
      let tiny = TinyModel(Self.bidirectional(head), recompute: recompute)
      let (losses, _) = try tiny.loss([tiny.example(20, seed: 3), tiny.example(17, seed: 4)], gradient: true)
      results.append([[Real(losses.total)]] + tiny.gradientsByName().map(\.values))
    }
    #expect(results[0] == results[1])
  }

  @Test(arguments: [Head.lm, .tag, .classify, .span])
  func `two and three threads give every head and the baseline the same bits as one`(head: Head) throws {
    for architecture in Architecture.allCases {
      var configuration = Self.bidirectional(head)
      configuration.architecture = architecture
      configuration.segment = architecture == .transformer ? 400 : 200
      configuration.graphDegree = 9
      var results: [[[Real]]] = []
      for threads in 1...3 {
        let tiny = TinyModel(configuration, maximumTokens: 400, threads: threads)
        let (losses, _) = try tiny.loss([tiny.example(400, seed: 1), tiny.example(299, seed: 2)], gradient: true)
        results.append([[Real(losses.total)]] + tiny.gradientsByName().map(\.values))
      }
      #expect(results[0] == results[1])
      #expect(results[0] == results[2])
    }
  }

  @Test(arguments: [Head.lm, .tag, .classify, .span])
  func `evaluating gives the loss that training reports`(head: Head) throws {
    let tiny = TinyModel(Self.bidirectional(head))
    let batch = [tiny.example(20, seed: 3), tiny.example(9, seed: 4)]
    #expect(try tiny.loss(batch, gradient: true).losses == tiny.loss(batch).losses)
  }

  // MARK: variations

  @Test(arguments: [false, true])
  func `steps that share the block or the experts run in any number, and one more step changes the result`(
    pooled: Bool
  ) throws {
    var configuration = TinyModel.standard
    (configuration.separateBlocks, configuration.poolExperts) = (pooled, pooled)
    let trained = TinyModel(configuration)
    let tokens = TinyModel.tokens(20)
    var results: [[Real]] = []
    for steps in [1, 2, 3, 4, 7] {
      let tiny = TinyModel(configuration, steps: steps)
      let logits = try tiny.logits(tokens)
      #expect(logits.allSatisfy { $0.isFinite })
      let same = try logits == trained.logits(tokens)
      #expect(same == (steps == 3))
      results.append(logits)
    }
    #expect(results[3] != results[4])
  }

  /// With softmax, every token a neighbour, no top-k, no structure bias and no memory, a block of ReSSFormer
  /// computes the same as one of the baseline, including taps, forget gates and score scales. They differ only in
  /// the step embedding, which is 0 here.
  @Test(arguments: [Head.lm, .tag])
  func `the dense limit of ASAM is the baseline's attention`(head: Head) throws {
    var dense = TinyModel.standard
    dense.head = head
    dense.classes = 4
    dense.architecture = .transformer
    dense.positions = .none
    dense.segment = 20
    var sparse = dense
    sparse.architecture = .ressformer
    sparse.separateBlocks = true
    sparse.feedForward = .dense
    sparse.activation = .softmax
    sparse.graphDegree = nil
    sparse.keys = nil
    sparse.structureBias = false
    sparse.memorySlots = 0
    sparse.cache = 0
    let one = TinyModel(dense, vocabulary: 23)
    let other = TinyModel(sparse, vocabulary: 23)
    var values: [String: [Real]] = [:]
    one.parameters.forEachTensor { entry, pointer in
      values[entry.name] = Array(UnsafeBufferPointer(start: pointer, count: entry.count))
    }
    other.parameters.forEachTensor { entry, pointer in
      for index in 0..<entry.count {
        switch entry.name {
        case "step/embedding": pointer[index] = 0
        case _ where entry.name.hasSuffix("structure_gain"): pointer[index] = 0
        default: if let known = values[entry.name] { pointer[index] = known[index] }
        }
      }
    }
    let tokens = one.example(20, seed: 5).tokens
    #expect(try distance(one.logits(tokens), other.logits(tokens)) < 1e-4)
  }
}
