// The dense parameters as the model's code names them: views into a `ParameterBuffer`. Gradients have the same type, so
// `d.query` is the gradient of `w.query`.

import Configuration
import Kernels

/// Weights of one SwiGLU expert: gate and up lie side by side, (2f, d), so that one product computes both.
package struct ExpertWeights {
  package let gateUp: Matrix
  package let down: Matrix

  /// `block` holds gate (f, d), up (f, d), down (d, f).
  package init(_ block: RealPointer, width d: Int, expertWidth f: Int) {
    gateUp = Matrix(block, rows: 2 * f, columns: d)
    down = Matrix(block + 2 * f * d, rows: d, columns: f)
  }
}

/// What one application of the block uses. With one shared block every step has the same.
package struct BlockWeights {
  package let attnNorm, moeNorm, poolNorm: RealPointer
  package let recency: RealPointer
  package let structureQuery, structureKey: Matrix
  package let query, key, value, output: Matrix
  package let structureGain, memoryBias: RealPointer
  package let router: Matrix
  package let routerBias: RealPointer
  /// The network that every token passes, where there is one.
  package let dense: ExpertWeights?
  package let poolQuery: Matrix
  package let poolKey, poolValue: Matrix
  package let gate: RealPointer
  package let gateBias: RealPointer
  /// Shared by all blocks.
  package let memoryNorm: RealPointer
}

package struct Weights {
  package let embed: Matrix
  package let embedNorm, finalNorm: RealPointer
  package let step: Matrix
  package let position: Matrix
  package let memoryInitial: Matrix
  package let head: Matrix
  package let blocks: [BlockWeights]

  /// The weights of a step.
  package func block(_ step: Int) -> BlockWeights { blocks[blocks.count == 1 ? 0 : step] }

  package init(_ buffer: ParameterBuffer, _ model: ModelConfiguration) {
    self.init(buffer.layout, dense: buffer.dense, model)
  }

  /// Views into `dense`, which holds the dense parameters of `layout`.
  package init(_ layout: ParameterLayout, dense: RealPointer, _ model: ModelConfiguration) {
    let entries = Dictionary(uniqueKeysWithValues: layout.dense.map { ($0.name, $0) })
    // A part that the model lacks has no parameters; its view is empty and nothing follows its pointer.
    func pointer(_ name: String) -> RealPointer { dense + (entries[name]?.offset ?? 0) }
    func matrix(_ name: String) -> Matrix {
      guard let entry = entries[name] else { return Matrix(dense, rows: 0, columns: 0) }
      return Matrix(dense + entry.offset, rows: entry.shape[0], columns: entry.shape[1])
    }
    embed = matrix("embed/weight")
    embedNorm = pointer("embed_norm/weight")
    finalNorm = pointer("final_norm/weight")
    step = matrix("step/embedding")
    position = matrix("position/weight")
    memoryInitial = matrix("memory/initial")
    head = matrix("head/weight")
    blocks = (0..<model.blockCount).map { block in
      let prefix = ParameterLayout.blockPrefix(block, model)
      let network = prefix + (model.routedExperts > 0 ? "shared_expert/gate" : "feed_forward/gate")
      return BlockWeights(
        attnNorm: pointer(prefix + "attn_norm/weight"), moeNorm: pointer(prefix + "moe_norm/weight"),
        poolNorm: pointer(prefix + "pool_norm/weight"), recency: pointer(prefix + "recency/weight"),
        structureQuery: matrix(prefix + "soes/query/weight"), structureKey: matrix(prefix + "soes/key/weight"),
        query: matrix(prefix + "attn/query/weight"), key: matrix(prefix + "attn/key/weight"),
        value: matrix(prefix + "attn/value/weight"), output: matrix(prefix + "attn/output/weight"),
        structureGain: pointer(prefix + "attn/structure_gain"), memoryBias: pointer(prefix + "attn/memory_bias"),
        router: matrix(prefix + "router/weight"), routerBias: pointer(prefix + "router/bias"),
        dense: model.denseWidth > 0
          ? ExpertWeights(pointer(network), width: model.width, expertWidth: model.denseWidth) : nil,
        poolQuery: matrix(prefix + "memory/pool_query"), poolKey: matrix(prefix + "memory/pool_key/weight"),
        poolValue: matrix(prefix + "memory/pool_value/weight"), gate: pointer(prefix + "memory/gate/weight"),
        gateBias: pointer(prefix + "memory/gate/bias"), memoryNorm: pointer("memory_norm/weight"))
    }
  }
}
