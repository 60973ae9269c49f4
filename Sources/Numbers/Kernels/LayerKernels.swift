// The kernels that one layer of the model uses each: taps, forget gates, dense attention. CKernels.h has their formulas
// and shapes. Pointers are to the first value of a matrix of the stated shape. `+=` marks outputs that are added to;
// all others are overwritten.

import CKernels

/// A short convolution over rows, one filter a channel (elementwise.c).
package struct TapsKernel {
  private let shape: ress_taps_shape

  /// - Parameters:
  ///   - taps: w, including the row itself.
  ///   - isTwoSided: whether a row also reads the w − 1 rows after it.
  ///   - before: valid rows before row 0.
  ///   - rows: rows of the segment; later ones are not read.
  package init(width: Int, taps: Int, isTwoSided: Bool, before: Int, rows: Int) {
    shape = ress_taps_shape(
      width: Int64(width), taps: Int64(taps), two_sided: isTwoSided ? 1 : 0, before: Int64(before), rows: Int64(rows))
  }

  /// out (T, D) for some rows, from x, which points at row 0.
  package func forward(_ rows: Range<Int>, x: RealPointer, weight: RealPointer, into out: RealPointer) {
    withUnsafePointer(to: shape) {
      ress_taps_forward($0, Int64(rows.lowerBound), Int64(rows.upperBound), x, weight, out)
    }
  }

  /// dx (T, D) for some rows, from dout (T, D) of the whole segment.
  package func backwardInput(_ rows: Range<Int>, dout: RealPointer, weight: RealPointer, into dx: RealPointer) {
    withUnsafePointer(to: shape) {
      ress_taps_backward_input($0, Int64(rows.lowerBound), Int64(rows.upperBound), dout, weight, dx)
    }
  }

  /// dweight += the gradient of some columns, over all rows.
  package func backwardWeight(columns: Range<Int>, x: RealPointer, dout: RealPointer, into dweight: RealPointer) {
    withUnsafePointer(to: shape) {
      ress_taps_backward_weight($0, Int64(columns.lowerBound), Int64(columns.upperBound), x, dout, dweight)
    }
  }
}

/// Learned terms of tokens and heads that lower attention's scores across them (forget.c).
package enum ForgetKernel {
  /// terms[t, h] = log σ(terms[t, h] + bias[h]), in place over logits (T, H).
  package static func forward(_ terms: Matrix, bias: RealPointer) {
    ress_forget_forward(Int64(terms.rows), Int64(terms.columns), terms.pointer, bias, terms.pointer)
  }

  /// decays[j] = Σ_{l ≤ j} terms[l, head], over all rows, in their order.
  package static func sum(_ terms: Matrix, head: Int, into decays: RealPointer) {
    ress_forget_sum(Int64(terms.rows), Int64(terms.columns), Int64(head), terms.pointer, decays)
  }

  /// The gradient of a head's logits, its column of dlogits (T, H), from ddecays (T).
  package static func backward(_ terms: Matrix, head: Int, ddecays: RealPointer, into dlogits: RealPointer) {
    ress_forget_backward(Int64(terms.rows), Int64(terms.columns), Int64(head), terms.pointer, ddecays, dlogits)
  }
}

/// Softmax over the tokens that a row of the dense baseline sees (dense.c).
package struct VisibleSoftmax {
  private let shape: ress_visible_shape
  /// Tokens that the last row sees.
  package let width: Int

  /// - Parameters:
  ///   - first: token of row 0.
  ///   - isCausal: whether a row sees no token after itself; otherwise it sees all `width`.
  ///   - logsumStride: distance of the logsums and deltas of two rows.
  ///   - decays: F over the tokens, or nil: z_tj = scale · x_tj − |F_t − F_j|.
  package init(width: Int, first: Int, isCausal: Bool, scale: Real, logsumStride: Int, decays: RealPointer?) {
    self.width = width
    shape = ress_visible_shape(
      width: Int64(width), stride: Int64(width), visible: isCausal ? Int64(first + 1) : Int64(width),
      growth: isCausal ? 1 : 0, scale: scale, logsum_stride: Int64(logsumStride), first: Int64(first),
      decays: decays)
  }

  /// In place over scores (T, width); logsums (T) of the rows.
  package func forward(_ scores: Matrix, logsums: RealPointer) {
    precondition(scores.stride == width && scores.columns == width)
    withUnsafePointer(to: shape) { ress_visible_softmax($0, Int64(scores.rows), scores.pointer, logsums) }
  }

  /// From scores and dp (T, width): the probabilities replace the scores, and the gradient of the scores replaces dp.
  /// ddecays (tokens) +=.
  package func backward(
    _ scores: Matrix, dp: Matrix, logsums: RealPointer, delta: RealPointer, ddecays: RealPointer?
  ) {
    precondition(scores.stride == width && scores.columns == width && dp.stride == width && dp.rows == scores.rows)
    withUnsafePointer(to: shape) {
      ress_visible_softmax_backward(
        $0, Int64(scores.rows), logsums, delta, scores.pointer, dp.pointer, ddecays)
    }
  }
}

/// Rotary positions. arXiv 2104.09864.
package enum Rotation {
  /// Rotates components n and n + C/2 of every head of x (T, D) in place, by the rows of `angles` (T, 2, C/2): cosines,
  /// then sines. `direction` −1 rotates back, which computes the gradient.
  package static func apply(to x: Matrix, angles: RealPointer, heads: Int, half: Int, direction: Real) {
    precondition(x.rows <= 1 || x.stride == x.columns)
    ress_rotate(Int64(x.rows), Int64(heads), Int64(half), angles, direction, x.pointer)
  }
}
