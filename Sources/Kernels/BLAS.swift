// Matrix products. The bits of a product's result may depend on the shape of the call and on the number of threads
// (OpenBLAS divides the work differently). To make results independent of the cluster, every call runs on the
// calling thread, and its shape is determined by the unit of data that it belongs to.
//
// Products with a packed weight, and large ones, use this program's own kernel where it supports the processor
// (CKernels/gemm.c); all others use OpenBLAS.

import CKernels
import COpenBLAS

package enum BLAS {
  /// Limits OpenBLAS to the calling thread. Must be called before any product.
  package static func useOneThread() { openblas_set_num_threads(1) }

  /// The set of kernels that OpenBLAS selected for this processor, for example "Haswell".
  package static var coreName: String { String(cString: openblas_get_corename()) }
  package static var configuration: String { String(cString: openblas_get_config()) }

  /// c (m, n) = a (m, k) · bᵀ, b (n, k): a linear map with PyTorch's weight layout. With `adding`, c += instead.
  package static func multiplyTransposed(
    _ a: Matrix, _ b: Matrix, into c: Matrix, scale: Real = 1, adding: Bool = false
  ) {
    precondition(a.columns == b.columns && c.rows == a.rows && c.columns == b.rows, shapes(a, b, c))
    gemm(CblasNoTrans, CblasTrans, c.rows, c.columns, a.columns, scale, a, b, adding, c)
  }

  /// y (m, n) = x (m, k) · wᵀ, w (n, k): a linear map.
  package static func apply(_ map: LinearMap, to x: Matrix, into y: Matrix, adding: Bool = false) {
    let w = map.weight
    guard let packed = map.packed else { return multiplyTransposed(x, w, into: y, adding: adding) }
    precondition(x.columns == w.columns && y.rows == x.rows && y.columns == w.rows, shapes(x, w, y))
    ress_gemm_packed(
      Int64(x.rows), Int64(w.rows), Int64(w.columns), x.pointer, Int64(x.stride), packed, y.pointer, Int64(y.stride),
      adding ? 1 : 0)
  }

  /// Computes as many columns of c as our kernel can: whole panels, if the product is deep enough (k) to pay for
  /// loading and storing the result. Returns the columns that remain. The choice depends on the shape alone. a[i,
  /// p] is at a + i · row + p · step.
  private static func multiplyPanels(
    _ a: RealPointer, row: Int, step: Int, _ b: Matrix, into c: Matrix, scale: Real, adding: Bool,
    depthAtLeast least: Int
  ) -> Range<Int> {
    let panel = Int(ress_gemm_panel())
    guard panel > 0, scale == 1, c.rows >= 4, b.rows >= least else { return 0..<c.columns }
    let own = c.columns / panel * panel
    if own > 0 {
      ress_gemm(
        Int64(c.rows), Int64(own), Int64(b.rows), a, Int64(row), Int64(step), b.pointer, Int64(b.stride), c.pointer,
        Int64(c.stride), adding ? 1 : 0)
    }
    return own..<c.columns
  }

  /// c (m, n) = a (m, k) · b (k, n).
  package static func multiply(_ a: Matrix, _ b: Matrix, into c: Matrix, scale: Real = 1, adding: Bool = false) {
    precondition(a.columns == b.rows && c.rows == a.rows && c.columns == b.columns, shapes(a, b, c))
    let rest = multiplyPanels(
      a.pointer, row: a.stride, step: 1, b, into: c, scale: scale, adding: adding, depthAtLeast: 64)
    gemm(
      CblasNoTrans, CblasNoTrans, c.rows, rest.count, a.columns, scale, a, b[columns: rest], adding, c[columns: rest])
  }

  /// c (m, n) = aᵀ · b, a (k, m), b (k, n), for example the gradient of a weight, summed over k rows.
  package static func transposeMultiply(_ a: Matrix, _ b: Matrix, into c: Matrix, scale: Real = 1, adding: Bool = false)
  {
    precondition(a.rows == b.rows && c.rows == a.columns && c.columns == b.columns, shapes(a, b, c))
    let rest = multiplyPanels(
      a.pointer, row: 1, step: a.stride, b, into: c, scale: scale, adding: adding, depthAtLeast: 256)
    gemm(CblasTrans, CblasNoTrans, c.rows, rest.count, a.rows, scale, a, b[columns: rest], adding, c[columns: rest])
  }

  private static func gemm(
    _ transA: CBLAS_TRANSPOSE, _ transB: CBLAS_TRANSPOSE, _ m: Int, _ n: Int, _ k: Int, _ scale: Real, _ a: Matrix,
    _ b: Matrix, _ adding: Bool, _ c: Matrix
  ) {
    guard m > 0, n > 0 else { return }
    #if RESS_DOUBLE
      cblas_dgemm(
        CblasRowMajor, transA, transB, blasint(m), blasint(n), blasint(k), scale, a.pointer, blasint(max(a.stride, 1)),
        b.pointer, blasint(max(b.stride, 1)), adding ? 1 : 0, c.pointer, blasint(c.stride))
    #else
      cblas_sgemm(
        CblasRowMajor, transA, transB, blasint(m), blasint(n), blasint(k), scale, a.pointer, blasint(max(a.stride, 1)),
        b.pointer, blasint(max(b.stride, 1)), adding ? 1 : 0, c.pointer, blasint(c.stride))
    #endif
  }

  private static func shapes(_ a: Matrix, _ b: Matrix, _ c: Matrix) -> String {
    "product of \(a.rows) × \(a.columns) and \(b.rows) × \(b.columns) into \(c.rows) × \(c.columns)"
  }
}
