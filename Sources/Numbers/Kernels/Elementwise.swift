// The kernels of elementwise.c, with shapes taken from matrices. CKernels.h has their formulas and sources.
//
// Rows of every matrix here are adjacent (stride = columns), unless a function says otherwise. `+=` marks outputs that
// are added to; all others are overwritten.

import CKernels

/// y[t] = x[t] · rstd[t] · gain, rstd = 1/√(mean(x²) + ε). arXiv 1910.07467.
package enum RMSNorm {
  /// x (T, D), gain (D) → y (T, D), rstd (T).
  package static func forward(_ x: Matrix, gain: RealPointer, into y: Matrix, rstd: RealPointer) {
    x.checkAdjacent(y)
    ress_rmsnorm_forward(Int64(x.rows), Int64(x.columns), x.pointer, gain, y.pointer, rstd)
  }

  /// dx (T, D) += and dgain (D) +=, from dy (T, D).
  package static func backward(
    _ x: Matrix, gain: RealPointer, rstd: RealPointer, dy: Matrix, dx: Matrix, dgain: RealPointer
  ) {
    x.checkAdjacent(dy)
    x.checkAdjacent(dx)
    ress_rmsnorm_backward(
      Int64(x.rows), Int64(x.columns), x.pointer, gain, rstd, dy.pointer, dx.pointer, dgain)
  }
}

/// h = silu(gate) ⊙ up. arXiv 2002.05202.
package enum SwiGLU {
  /// gate and up (N, 2f), gate in the first f columns → h (N, f).
  package static func forward(gateUp: Matrix, into h: Matrix) {
    precondition(gateUp.rows == h.rows && gateUp.columns == 2 * h.columns, "gate and up of another shape than h")
    ress_swiglu_forward(Int64(h.rows), Int64(h.columns), gateUp.pointer, h.pointer)
  }

  /// dgateUp (N, 2f) from dh (N, f). h is computed again as well, because the gradient of the weight needs it.
  package static func backward(gateUp: Matrix, dh: Matrix, dgateUp: Matrix, h: Matrix) {
    gateUp.checkAdjacent(dgateUp)
    h.checkAdjacent(dh)
    ress_swiglu_backward(Int64(h.rows), Int64(h.columns), gateUp.pointer, dh.pointer, dgateUp.pointer, h.pointer)
  }
}

package enum Softmax {
  /// Softmax of scale · x over each row, in place. Rows may be apart.
  package static func rows(of x: Matrix, scale: Real) {
    ress_softmax_rows(Int64(x.rows), Int64(x.columns), Int64(x.stride), scale, x.pointer)
  }

  /// dx = scale · p ⊙ (dp − Σ p dp), in place over dp. Rows of both may be apart, equally far.
  package static func backward(_ p: Matrix, dp: Matrix, scale: Real) {
    precondition(p.rows == dp.rows && p.columns == dp.columns && p.stride == dp.stride)
    ress_softmax_rows_backward(Int64(p.rows), Int64(p.columns), Int64(p.stride), scale, p.pointer, dp.pointer)
  }
}

package enum CrossEntropy {
  /// The sum of the losses of the rows of logits (T, V) in nats. A row whose target is negative is ignored. Where
  /// `gradientScale` is not 0, the logits are replaced by gradientScale · (softmax − one-hot).
  package static func sum(
    _ logits: Matrix, targets: UnsafePointer<Int32>, gradientScale: Real
  ) -> Double {
    precondition(logits.rows <= 1 || logits.stride == logits.columns, "rows of logits that are not adjacent")
    return ress_cross_entropy(Int64(logits.rows), Int64(logits.columns), logits.pointer, targets, gradientScale)
  }
}

/// Sums and products of vectors of `count` values.
package enum Vectors {
  /// y += x
  package static func add(_ x: RealPointer, to y: RealPointer, count: Int) { ress_add(Int64(count), x, y) }

  /// y += factor · x
  package static func add(_ x: RealPointer, times factor: Real, to y: RealPointer, count: Int) {
    ress_axpy(Int64(count), factor, x, y)
  }

  /// In double, in a fixed order of eight interleaved sums.
  package static func sumOfSquares(_ x: RealPointer, count: Int) -> Double { ress_sum_of_squares(Int64(count), x) }

  package static func dot(_ x: RealPointer, _ y: RealPointer, count: Int) -> Real { ress_dot(Int64(count), x, y) }
}

/// Adam with bias-corrected moments and decoupled weight decay: the constants of one step. arXiv 1711.05101.
package struct AdamW {
  private let rate, gradientScale, beta1, beta2, epsilon, correction1, correction2: Real

  /// - Parameters:
  ///   - gradientScale: factor of every gradient.
  ///   - correction1: 1 − β₁ᵗ, and `correction2` 1 − β₂ᵗ, at step t from 1.
  package init(
    rate: Double, gradientScale: Double, beta1: Double, beta2: Double, epsilon: Double, correction1: Double,
    correction2: Double
  ) {
    (self.rate, self.gradientScale, self.epsilon) = (Real(rate), Real(gradientScale), Real(epsilon))
    (self.beta1, self.beta2) = (Real(beta1), Real(beta2))
    (self.correction1, self.correction2) = (Real(correction1), Real(correction2))
  }

  /// Changes `count` values and their two moments.
  package func update(
    _ values: RealPointer, first: RealPointer, second: RealPointer, gradient: RealPointer, count: Int, decay: Real
  ) {
    ress_adamw(
      Int64(count), values, first, second, gradient, gradientScale, rate, beta1, beta2, epsilon, decay, correction1,
      correction2)
  }
}

extension Matrix {
  /// out (T, D) = each row + y (D).
  package func adding(row y: RealPointer, into out: RealPointer) {
    precondition(stride == columns)
    ress_add_row(Int64(rows), Int64(columns), pointer, y, out)
  }

  /// y (D) += the sum of the rows, in their order.
  package func addRows(to y: RealPointer) {
    precondition(rows <= 1 || stride == columns)
    ress_sum_rows(Int64(rows), Int64(columns), pointer, y)
  }

  /// The same shape as another matrix, and the rows of both adjacent. A single row is always adjacent.
  fileprivate func checkAdjacent(_ other: Matrix) {
    precondition(
      rows == other.rows && columns == other.columns
        && (rows <= 1 || stride == columns && other.stride == columns),
      "matrices \(rows) × \(columns) and \(other.rows) × \(other.columns)")
  }
}
