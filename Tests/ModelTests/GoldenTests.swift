// The model compared with PyTorch's values (Benchmarks/pytorch/save_golden.py wrote Tests/Golden in double
// precision): losses, loads, logits and the gradient of every parameter. This includes what finite differences
// cannot check: that the gradient stops at the cache.

import Configuration
import Foundation
import Kernels
import Model
import Testing

@Suite struct GoldenTests {
  struct Tensor: Decodable {
    var shape: [Int]
    var values: [Double]
  }
  struct Golden: Decodable {
    struct Sizes: Decodable {
      var width, heads, steps, segment, memory_slots, cache, window, structure_rank: Int
      var graph_degree, keys: Int?
      var recency_taps, experts, active_experts, expert_width, vocabulary: Int
      var shared_expert: Bool
      var smooth_weight, balance_weight, router_z_weight: Double
      var bptt_segments: Int?
      // Only in cases beyond the causal language model (python/ress/model/variants.py).
      var architecture: Architecture?
      var head: Head?
      var classes: Int?
      var class_pool: ClassPool?
      var ordered: Bool?
      var activation: Activation?
      var structure_bias: Bool?
      var feed_forward: FeedForward?
      var separate_blocks: Bool?
      var positions: Positions?
      var evaluation_steps: Int?
      // Only in cases with parts that were added to the first form of the model.
      var expert_taps: Int?
      var two_sided_taps: Bool?
      var embedding_norm: Bool?
      var gates: Gates?
      var forget_gates: Bool?
      var score_scale: ScoreScale?
      var shared_width: Int?
      var shared_each_step: Bool?
      var pool_experts: Bool?
      var blocks: Int?
      var block_order: BlockOrder?
      var relation_kinds: Int?
    }
    struct Losses: Decodable { var total, task, smooth, balance, z: Double }
    var configuration: Sizes
    /// For a language model the inputs and one more token; for other heads the inputs.
    var tokens: [[Int32]]
    var targets: [[Int32]]?
    /// Token, related token and kind, of each sequence.
    var relations: [[[Int32]]]?
    var parameters: [String: Tensor]
    var losses: Losses
    var logits: Tensor
    var gradients: [String: Tensor]
    var loads: [Int]
  }

  #if RESS_DOUBLE
    // The files hold nine digits.
    static let tolerance = 1e-6
  #else
    static let tolerance = 3e-4
  #endif

  static func load(_ name: String) throws -> Golden {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    let data = try Data(contentsOf: folder.appendingPathComponent("Golden/\(name).json"))
    return try JSONDecoder().decode(Golden.self, from: data)
  }

  static func tiny(_ golden: Golden) -> TinyModel {
    let g = golden.configuration
    var model = g.architecture == .transformer ? ModelConfiguration.plainTransformer : .firstForm
    model.width = g.width
    model.heads = g.heads
    model.steps = g.steps
    model.segment = g.segment
    model.memorySlots = g.memory_slots
    model.cache = g.cache
    model.window = g.window
    model.structureRank = g.structure_rank
    model.graphDegree = g.graph_degree
    model.keys = g.keys
    // A file from before the experts' taps may name recency taps, which the baseline did not use then.
    if g.architecture != .transformer || g.expert_taps != nil { model.recencyTaps = g.recency_taps }
    model.expertTaps = g.expert_taps ?? 1
    model.twoSidedTaps = g.two_sided_taps ?? false
    model.gates = g.gates ?? .softmax
    model.forgetGates = g.forget_gates ?? false
    model.scoreScale = g.score_scale ?? .fixed
    model.sharedWidth = g.shared_width
    model.sharedEachStep = g.shared_each_step ?? false
    if let norm = g.embedding_norm { model.embeddingNorm = norm }
    model.experts = g.experts
    model.activeExperts = g.active_experts
    model.expertWidth = g.expert_width
    model.sharedExpert = g.shared_expert
    model.smoothWeight = g.smooth_weight
    model.balanceWeight = g.balance_weight
    model.routerZWeight = g.router_z_weight
    model.architecture = g.architecture ?? .ressformer
    model.head = g.head ?? .lm
    model.classes = g.classes ?? 2
    model.classPool = g.class_pool ?? .memory
    model.ordered = g.ordered ?? true
    model.activation = g.activation ?? .sparsemax
    model.structureBias = g.structure_bias ?? true
    model.feedForward = g.feed_forward ?? .experts
    model.separateBlocks = g.separate_blocks ?? false
    model.poolExperts = g.pool_experts ?? false
    model.blocks = g.blocks
    model.blockOrder = g.block_order ?? .cycle
    model.positions = g.positions ?? .rotary
    model.relationKinds = g.relation_kinds ?? 0
    let tiny = TinyModel(
      model, vocabulary: g.vocabulary, maximumTokens: golden.tokens[0].count - (golden.targets == nil ? 1 : 0),
      steps: g.evaluation_steps, seed: nil)
    tiny.bpttSegments = g.bptt_segments
    return tiny
  }

  /// Largest difference, relative to the tensor's largest value.
  static func distance(_ ours: [Real], _ theirs: [Double]) -> Double {
    guard ours.count == theirs.count else { return .infinity }
    let scale = theirs.map(abs).max() ?? 0
    let difference = zip(ours, theirs).map { abs(Double($0) - $1) }.max() ?? 0
    return difference == 0 ? 0 : difference / max(scale, 1e-6)
  }

  @Test(arguments: [
    "base", "cache-long", "cache-none", "no-memory", "one-step", "bptt", "bptt-two", "ties",
    "tag", "tag-softmax", "classify", "classify-no-memory", "classify-tokens", "classify-both",
    "defaults-classify", "span", "span-entmax", "unordered", "lm-entmax",
    "no-structure-bias", "dense-feed-forward", "separate-blocks", "separate-blocks-tag", "bidirectional-bptt",
    "more-steps", "transformer-rotary", "transformer-learned", "transformer-classify", "transformer-tag",
    "defaults", "defaults-bptt", "defaults-dense", "defaults-more-steps", "defaults-separate-blocks", "defaults-span",
    "defaults-sparsemax", "defaults-tag", "defaults-unordered", "expert-taps", "forget-gates", "forget-gates-tag",
    "learned-scale", "shared-each-step", "shared-width", "sigmoid-gates", "two-sided-taps", "wide-taps",
    "transformer-helped", "transformer-helped-learned", "transformer-helped-tag", "pooled-experts",
    "alternating-blocks", "defaults-middle-block-tag",
    "defaults-pooled-experts", "defaults-pooled-experts-more-steps", "defaults-pooled-experts-tag",
    "relations", "relations-tag", "relations-defaults", "relations-defaults-tag", "relations-unordered",
    "relations-separate-blocks", "relations-more-steps",
  ])
  func `losses, logits and gradients equal PyTorch's`(name: String) throws {
    let golden = try Self.load(name)
    let tiny = Self.tiny(golden)
    var missing = Set(golden.parameters.keys)
    tiny.parameters.forEachTensor { entry, values in
      guard entry.count > 0 else { return }
      guard let tensor = golden.parameters[entry.name], tensor.shape == entry.shape else {
        Issue.record("\(entry.name): \(entry.shape) is not in the golden file with that shape")
        return
      }
      missing.remove(entry.name)
      for index in 0..<entry.count { values[index] = Real(tensor.values[index]) }
    }
    missing = missing.filter { !golden.parameters[$0]!.values.isEmpty }
    #expect(missing.isEmpty, "parameters that the Swift model lacks: \(missing.sorted())")

    let batch = golden.tokens.enumerated().map { index, tokens in
      var example =
        golden.targets.map { TinyModel.Example(tokens: tokens, targets: $0[index]) }
        ?? TinyModel.Example(tokens: Array(tokens.dropLast()), targets: Array(tokens.dropFirst()))
      if let relations = golden.relations?[index] {
        example.relations.set(relations.flatMap { $0 }, tokens: example.tokenCount)
      }
      return example
    }
    // Another number of steps is used in evaluations only.
    let isTrained = golden.configuration.evaluation_steps == nil
    let (losses, loads) = try tiny.loss(batch, gradient: isTrained)
    let expected = golden.losses
    for (label, ours, theirs) in [
      ("total", losses.total, expected.total), ("task", losses.task, expected.task),
      ("smooth", losses.smooth, expected.smooth), ("balance", losses.balance, expected.balance),
      ("z", losses.routerZ, expected.z),
    ] {
      #expect(abs(ours - theirs) <= Self.tolerance * max(1, abs(theirs)), "\(label): \(ours), PyTorch \(theirs)")
    }
    #expect(loads == golden.loads)

    let untrained = Set(
      (tiny.layout.dense + tiny.layout.experts.flatMap { $0 }).filter { !$0.isTrained }.map(\.name))
    for (name, values) in tiny.gradientsByName()
    where isTrained && !values.isEmpty && !untrained.contains(name) {
      guard let tensor = golden.gradients[name] else {
        Issue.record("no golden gradient of \(name)")
        continue
      }
      #expect(Self.distance(values, tensor.values) <= Self.tolerance, "gradient of \(name)")
    }
    #expect(Self.distance(try tiny.logits(batch[0]), golden.logits.values) <= Self.tolerance)
  }
}
