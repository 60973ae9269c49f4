// The head for spans: where an answer starts and where it ends. It has two logits per token, norm(Hᴷ; final_norm)
// headᵀ, with a softmax over all tokens of the sequence for each. The forward pass keeps only the two numbers per
// token, so the loss does not need the segments' activations.

import Kernels

package struct SpanHead: OutputHead {
  private let sizes: Sizes
  /// Logits of the whole sequence, later their gradient: a row for the start and one for the end, (2, tokens).
  private let logits: Matrix
  /// A segment's normalised rows and their gradient (T, D), 1/rms (T).
  private let normed, dnormed: Matrix
  private let rstd: RealPointer

  init(_ arena: Arena, _ sizes: Sizes, maximumTokens: Int) {
    self.sizes = sizes
    logits = arena.matrix(2, maximumTokens)
    normed = arena.matrix(sizes.segment, sizes.width)
    dnormed = arena.matrix(sizes.segment, sizes.width)
    rstd = arena.reals(sizes.segment)
  }

  /// Computes the segment's logits, (2, rows).
  package func read(_ h: Matrix, start: Int, rowCount: Int, weights w: Weights) {
    let rows = 0..<rowCount
    RMSNorm.forward(h[rows: rows], gain: w.finalNorm, into: normed[rows: rows], rstd: rstd)
    BLAS.multiplyTransposed(w.head.weight, normed[rows: rows], into: logits[columns: start..<start + rowCount])
  }

  package func sequence(
    memory: Matrix, targets: UnsafeBufferPointer<Int32>, tokenCount: Int, weights w: Weights, scale: Real,
    dmemory: Matrix,
    gradient d: Weights?
  ) -> Double {
    dmemory.clear()
    return (0..<2).reduce(0) { total, border in
      total
        + CrossEntropy.sum(
          logits[rows: border..<border + 1][columns: 0..<tokenCount], targets: targets.baseAddress! + border,
          gradientScale: d == nil ? 0 : scale)
    }
  }

  package func segment(
    _ h: Matrix, start: Int, rowCount: Int, targets: UnsafeBufferPointer<Int32>, weights w: Weights, scale: Real,
    dh: Matrix,
    gradient d: Weights?
  ) -> Double {
    guard let d else { return 0 }
    let rows = 0..<rowCount
    let dlogits_2T = logits[columns: start..<start + rowCount]
    RMSNorm.forward(h[rows: rows], gain: w.finalNorm, into: normed[rows: rows], rstd: rstd)
    BLAS.transposeMultiply(dlogits_2T, w.head.weight, into: dnormed[rows: rows])
    BLAS.multiply(dlogits_2T, normed[rows: rows], into: d.head.weight, adding: true)
    dh.clear()
    RMSNorm.backward(
      h[rows: rows], gain: w.finalNorm, rstd: rstd, dy: dnormed[rows: rows], dx: dh[rows: rows], dgain: d.finalNorm)
    return 0
  }

  package func writeLogits(_ h: Matrix, start: Int, rowCount: Int, weights w: Weights, into out: Matrix) {
    let rows = 0..<rowCount
    RMSNorm.forward(h[rows: rows], gain: w.finalNorm, into: normed[rows: rows], rstd: rstd)
    BLAS.multiplyTransposed(normed[rows: rows], w.head.weight, into: out[rows: start..<start + rowCount])
  }

  package func writeLogits(memory: Matrix, tokenCount: Int, weights w: Weights, into out: Matrix) {}
}
