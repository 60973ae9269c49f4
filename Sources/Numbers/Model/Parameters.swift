// The table of all parameters, by name, and the flat buffers that hold their values. Because all tensors are in one
// buffer with one table, initialising, updating, clipping and saving are single loops. Each expert has a block of
// its own, because a worker holds only some of the experts.
//
// Maps that read the same input are adjacent, in the order that lets one matrix product compute them together.

import Configuration
import Kernels

/// One tensor: its name (docs/model.md), shape, offset and initial values.
package struct ParameterEntry: Equatable, Sendable {
  package enum Initial: Equatable, Sendable {
    case normal(deviation: Double)
    case constant(Double)
    /// A value for each element.
    case values([Double])
  }

  package let name: String
  package let shape: [Int]
  /// Offset of its first value, in the dense buffer or in its expert's block.
  package let offset: Int
  package let initial: Initial
  /// Whether weight decay applies: it does to matrices, but not to norms, gains, biases and the embeddings of steps
  /// and slots.
  package let decays: Bool
  /// False for the router's bias, which is changed by the balancer and not by a gradient, and for parameters that
  /// are fixed. Such parameters have no moments and no part in the gradient's norm.
  package let isTrained: Bool
  /// Whether `training.freeze` fixes it.
  package let isFrozen: Bool
  /// Number of its Philox stream, distinct from those of all other tensors.
  package let stream: UInt64

  package var count: Int { shape.reduce(1, *) }
  package var range: Range<Int> { offset..<offset + count }
}

/// The table of a model's parameters: dense ones, which every worker holds, and one block for each routed expert.
package struct ParameterLayout: Equatable, Sendable {
  package private(set) var dense: [ParameterEntry] = []
  /// Entries of each expert's block. All blocks are equal except for their names.
  package private(set) var experts: [[ParameterEntry]] = []

  package var denseCount: Int { dense.last?.range.upperBound ?? 0 }
  package var expertCount: Int { experts.first?.last?.range.upperBound ?? 0 }
  /// Number of parameters of the whole model.
  package var totalCount: Int { denseCount + experts.count * expertCount }
  private let frozen: FrozenParts

  /// The layout of a run, of which some parts may be frozen.
  package init(_ configuration: RunConfiguration, vocabulary: Int) {
    self.init(configuration.model, vocabulary: vocabulary, frozen: FrozenParts(configuration.training.freeze))
  }

  package init(_ model: ModelConfiguration, vocabulary: Int, frozen: FrozenParts = FrozenParts([])) {
    self.frozen = frozen
    let d = model.width
    let small = ParameterEntry.Initial.normal(deviation: 0.02)
    add("embed/weight", [vocabulary, d], initial: .normal(deviation: model.embeddingStart), decays: true)
    if model.isTransformer {
      if model.positions == .learned { add("position/weight", [model.segment, d], initial: small) }
      if model.normalizesEmbedding { add("embed_norm/weight", [d], initial: .constant(1)) }
    } else {
      add("embed_norm/weight", [d], initial: .constant(1))
      add("memory_norm/weight", [d], initial: .constant(1))
      add("step/embedding", [model.steps, d], initial: small)
      add("memory/initial", [model.slots, d], initial: small)
    }
    add("final_norm/weight", [d], initial: .constant(1))
    if model.head != .lm { add("head/weight", [model.headClasses, d], initial: small, decays: true) }
    for block in 0..<model.blockCount { addBlock(block, model) }
    if model.sharesMemory { addMemory(block: 0, model) }
    // After all others, so that these begin with the same values with relations and without.
    if model.relations > 0 {
      add("relation/bias", [model.steps, model.relations], initial: .constant(model.relationStart))
    }
    for index in 0..<model.expertCount { addExpert(index, model) }
  }

  /// The prefix of a block's tensors: `block/0002/` where blocks are separate, otherwise empty.
  package static func blockPrefix(_ block: Int, _ model: ModelConfiguration) -> String {
    model.separateBlocks || model.isTransformer ? "block/" + fourDigits(block) + "/" : ""
  }

  /// The prefix of the tensors that write the memory: a block's, or empty where all blocks have the same.
  package static func memoryPrefix(_ block: Int, _ model: ModelConfiguration) -> String {
    model.sharesMemory ? "" : blockPrefix(block, model)
  }

  /// The prefix of a network that every token passes through: `own_expert/0002/` for a step, `shared_expert/` or
  /// `feed_forward/` for a block.
  package static func networkPrefix(_ index: Int, _ model: ModelConfiguration) -> String {
    if model.hasOwnExperts { return "own_expert/" + fourDigits(index) + "/" }
    return blockPrefix(index, model) + (model.routedExperts > 0 ? "shared_expert/" : "feed_forward/")
  }

  private mutating func addBlock(_ block: Int, _ model: ModelConfiguration) {
    let prefix = ParameterLayout.blockPrefix(block, model)
    let d = model.width
    let r = model.structureRank
    let wide = 1 / Double(d).squareRoot()
    let small = ParameterEntry.Initial.normal(deviation: 0.02)
    let map = ParameterEntry.Initial.normal(deviation: wide)
    add(prefix + "attn_norm/weight", [d], initial: .constant(1))
    add(prefix + "moe_norm/weight", [d], initial: .constant(1))
    if !model.isTransformer, !model.sharesMemory { add(prefix + "pool_norm/weight", [d], initial: .constant(1)) }
    let tap = ParameterEntry.Initial.normal(deviation: model.tapStart)
    if !model.isTransformer || model.attentionTaps > 1 {
      add(prefix + "recency/weight", [model.tapRows(model.attentionTaps), d], initial: tap)
    }
    if model.tapsBeforeExperts > 1 {
      add(prefix + "expert_recency/weight", [model.tapRows(model.tapsBeforeExperts), d], initial: tap)
    }
    if !model.isTransformer {
      add(prefix + "soes/query/weight", [r, d], initial: map, decays: true)
      add(prefix + "soes/key/weight", [r, d], initial: map, decays: true)
    }
    add(prefix + "attn/query/weight", [d, d], initial: map, decays: true)
    add(prefix + "attn/key/weight", [d, d], initial: map, decays: true)
    add(prefix + "attn/value/weight", [d, d], initial: map, decays: true)
    add(prefix + "attn/output/weight", [d, d], initial: .normal(deviation: wide * model.depthScale), decays: true)
    if !model.isTransformer {
      // Without the bias the gain stays 0: the graph then only selects neighbours and does not change their scores.
      add(
        prefix + "attn/structure_gain", [model.heads], initial: .constant(model.structureBias ? 1 : 0),
        isTrained: model.structureBias)
      add(prefix + "attn/memory_bias", [model.heads], initial: .constant(0))
    }
    if model.scalesScores {
      add(prefix + "attn/temperature", [model.heads], initial: .constant(SameEverywhere.log(0.5)))
    }
    if model.forgets {
      add(prefix + "attn/forget/weight", [model.heads, d], initial: small, decays: true)
      add(prefix + "attn/forget/bias", [model.heads], initial: .values(model.forgetBiases))
    }
    if model.routedExperts > 0 {
      add(prefix + "router/weight", [model.experts, d], initial: .normal(deviation: model.routerStart), decays: true)
      add(prefix + "router/bias", [model.experts], initial: .constant(0), isTrained: false)
    }
    // A single block has the networks of all its steps.
    let networks = model.hasOwnExperts ? 0..<model.denseCount : model.denseCount > 0 ? block..<block + 1 : 0..<0
    for network in networks {
      for (name, shape, initial) in ParameterLayout.network(model, width: model.denseWidth) {
        add(ParameterLayout.networkPrefix(network, model) + name, shape, initial: initial, decays: true)
      }
    }
    if !model.isTransformer, !model.sharesMemory { addMemory(block: block, model) }
  }

  /// The parameters that write the memory. The norm of a block's own is with the block's other norms.
  private mutating func addMemory(block: Int, _ model: ModelConfiguration) {
    let prefix = ParameterLayout.memoryPrefix(block, model)
    let d = model.width
    let small = ParameterEntry.Initial.normal(deviation: 0.02)
    let map = ParameterEntry.Initial.normal(deviation: 1 / Double(d).squareRoot())
    if model.sharesMemory { add("pool_norm/weight", [d], initial: .constant(1)) }
    add(prefix + "memory/pool_query", [model.slots, d], initial: small)
    add(prefix + "memory/pool_key/weight", [d, d], initial: map, decays: true)
    add(prefix + "memory/pool_value/weight", [d, d], initial: map, decays: true)
    add(prefix + "memory/gate/weight", [2 * d], initial: small)
    add(prefix + "memory/gate/bias", [1], initial: .constant(0))
  }

  private mutating func addExpert(_ index: Int, _ model: ModelConfiguration) {
    var block: [ParameterEntry] = []
    for (part, (name, shape, initial)) in ParameterLayout.network(model, width: model.expertWidth).enumerated() {
      let name = ParameterLayout.expertName(index, name), isFrozen = frozen.contains(name)
      block.append(
        ParameterEntry(
          name: name, shape: shape, offset: block.last?.range.upperBound ?? 0, initial: initial, decays: true,
          isTrained: !isFrozen, isFrozen: isFrozen, stream: 0x1_0000 + UInt64(index * 3 + part)))
    }
    experts.append(block)
  }

  /// The tensors of a SwiGLU network: gate and up (f, d), down (d, f).
  private static func network(_ model: ModelConfiguration, width f: Int) -> [(String, [Int], ParameterEntry.Initial)] {
    let d = model.width
    let map = ParameterEntry.Initial.normal(deviation: 1 / Double(d).squareRoot())
    return [
      ("gate", [f, d], map), ("up", [f, d], map),
      ("down", [d, f], .normal(deviation: model.depthScale / Double(f).squareRoot())),
    ]
  }

  private mutating func add(
    _ name: String, _ shape: [Int], initial: ParameterEntry.Initial, decays: Bool = false, isTrained: Bool = true
  ) {
    let isFrozen = frozen.contains(name)
    dense.append(
      ParameterEntry(
        name: name, shape: shape, offset: denseCount, initial: initial, decays: decays,
        isTrained: isTrained && !isFrozen, isFrozen: isFrozen, stream: UInt64(dense.count)))
  }

  /// `experts/0003/gate`
  package static func expertName(_ index: Int, _ part: String) -> String { "experts/" + fourDigits(index) + "/" + part }

  private static func fourDigits(_ index: Int) -> String { SpokenNumbers.padded(index, to: 4) }

  package func denseEntry(_ name: String) -> ParameterEntry? { dense.first { $0.name == name } }
}

/// Values for a layout: the parameters, their gradients, or an optimizer's moments.
package final class ParameterBuffer {
  package let layout: ParameterLayout
  package let dense: RealPointer
  /// The block of each expert that this buffer holds; nil for the others.
  package let experts: [RealPointer?]
  private let arena: Arena
  /// Number of calls of `changed`.
  package private(set) var version = 0

  /// Must be called after parameters were written that a model has read, because packed copies of them are then
  /// outdated.
  package func changed() { version += 1 }

  /// A zero-filled buffer with blocks for the given experts.
  package init(_ layout: ParameterLayout, experts held: [Int]) {
    self.layout = layout
    let (arena, (dense, experts)) = Arena.build { arena in
      var blocks = [RealPointer?](repeating: nil, count: layout.experts.count)
      let dense = arena.reals(layout.denseCount)
      for expert in held { blocks[expert] = arena.reals(layout.expertCount) }
      return (dense, blocks)
    }
    self.arena = arena
    self.dense = dense
    self.experts = experts
  }

  package var byteCount: Int { arena.byteCount }

  /// Initialises all values. They are the same on any worker, because each tensor has its own random stream.
  package func initialize(seed: UInt64) {
    for entry in layout.dense { entry.fill(dense + entry.offset, seed: seed) }
    for (block, entries) in zip(experts, layout.experts) {
      guard let block else { continue }
      for entry in entries { entry.fill(block + entry.offset, seed: seed) }
    }
  }

  /// Calls `body` for every tensor held here, dense ones first.
  package func forEachTensor(_ body: (ParameterEntry, RealPointer) throws -> Void) rethrows {
    for entry in layout.dense { try body(entry, dense + entry.offset) }
    for (block, entries) in zip(experts, layout.experts) {
      guard let block else { continue }
      for entry in entries { try body(entry, block + entry.offset) }
    }
  }
}

extension ModelConfiguration {
  /// Biases with which the heads begin with half-lives in geometric progression: the first forgets 1/4 per token,
  /// the last 1/193.
  fileprivate var forgetBiases: [Double] {
    (0..<heads).map {
      SameEverywhere.log(3 * SameEverywhere.pow(64, heads == 1 ? 0.5 : Double($0) / Double(heads - 1)))
    }
  }

  /// Factor of the initial values of maps that end in the residual stream, so that 2K of them keep its size (as in
  /// GPT-2).
  fileprivate var depthScale: Double { 1 / (2 * Double(steps)).squareRoot() }
}

extension ParameterEntry {
  fileprivate func fill(_ values: RealPointer, seed: UInt64) {
    Progress.note()
    switch initial {
    case .constant(let value): values.update(repeating: Real(value), count: count)
    case .values(let own): for (index, value) in own.enumerated() { values[index] = Real(value) }
    case .normal(let deviation):
      Philox(seed: seed, stream: stream).fillNormal(values, count: count, deviation: deviation)
    }
  }
}
