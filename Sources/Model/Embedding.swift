// Tokens to vectors: H⁰ = norm(embed[x]; embed_norm). No position is added; the model orders tokens by the recency sum.
// The baseline has H⁰ = embed[x], plus the position's row where positions are learned.

import CKernels
import Kernels

package struct Embedding {
  let sizes: Sizes

  package struct Activations {
    let rstd: RealPointer
    init(_ arena: Arena, _ sizes: Sizes) { rstd = arena.reals(sizes.segment) }
  }

  /// tokens (T) → h (T, D)
  func forward(_ tokens: UnsafePointer<Int32>, rows: Range<Int>, _ w: Weights, _ a: Activations, into h: Matrix) {
    let width = Int64(sizes.width)
    if sizes.model.isTransformer {
      for row in rows {
        h.row(row).update(from: w.embed.weight.row(Int(tokens[row])), count: sizes.width)
        if w.position.rows > 0 { ress_add(width, w.position.row(row), h.row(row)) }
      }
      return
    }
    for row in rows {
      ress_rmsnorm_forward(1, width, w.embed.weight.row(Int(tokens[row])), w.embedNorm, h.row(row), a.rstd + row)
    }
  }

  /// Adds to the rows of `embed` that the tokens name, in token order.
  func backward(
    _ tokens: UnsafePointer<Int32>, rows: Range<Int>, _ w: Weights, _ a: Activations, dh: Matrix, _ d: Weights
  ) {
    let width = Int64(sizes.width)
    if sizes.model.isTransformer {
      for row in rows {
        ress_add(width, dh.row(row), d.embed.weight.row(Int(tokens[row])))
        if d.position.rows > 0 { ress_add(width, dh.row(row), d.position.row(row)) }
      }
      return
    }
    for row in rows {
      let token = Int(tokens[row])
      ress_rmsnorm_backward(
        1, width, w.embed.weight.row(token), w.embedNorm, a.rstd + row, dh.row(row), d.embed.weight.row(token),
        d.embedNorm)
    }
  }
}
