// The embedding of tokens: H⁰ = norm(e; embed_norm), or e without the norm, where e is the sum of the embeddings of
// the token's features (text has one feature per token). There is no positional encoding, except that the baseline
// may add learned positions to e.

import Kernels

package struct Embedding {
  let sizes: Sizes
  /// The sum of a token's embeddings, and its gradient, (2, D).
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
  func forward(_ tokens: TokenInput, rows: Range<Int>, weights w: Weights, activations a: Activations, into h: Matrix) {
    for row in rows {
      let e = vector(tokens[row], row: row, weights: w)
      if sizes.model.normalizesEmbedding {
        RMSNorm.forward(one(e), gain: w.embedNorm, into: h[rows: row..<row + 1], rstd: a.rstd + row)
      } else {
        h.row(row).update(from: e, count: sizes.width)
      }
    }
  }

  /// Adds to the gradients of the embeddings of the tokens' features, in token order, and of learned positions.
  func backward(
    _ tokens: TokenInput, rows: Range<Int>, weights w: Weights, activations a: Activations, dh: Matrix,
    gradient d: Weights
  ) {
    let width = sizes.width
    for row in rows {
      let features = tokens[row]
      var de = dh.row(row)
      if sizes.model.normalizesEmbedding {
        // With a single feature, the gradient is added to its row directly.
        let isOwn = features.count == 1 && w.position.rows == 0
        de = isOwn ? d.embed.weight.row(Int(features[0])) : sums.row(1)
        if !isOwn { de.update(repeating: 0, count: width) }
        RMSNorm.backward(
          one(vector(features, row: row, weights: w)), gain: w.embedNorm, rstd: a.rstd + row,
          dy: dh[rows: row..<row + 1],
          dx: one(de), dgain: d.embedNorm)
        if isOwn { continue }
      }
      for feature in features { Vectors.add(de, to: d.embed.weight.row(Int(feature)), count: width) }
      if d.position.rows > 0 { Vectors.add(de, to: d.position.row(row), count: width) }
    }
  }

  /// A vector as a matrix of one row, (1, D).
  private func one(_ vector: RealPointer) -> Matrix { Matrix(vector, rows: 1, columns: sizes.width) }

  /// Σ embed[feature] (+ position[row]), (D). With a single feature it is the feature's row itself, without a copy.
  private func vector(_ features: UnsafeBufferPointer<Int32>, row: Int, weights w: Weights) -> RealPointer {
    if features.count == 1, w.position.rows == 0 { return w.embed.weight.row(Int(features[0])) }
    let sum = sums.row(0)
    sum.update(repeating: 0, count: sizes.width)
    for feature in features { Vectors.add(w.embed.weight.row(Int(feature)), to: sum, count: sizes.width) }
    if w.position.rows > 0 { Vectors.add(w.position.row(row), to: sum, count: sizes.width) }
    return sum
  }
}
