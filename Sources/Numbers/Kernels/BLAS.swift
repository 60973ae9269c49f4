// Matrix products, by the kernels of CKernels/gemm.c and, with factors rounded to bf16, CKernels/bf16.c. Every call
// runs on the calling thread. A row of a result has the same bits whatever the other rows are, and whatever processor
// computes it.

import CKernels

package enum BLAS {
  /// c (m, n) = a (m, k) · bᵀ, b (n, k): a linear map with PyTorch's weight layout. With `adding`, c += instead.
  package static func multiplyTransposed(
    _ a: Matrix, _ b: Matrix, into c: Matrix, scale: Real = 1, adding: Bool = false
  ) {
    precondition(a.columns == b.columns && c.rows == a.rows && c.columns == b.rows, shapes(a, b, c))
    multiply(
      a.pointer, row: a.stride, step: 1, b.pointer, row: 1, step: b.stride, into: c, depth: a.columns, scale: scale,
      adding: adding)
  }

  /// y (m, n) = x (m, k) · wᵀ, w (n, k): a linear map.
  package static func apply(_ map: LinearMap, to x: Matrix, into y: Matrix, adding: Bool = false) {
    let w = map.weight
    precondition(x.columns == w.columns && y.rows == x.rows && y.columns == w.rows, shapes(x, w, y))
    switch (map.factors, map.packed) {
    case (.full, nil):
      guard w.rows >= LinearMap.manyOutputs, x.rows < w.rows else {
        return multiplyTransposed(x, w, into: y, adding: adding)
      }
      ress_gemm_unpacked(
        Int64(x.rows), Int64(w.rows), Int64(w.columns), x.pointer, Int64(x.stride), w.pointer, Int64(w.stride),
        y.pointer, Int64(y.stride), adding ? 1 : 0)
    case (.full, let packed?):
      ress_gemm_packed(
        Int64(x.rows), Int64(w.rows), Int64(w.columns), x.pointer, Int64(x.stride), packed, y.pointer, Int64(y.stride),
        adding ? 1 : 0)
    case (.bf16, let packed?): RoundedProducts.multiply(x, packed: packed, into: y, adding: adding)
    case (.bf16, nil):
      RoundedProducts.multiply(
        x.pointer, row: x.stride, step: 1, w.pointer, row: 1, step: w.stride, into: y, depth: x.columns, adding: adding)
    }
  }

  /// dx (m, k) = dy (m, n) · w (n, k): the gradient of a linear map's input.
  package static func multiply(_ dy: Matrix, _ map: LinearMap, into dx: Matrix, adding: Bool = false) {
    let w = map.weight
    precondition(dy.columns == w.rows && dx.rows == dy.rows && dx.columns == w.columns, shapes(dy, w, dx))
    switch (map.factors, map.packedBack) {
    case (.full, _): multiply(dy, w, into: dx, adding: adding)
    case (.bf16, let packed?): RoundedProducts.multiply(dy, packed: packed, into: dx, adding: adding)
    case (.bf16, nil):
      RoundedProducts.multiply(
        dy.pointer, row: dy.stride, step: 1, w.pointer, row: w.stride, step: 1, into: dx, depth: dy.columns,
        adding: adding)
    }
  }

  /// c (m, n) = a (m, k) · b (k, n).
  package static func multiply(_ a: Matrix, _ b: Matrix, into c: Matrix, scale: Real = 1, adding: Bool = false) {
    precondition(a.columns == b.rows && c.rows == a.rows && c.columns == b.columns, shapes(a, b, c))
    multiply(
      a.pointer, row: a.stride, step: 1, b.pointer, row: b.stride, step: 1, into: c, depth: a.columns, scale: scale,
      adding: adding)
  }

  /// c (m, n) = aᵀ · b, a (k, m), b (k, n): the gradient of a weight, summed over rows. With rounded factors the scale
  /// is 1.
  package static func transposeMultiply(
    _ a: Matrix, _ b: Matrix, into c: Matrix, scale: Real = 1, factors: Factors = .full, adding: Bool = false
  ) {
    precondition(a.rows == b.rows && c.rows == a.columns && c.columns == b.columns, shapes(a, b, c))
    switch factors {
    case .full:
      multiply(
        a.pointer, row: 1, step: a.stride, b.pointer, row: b.stride, step: 1, into: c, depth: a.rows, scale: scale,
        adding: adding)
    case .bf16:
      precondition(scale == 1)
      RoundedProducts.multiply(
        a.pointer, row: 1, step: a.stride, b.pointer, row: b.stride, step: 1, into: c, depth: a.rows, adding: adding)
    }
  }

  /// Element a[i, p] is at a + i · row + p · step, and b[p, j] at b + p · row + j · step.
  private static func multiply(
    _ a: RealPointer, row aRow: Int, step aStep: Int, _ b: RealPointer, row bRow: Int, step bStep: Int, into c: Matrix,
    depth: Int, scale: Real, adding: Bool
  ) {
    precondition(scale == 1 || !adding, "a scale would multiply the old values as well")
    ress_gemm(
      Int64(c.rows), Int64(c.columns), Int64(depth), a, Int64(aRow), Int64(aStep), b, Int64(bRow), Int64(bStep),
      c.pointer, Int64(c.stride), adding ? 1 : 0, scale)
  }

  private static func shapes(_ a: Matrix, _ b: Matrix, _ c: Matrix) -> String {
    "product of \(a.rows) × \(a.columns) and \(b.rows) × \(b.columns) into \(c.rows) × \(c.columns)"
  }
}
