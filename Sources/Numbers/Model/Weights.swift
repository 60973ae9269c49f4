// The dense parameters under the names that the model's code uses: views into a `ParameterBuffer`. Gradients have
// the same type, so that `d.query` is the gradient of `w.query`.

import Configuration
import Kernels

/// Weights of a SwiGLU network. Gate and up are adjacent, (2F, D), so that one product computes both.
package struct ExpertWeights {
  package let gateUp: LinearMap
  package let down: LinearMap

  /// `block` holds gate (f, d), up (f, d), down (d, f).
  package init(_ block: RealPointer, width d: Int, expertWidth f: Int, factors: Factors = .full) {
    gateUp = LinearMap(Matrix(block, rows: 2 * f, columns: d), factors: factors)
    down = LinearMap(Matrix(block + 2 * f * d, rows: d, columns: f), factors: factors)
  }

  init(gateUp: LinearMap, down: LinearMap) {
    self.gateUp = gateUp
    self.down = down
  }
}

/// The weights that one step of recurrence uses. With a shared block all steps have the same.
package struct BlockWeights {
  package let attnNorm, moeNorm, poolNorm: RealPointer
  package let recency, expertRecency: RealPointer
  package let structureQuery, structureKey: LinearMap
  package let query, key, value, output: LinearMap
  package let structureGain, memoryBias: RealPointer
  /// The logarithm of each head's factor τ, and the forget gates' map (H, D) and bias.
  package let temperature: RealPointer
  package let forget: Matrix
  package let forgetBias: RealPointer
  package let router: Matrix
  package let routerBias: RealPointer
  package let poolQuery: Matrix
  package let poolKey, poolValue: Matrix
  package let gate: RealPointer
  package let gateBias: RealPointer
  /// The same for all blocks.
  package let memoryNorm: RealPointer
}

extension ModelConfiguration {
  /// How the products with the model's large maps read their factors. The router and the maps of the structure graph
  /// choose by their results, and the heads of spans and classes are small: those read them as they are.
  var factors: Factors {
    switch precision {
    case .fp32: return .full
    case .bf16:
      precondition(RoundedProducts.areSupported, "the double-precision build has no products of bf16 factors")
      return .bf16
    }
  }
}

/// Views of a model's dense parameters, or of their gradients, under the names of docs/model.md.
package struct Weights {
  /// (V, D): the embeddings of tokens, and the output map of a language model.
  package let embed: LinearMap
  package let embedNorm, finalNorm: RealPointer
  package let step: Matrix
  package let position: Matrix
  package let memoryInitial: Matrix
  /// (K, kinds of relations); empty in a model without relations.
  package let relationBias: Matrix
  package let head: LinearMap
  package let blocks: [BlockWeights]
  /// Networks that every token passes through: one per step, one per block, or a single one.
  private let networks: [ExpertWeights]
  private let model: ModelConfiguration
  private let packs: WeightPacks?
  /// Bytes of the packed copies.
  package var packedByteCount: Int { packs?.byteCount ?? 0 }

  /// The weights of a step. Steps beyond the trained ones use those of the last one.
  package func block(_ step: Int) -> BlockWeights { blocks[model.block(ofStep: step)] }

  /// The network that every token passes through at a step; nil where there is none. Steps beyond the trained ones
  /// use that of the last one.
  package func network(_ step: Int) -> ExpertWeights? {
    if networks.isEmpty { return nil }
    return networks[model.hasOwnExperts ? min(step, networks.count - 1) : model.block(ofStep: step)]
  }

  /// Views of parameters. The maps are also packed for matrix products; `refresh` repacks them when the parameters
  /// have changed.
  package init(_ buffer: ParameterBuffer, _ model: ModelConfiguration) {
    self.init(buffer.layout, dense: buffer.dense, model: model, packing: buffer)
  }

  /// Views into `dense`, which has the layout's dense parameters, for example gradients. They are not packed.
  package init(_ layout: ParameterLayout, dense: RealPointer, model: ModelConfiguration) {
    self.init(layout, dense: dense, model: model, packing: nil)
  }

  /// Must be called before products read the weights: repacks them where they have changed.
  package func refresh(_ team: Team) { packs?.refresh(team) }

  private init(
    _ layout: ParameterLayout, dense: RealPointer, model: ModelConfiguration, packing buffer: ParameterBuffer?
  ) {
    self.model = model
    let entries = Dictionary(uniqueKeysWithValues: layout.dense.map { ($0.name, $0) })
    // A part that the model does not have has no parameters. Its view is empty and its pointer is never used.
    func pointer(_ name: String) -> RealPointer { dense + (entries[name]?.offset ?? 0) }
    func matrix(_ name: String) -> Matrix {
      guard let entry = entries[name] else { return Matrix(dense, rows: 0, columns: 0) }
      return Matrix(dense + entry.offset, rows: entry.shape[0], columns: entry.shape[1])
    }
    func block(_ block: Int, _ name: String) -> String { ParameterLayout.blockPrefix(block, model) + name }
    // All maps are in one list, so that they are packed together: two of the whole model, six of each block, two of
    // each network.
    let names = ["soes/query", "soes/key", "attn/query", "attn/key", "attn/value", "attn/output"]
    let factors = model.factors
    var maps = [
      LinearMap(matrix("embed/weight"), factors: factors),
      LinearMap(matrix("head/weight"), factors: model.head == .tag ? factors : .full),
    ]
    for index in 0..<model.blockCount {
      maps += names.map {
        LinearMap(matrix(block(index, $0 + "/weight")), factors: $0.hasPrefix("soes") ? .full : factors)
      }
    }
    let firstNetwork = maps.count
    for index in 0..<model.denseCount {
      let prefix = ParameterLayout.networkPrefix(index, model)
      let network = ExpertWeights(
        pointer(prefix + "gate"), width: model.width, expertWidth: model.denseWidth, factors: factors)
      maps += [network.gateUp, network.down]
    }
    packs = buffer.map { WeightPacks(&maps, of: $0) }

    embed = maps[0]
    head = maps[1]
    embedNorm = pointer("embed_norm/weight")
    finalNorm = pointer("final_norm/weight")
    step = matrix("step/embedding")
    position = matrix("position/weight")
    memoryInitial = matrix("memory/initial")
    relationBias = matrix("relation/bias")
    networks = (0..<model.denseCount).map {
      ExpertWeights(gateUp: maps[firstNetwork + 2 * $0], down: maps[firstNetwork + 2 * $0 + 1])
    }
    blocks = (0..<model.blockCount).map { index in
      let prefix = ParameterLayout.blockPrefix(index, model), memory = ParameterLayout.memoryPrefix(index, model)
      let own = Array(maps[2 + 6 * index..<8 + 6 * index])
      return BlockWeights(
        attnNorm: pointer(prefix + "attn_norm/weight"), moeNorm: pointer(prefix + "moe_norm/weight"),
        poolNorm: pointer(memory + "pool_norm/weight"), recency: pointer(prefix + "recency/weight"),
        expertRecency: pointer(prefix + "expert_recency/weight"),
        structureQuery: own[0], structureKey: own[1], query: own[2], key: own[3], value: own[4], output: own[5],
        structureGain: pointer(prefix + "attn/structure_gain"), memoryBias: pointer(prefix + "attn/memory_bias"),
        temperature: pointer(prefix + "attn/temperature"), forget: matrix(prefix + "attn/forget/weight"),
        forgetBias: pointer(prefix + "attn/forget/bias"),
        router: matrix(prefix + "router/weight"), routerBias: pointer(prefix + "router/bias"),
        poolQuery: matrix(memory + "memory/pool_query"), poolKey: matrix(memory + "memory/pool_key/weight"),
        poolValue: matrix(memory + "memory/pool_value/weight"), gate: pointer(memory + "memory/gate/weight"),
        gateBias: pointer(memory + "memory/gate/bias"), memoryNorm: pointer("memory_norm/weight"))
    }
  }
}

/// The packed forms of a buffer's weights, and the version of the parameters that they were made from.
final class WeightPacks {
  private let maps: PackedMaps
  var byteCount: Int { maps.byteCount }
  private let buffer: ParameterBuffer
  private var version = -1

  init(_ maps: inout [LinearMap], of buffer: ParameterBuffer) {
    self.maps = PackedMaps(&maps)
    self.buffer = buffer
  }

  func refresh(_ team: Team) {
    guard version != buffer.version else { return }
    maps.pack(team)
    version = buffer.version
  }
}
