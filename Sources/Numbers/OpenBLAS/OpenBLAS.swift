// OpenBLAS's matrix product, on the calling thread. Tests compare the products of Kernels with it, and ress-bench times
// a step as a share of its speed. Training does not use it: its bits differ between processors, shapes and versions.

import COpenBLAS
import Kernels

package enum OpenBLAS {
  /// Limits OpenBLAS to the calling thread. Must be called before any product.
  package static func useOneThread() { openblas_set_num_threads(1) }

  /// The set of kernels that OpenBLAS selected for this processor, for example "Haswell". Where it does not know the
  /// processor it selects an old one, such as "Prescott".
  package static var coreName: String { String(cString: openblas_get_corename()) }

  /// c (m, n) = a (m, k) · bᵀ, b (n, k).
  package static func multiplyTransposed(_ a: Matrix, _ b: Matrix, into c: Matrix) {
    precondition(a.columns == b.columns && c.rows == a.rows && c.columns == b.rows)
    let (m, n, k) = (blasint(c.rows), blasint(c.columns), blasint(a.columns))
    let (lda, ldb, ldc) = (blasint(a.stride), blasint(b.stride), blasint(c.stride))
    #if RESS_DOUBLE
      cblas_dgemm(
        CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, a.pointer, lda, b.pointer, ldb, 0, c.pointer, ldc)
    #else
      cblas_sgemm(
        CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, a.pointer, lda, b.pointer, ldb, 0, c.pointer, ldc)
    #endif
  }
}
