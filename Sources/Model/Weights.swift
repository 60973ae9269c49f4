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

package struct Weights {
  package let embed: Matrix
  package let embedNorm, attnNorm, moeNorm, poolNorm, memoryNorm, finalNorm: RealPointer
  package let step: Matrix
  package let recency: RealPointer
  package let structureQuery, structureKey: Matrix
  package let query, key, value, output: Matrix
  package let structureGain, memoryBias: RealPointer
  package let router: Matrix
  package let routerBias: RealPointer
  package let sharedExpert: ExpertWeights?
  package let memoryInitial, poolQuery: Matrix
  package let poolKey, poolValue: Matrix
  package let gate: RealPointer
  package let gateBias: RealPointer

  package init(_ buffer: ParameterBuffer, _ model: ModelConfiguration) {
    self.init(buffer.layout, dense: buffer.dense, model)
  }

  /// Views into `dense`, which holds the dense parameters of `layout`.
  package init(_ layout: ParameterLayout, dense: RealPointer, _ model: ModelConfiguration) {
    func pointer(_ name: String) -> RealPointer {
      guard let entry = layout.denseEntry(name) else { preconditionFailure("no parameter \(name)") }
      return dense + entry.offset
    }
    func matrix(_ name: String) -> Matrix {
      guard let entry = layout.denseEntry(name) else { preconditionFailure("no parameter \(name)") }
      return Matrix(dense + entry.offset, rows: entry.shape[0], columns: entry.shape[1])
    }
    embed = matrix("embed/weight")
    embedNorm = pointer("embed_norm/weight")
    attnNorm = pointer("attn_norm/weight")
    moeNorm = pointer("moe_norm/weight")
    poolNorm = pointer("pool_norm/weight")
    memoryNorm = pointer("memory_norm/weight")
    finalNorm = pointer("final_norm/weight")
    step = matrix("step/embedding")
    recency = pointer("recency/weight")
    structureQuery = matrix("soes/query/weight")
    structureKey = matrix("soes/key/weight")
    query = matrix("attn/query/weight")
    key = matrix("attn/key/weight")
    value = matrix("attn/value/weight")
    output = matrix("attn/output/weight")
    structureGain = pointer("attn/structure_gain")
    memoryBias = pointer("attn/memory_bias")
    router = matrix("router/weight")
    routerBias = pointer("router/bias")
    sharedExpert =
      model.sharedExpert
      ? ExpertWeights(pointer("shared_expert/gate"), width: model.width, expertWidth: model.expertWidth) : nil
    memoryInitial = matrix("memory/initial")
    poolQuery = matrix("memory/pool_query")
    poolKey = matrix("memory/pool_key/weight")
    poolValue = matrix("memory/pool_value/weight")
    gate = pointer("memory/gate/weight")
    gateBias = pointer("memory/gate/bias")
  }
}
