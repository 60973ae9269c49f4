// The numerics fingerprint: which definitions of the kernels a program computes by, and a hash of what it computed by
// them. Every processor gives the same bits (CKernels/kernels.h says how), so the fingerprints of one version are
// equal; a machine whose hash differs computes wrongly. Workers with different fingerprints cannot train together, and
// a checkpoint notes the one that it was trained with.

import CKernels

package enum Fingerprint {
  /// The instruction set that our kernels use on this machine.
  package static var kernelClone: String { String(cString: ress_kernels_clone()) }

  /// The version of the definitions. A change that alters a bit of a curve on purpose raises it.
  private static let definitions = 1

  /// For example `ress-1/9c3f2b7a11d04e56`: the version of the definitions, and a hash of a probe computation.
  package static func measure() -> String {
    let precision = MemoryLayout<Real>.size == 4 ? "" : "-double"
    return "ress-\(definitions)\(precision)/\(hexadecimal(probe()))"
  }

  /// FNV-1a hash of the bits of two products, a norm and a softmax of fixed random input. The shapes are chosen to
  /// reach the kernels' vector loops and the loops for the remainders.
  private static func probe() -> UInt64 {
    let (arena, (x, y, w, z, normed)) = Arena.build {
      ($0.matrix(67, 93), $0.matrix(45, 93), $0.matrix(93, 45), $0.matrix(67, 45), $0.matrix(67, 45))
    }
    return withExtendedLifetime(arena) {
      Philox(seed: 0x5EED, stream: 1).fillNormal(x.pointer, count: x.count, deviation: 1)
      Philox(seed: 0x5EED, stream: 2).fillNormal(y.pointer, count: y.count, deviation: 1)
      Philox(seed: 0x5EED, stream: 3).fillNormal(w.pointer, count: w.count, deviation: 1)
      BLAS.multiplyTransposed(x, y, into: z)
      BLAS.multiply(x, w, into: z, adding: true)
      ress_rmsnorm_forward(Int64(z.rows), Int64(z.columns), z.pointer, y.pointer, normed.pointer, x.pointer)
      ress_softmax_rows(Int64(z.rows), Int64(z.columns), Int64(z.stride), 0.7, normed.pointer)
      var hash: UInt64 = 0xCBF2_9CE4_8422_2325
      for index in 0..<normed.count { hash = (hash ^ UInt64(normed.pointer[index].bitPattern)) &* 0x100_0000_01B3 }
      return hash
    }
  }

  private static func hexadecimal(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
