// Products whose factors are rounded to bf16, by the kernels of CKernels/bf16.c, which has their definition. The
// double-precision build, which only tests use, has none of them.

import CKernels

/// How a product reads its factors: as they are, or rounded to bf16. Sums are in the precision of `Real` either way.
package enum Factors: Sendable { case full, bf16 }

package enum RoundedProducts {
  /// How the products are computed; every way gives the same bits.
  package enum Implementation: Int32, CaseIterable, Sendable {
    /// The fastest of those below that this processor has, by a measurement of some milliseconds.
    case fastest = 0
    /// One element at a time, in C.
    case exact
    /// The products of single precision, on rounded factors.
    case fused
    /// The instruction vdpbf16ps.
    case dots
  }

  /// Whether the build has these products.
  package static var areSupported: Bool { MemoryLayout<Real>.size == 4 }

  #if RESS_DOUBLE
    private static var refusal: String { "the double-precision build has no products of bf16 factors" }
    package static var implementation: String { refusal }
    package static func use(_ implementation: Implementation) -> Bool { false }
    static func packedCount(outputs: Int, inputs: Int) -> Int { preconditionFailure(refusal) }
    static func pack(_ map: LinearMap, back: Bool, panels: Range<Int>) { preconditionFailure(refusal) }
    static func multiply(_ x: Matrix, packed: RealPointer, into y: Matrix, adding: Bool) {
      preconditionFailure(refusal)
    }
    static func multiply(
      _ a: RealPointer, row aRow: Int, step aStep: Int, _ b: RealPointer, row bRow: Int, step bStep: Int,
      into c: Matrix, depth: Int, adding: Bool
    ) { preconditionFailure(refusal) }
    package static func encode(_ x: RealPointer, count: Int, into bytes: UnsafeMutablePointer<UInt16>) {
      preconditionFailure(refusal)
    }
    package static func decode(_ bytes: UnsafePointer<UInt16>, count: Int, into x: RealPointer) {
      preconditionFailure(refusal)
    }
  #else
    /// Name of the implementation in use: `avx512-bf16`, `fused` or `exact`.
    package static var implementation: String { String(cString: ress_bf16_implementation()) }

    /// Uses an implementation from now on; returns false, and changes nothing, where the processor lacks it. For tests
    /// and measurements.
    package static func use(_ implementation: Implementation) -> Bool { ress_bf16_use(implementation.rawValue) != 0 }

    /// Words of a packed right factor (inputs, outputs): two of its values each.
    static func packedCount(outputs: Int, inputs: Int) -> Int {
      let panel = Int(ress_gemm_panel())
      return (outputs + panel - 1) / panel * panel * ((inputs + 1) / 2)
    }

    /// Packs some panels of a map's weight for y = x Wᵀ, or with `back` for dx = dy W.
    static func pack(_ map: LinearMap, back: Bool, panels: Range<Int>) {
      let w = map.weight
      ress_bf16_pack(
        Int64(back ? w.columns : w.rows), Int64(back ? w.rows : w.columns), w.pointer, back ? Int64(w.stride) : 1,
        back ? 1 : Int64(w.stride), Int64(panels.lowerBound), Int64(panels.upperBound),
        words(back ? map.packedBack! : map.packed!))
    }

    /// y (m, n) = x (m, k) · packed (k, n), or +=.
    static func multiply(_ x: Matrix, packed: RealPointer, into y: Matrix, adding: Bool) {
      ress_bf16_packed(
        Int64(x.rows), Int64(y.columns), Int64(x.columns), x.pointer, Int64(x.stride), words(packed), y.pointer,
        Int64(y.stride), adding ? 1 : 0)
    }

    /// Element a[i, p] is at a + i · row + p · step, and b[p, j] at b + p · row + j · step.
    static func multiply(
      _ a: RealPointer, row aRow: Int, step aStep: Int, _ b: RealPointer, row bRow: Int, step bStep: Int,
      into c: Matrix, depth: Int, adding: Bool
    ) {
      ress_bf16(
        Int64(c.rows), Int64(c.columns), Int64(depth), a, Int64(aRow), Int64(aStep), b, Int64(bRow), Int64(bStep),
        c.pointer, Int64(c.stride), adding ? 1 : 0)
    }

    /// Values rounded to bf16, in two bytes each.
    package static func encode(_ x: RealPointer, count: Int, into bytes: UnsafeMutablePointer<UInt16>) {
      ress_bf16_encode(Int64(count), x, bytes)
    }

    package static func decode(_ bytes: UnsafePointer<UInt16>, count: Int, into x: RealPointer) {
      ress_bf16_decode(Int64(count), bytes, x)
    }

    /// Packed factors lie in an arena of reals.
    private static func words(_ packed: RealPointer) -> UnsafeMutablePointer<UInt32> {
      UnsafeMutableRawPointer(packed).assumingMemoryBound(to: UInt32.self)
    }
  #endif
}
