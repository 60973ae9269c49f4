// Every parameter by name, in one flat buffer a worker: initialisation, update, clipping and saving are then single
// loops over a table. Experts lie in blocks of their own, because a worker holds only the experts it was given.
//
// Maps that read the same input lie side by side, in the order that lets one product serve them.

import Configuration
import Kernels

#if canImport(Glibc)
  import Glibc
#endif

/// One tensor: its name (docs/model.md), shape, place and how it begins.
package struct ParameterEntry: Equatable, Sendable {
  package enum Initial: Equatable, Sendable {
    case normal(deviation: Double)
    case constant(Double)
    /// One value each.
    case values([Double])
  }

  package let name: String
  package let shape: [Int]
  /// Offset of its first value, from the start of the dense buffer or of its expert's block.
  package let offset: Int
  package let initial: Initial
  /// Weight decay acts on matrices; norms, gains, biases and the embeddings of steps and slots are spared.
  package let decays: Bool
  /// Moved by the balancer, never by a gradient.
  package let isTrained: Bool
  /// A number of its own among all tensors, which keys its random values.
  package let stream: UInt64

  package var count: Int { shape.reduce(1, *) }
  package var range: Range<Int> { offset..<offset + count }
}

/// The table of all parameters of a model: dense ones (held by every worker) and one block a routed expert.
package struct ParameterLayout: Equatable, Sendable {
  package private(set) var dense: [ParameterEntry] = []
  /// Entries of each expert's block, all blocks alike but for their names.
  package private(set) var experts: [[ParameterEntry]] = []

  package var denseCount: Int { dense.last?.range.upperBound ?? 0 }
  package var expertCount: Int { experts.first?.last?.range.upperBound ?? 0 }
  /// Parameters of the whole model.
  package var totalCount: Int { denseCount + experts.count * expertCount }

  package init(_ model: ModelConfiguration, vocabulary: Int) {
    let d = model.width
    let small = ParameterEntry.Initial.normal(deviation: 0.02)
    add("embed/weight", [vocabulary, d], .normal(deviation: model.embeddingStart), decays: true)
    if model.isTransformer {
      if model.positions == .learned { add("position/weight", [model.segment, d], small) }
      if model.normalizesEmbedding { add("embed_norm/weight", [d], .constant(1)) }
    } else {
      add("embed_norm/weight", [d], .constant(1))
      add("memory_norm/weight", [d], .constant(1))
      add("step/embedding", [model.steps, d], small)
      add("memory/initial", [model.slots, d], small)
    }
    add("final_norm/weight", [d], .constant(1))
    if model.head != .lm { add("head/weight", [model.headClasses, d], small, decays: true) }
    for block in 0..<model.blockCount { addBlock(block, model) }
    for index in 0..<model.expertCount { addExpert(index, model) }
  }

  /// `block/0002/` where blocks are separate.
  package static func blockPrefix(_ block: Int, _ model: ModelConfiguration) -> String {
    model.separateBlocks || model.isTransformer ? "block/" + fourDigits(block) + "/" : ""
  }

  /// Where a network that every token passes has its tensors: `own_expert/0002/` of a step, `shared_expert/` or `feed_forward/` of a
  /// block.
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
    add(prefix + "attn_norm/weight", [d], .constant(1))
    add(prefix + "moe_norm/weight", [d], .constant(1))
    if !model.isTransformer { add(prefix + "pool_norm/weight", [d], .constant(1)) }
    let tap = ParameterEntry.Initial.normal(deviation: model.tapStart)
    if !model.isTransformer || model.attentionTaps > 1 {
      add(prefix + "recency/weight", [model.tapRows(model.attentionTaps), d], tap)
    }
    if model.tapsBeforeExperts > 1 {
      add(prefix + "expert_recency/weight", [model.tapRows(model.tapsBeforeExperts), d], tap)
    }
    if !model.isTransformer {
      add(prefix + "soes/query/weight", [r, d], map, decays: true)
      add(prefix + "soes/key/weight", [r, d], map, decays: true)
    }
    add(prefix + "attn/query/weight", [d, d], map, decays: true)
    add(prefix + "attn/key/weight", [d, d], map, decays: true)
    add(prefix + "attn/value/weight", [d, d], map, decays: true)
    add(prefix + "attn/output/weight", [d, d], .normal(deviation: wide * model.depthScale), decays: true)
    if !model.isTransformer {
      // Without the bias the gain stays 0: the graph then chooses neighbours and weighs nothing.
      add(
        prefix + "attn/structure_gain", [model.heads], .constant(model.structureBias ? 1 : 0),
        isTrained: model.structureBias)
      add(prefix + "attn/memory_bias", [model.heads], .constant(0))
    }
    if model.scalesScores { add(prefix + "attn/temperature", [model.heads], .constant(log(0.5))) }
    if model.forgets {
      add(prefix + "attn/forget/weight", [model.heads, d], small, decays: true)
      add(prefix + "attn/forget/bias", [model.heads], .values(model.forgetBiases))
    }
    if model.routedExperts > 0 {
      add(prefix + "router/weight", [model.experts, d], .normal(deviation: model.routerStart), decays: true)
      add(prefix + "router/bias", [model.experts], .constant(0), isTrained: false)
    }
    // One block has the networks of all its steps.
    let networks = model.hasOwnExperts ? 0..<model.denseCount : model.denseCount > 0 ? block..<block + 1 : 0..<0
    for network in networks {
      for (name, shape, initial) in ParameterLayout.network(model, width: model.denseWidth) {
        add(ParameterLayout.networkPrefix(network, model) + name, shape, initial, decays: true)
      }
    }
    if !model.isTransformer {
      add(prefix + "memory/pool_query", [model.slots, d], small)
      add(prefix + "memory/pool_key/weight", [d, d], map, decays: true)
      add(prefix + "memory/pool_value/weight", [d, d], map, decays: true)
      add(prefix + "memory/gate/weight", [2 * d], small)
      add(prefix + "memory/gate/bias", [1], .constant(0))
    }
  }

  private mutating func addExpert(_ index: Int, _ model: ModelConfiguration) {
    var block: [ParameterEntry] = []
    for (part, (name, shape, initial)) in ParameterLayout.network(model, width: model.expertWidth).enumerated() {
      block.append(
        ParameterEntry(
          name: ParameterLayout.expertName(index, name), shape: shape, offset: block.last?.range.upperBound ?? 0,
          initial: initial, decays: true, isTrained: true, stream: 0x1_0000 + UInt64(index * 3 + part)))
    }
    experts.append(block)
  }

  /// A SwiGLU network: gate and up (f, d), down (d, f).
  private static func network(_ model: ModelConfiguration, width f: Int) -> [(String, [Int], ParameterEntry.Initial)] {
    let d = model.width
    let map = ParameterEntry.Initial.normal(deviation: 1 / Double(d).squareRoot())
    return [
      ("gate", [f, d], map), ("up", [f, d], map),
      ("down", [d, f], .normal(deviation: model.depthScale / Double(f).squareRoot())),
    ]
  }

  private mutating func add(
    _ name: String, _ shape: [Int], _ initial: ParameterEntry.Initial, decays: Bool = false, isTrained: Bool = true
  ) {
    dense.append(
      ParameterEntry(
        name: name, shape: shape, offset: denseCount, initial: initial, decays: decays, isTrained: isTrained,
        stream: UInt64(dense.count)))
  }

  /// `experts/0003/gate`
  package static func expertName(_ index: Int, _ part: String) -> String { "experts/" + fourDigits(index) + "/" + part }

  private static func fourDigits(_ index: Int) -> String {
    let digits = String(index)
    return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
  }

  package func denseEntry(_ name: String) -> ParameterEntry? { dense.first { $0.name == name } }
}

/// Values for a layout: the parameters themselves, their gradients, or an optimizer's moments.
package final class ParameterBuffer {
  package let layout: ParameterLayout
  package let dense: RealPointer
  /// A block for each expert that this buffer holds, nil for the others.
  package let experts: [RealPointer?]
  private let arena: Arena
  /// Counts the changes that `changed` was told of.
  package private(set) var version = 0

  /// Call after writing parameters that a model has read: what was derived from them is old.
  package func changed() { version += 1 }

  /// Zero-filled, with room for the experts given.
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

  /// The same values on any worker: each tensor draws from a stream of its own.
  package func initialize(seed: UInt64) {
    for entry in layout.dense { entry.fill(dense + entry.offset, seed: seed) }
    for (block, entries) in zip(experts, layout.experts) {
      guard let block else { continue }
      for entry in entries { entry.fill(block + entry.offset, seed: seed) }
    }
  }

  /// Every tensor held here, by name, dense ones first.
  package func forEachTensor(_ body: (ParameterEntry, RealPointer) throws -> Void) rethrows {
    for entry in layout.dense { try body(entry, dense + entry.offset) }
    for (block, entries) in zip(experts, layout.experts) {
      guard let block else { continue }
      for entry in entries { try body(entry, block + entry.offset) }
    }
  }

  package func clearDense() { dense.update(repeating: 0, count: layout.denseCount) }
}

extension ModelConfiguration {
  /// Forget biases that let the heads begin with half-lives spread by factors, a forgotten share of 1/4 to 1/193 a token.
  fileprivate var forgetBiases: [Double] {
    (0..<heads).map { log(3 * pow(64, heads == 1 ? 0.5 : Double($0) / Double(heads - 1))) }
  }

  /// What a map that ends in the residual stream is scaled by, so that 2K of them keep its size. GPT-2's rule.
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
