// Matrix products. Every call runs on the thread that makes it, and its shape is decided by the unit of data it
// belongs to, because OpenBLAS changes a row's bits with the shape of the call and the number of threads.

import COpenBLAS

package enum BLAS {
  /// Call once, before any product: one thread a call.
  package static func useOneThread() { openblas_set_num_threads(1) }

  /// The kernel set that OpenBLAS picked for this processor, "Haswell" say.
  package static var coreName: String { String(cString: openblas_get_corename()) }
  package static var configuration: String { String(cString: openblas_get_config()) }

  /// c (m, n) = a (m, k) · bᵀ, b (n, k): a linear map with PyTorch's weight layout. `adding` keeps what c held.
  package static func multiplyTransposed(
    _ a: Matrix, _ b: Matrix, into c: Matrix, scale: Real = 1, adding: Bool = false
  ) {
    precondition(a.columns == b.columns && c.rows == a.rows && c.columns == b.rows, shapes(a, b, c))
    gemm(CblasNoTrans, CblasTrans, c.rows, c.columns, a.columns, scale, a, b, adding, c)
  }

  /// c (m, n) = a (m, k) · b (k, n).
  package static func multiply(_ a: Matrix, _ b: Matrix, into c: Matrix, scale: Real = 1, adding: Bool = false) {
    precondition(a.columns == b.rows && c.rows == a.rows && c.columns == b.columns, shapes(a, b, c))
    gemm(CblasNoTrans, CblasNoTrans, c.rows, c.columns, a.columns, scale, a, b, adding, c)
  }

  /// c (m, n) = aᵀ · b, a (k, m), b (k, n): the gradient of a weight, summed over rows.
  package static func transposeMultiply(_ a: Matrix, _ b: Matrix, into c: Matrix, scale: Real = 1, adding: Bool = false)
  {
    precondition(a.rows == b.rows && c.rows == a.columns && c.columns == b.columns, shapes(a, b, c))
    gemm(CblasTrans, CblasNoTrans, c.rows, c.columns, a.rows, scale, a, b, adding, c)
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
