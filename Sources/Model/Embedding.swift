// Tokens to vectors: H⁰ = norm(e; embed_norm), e the sum of the embeddings of the token's features, of which text has one. No position
// is added; the model orders tokens by the recency sum. The baseline has H⁰ = e, plus the position's row where positions are learned.

import CKernels
import Kernels

package struct Embedding {
  let sizes: Sizes
  /// The sum of a token's embeddings and its gradient, (2, D).
  private let sums: Matrix

  init(_ arena: Arena, _ sizes: Sizes) {
    self.sizes = sizes
    sums = arena.matrix(2, sizes.width)
  }

  package struct Activations {
    let rstd: RealPointer
    init(_ arena: Arena, _ sizes: Sizes) { rstd = arena.reals(sizes.segment) }
  }

  /// tokens (T) → h (T, D)
  func forward(_ tokens: TokenInput, rows: Range<Int>, _ w: Weights, _ a: Activations, into h: Matrix) {
    let width = Int64(sizes.width)
    if sizes.model.isTransformer {
      for row in rows {
        h.row(row).update(from: sum(tokens[row], w), count: sizes.width)
        if w.position.rows > 0 { ress_add(width, w.position.row(row), h.row(row)) }
      }
      return
    }
    for row in rows {
      ress_rmsnorm_forward(1, width, sum(tokens[row], w), w.embedNorm, h.row(row), a.rstd + row)
    }
  }

  /// Adds to the rows of `embed` that the tokens' features name, in their order.
  func backward(
    _ tokens: TokenInput, rows: Range<Int>, _ w: Weights, _ a: Activations, dh: Matrix, _ d: Weights
  ) {
    let width = Int64(sizes.width)
    for row in rows {
      let features = tokens[row]
      if sizes.model.isTransformer {
        for feature in features { ress_add(width, dh.row(row), d.embed.weight.row(Int(feature))) }
        if d.position.rows > 0 { ress_add(width, dh.row(row), d.position.row(row)) }
        continue
      }
      let isOne = features.count == 1
      let dsum = isOne ? d.embed.weight.row(Int(features[0])) : sums.row(1)
      if !isOne { dsum.update(repeating: 0, count: sizes.width) }
      ress_rmsnorm_backward(1, width, sum(features, w), w.embedNorm, a.rstd + row, dh.row(row), dsum, d.embedNorm)
      if !isOne { for feature in features { ress_add(width, dsum, d.embed.weight.row(Int(feature))) } }
    }
  }

  /// Σ embed[feature], (D); a feature's own row where it is the only one.
  private func sum(_ features: UnsafeBufferPointer<Int32>, _ w: Weights) -> RealPointer {
    if features.count == 1 { return w.embed.weight.row(Int(features[0])) }
    let sum = sums.row(0)
    sum.update(repeating: 0, count: sizes.width)
    for feature in features { ress_add(Int64(sizes.width), w.embed.weight.row(Int(feature)), sum) }
    return sum
  }
}
