// What `model.precision: bf16` brings on a processor, in words for `ress doctor` and `ress plan`.

/// Measured speeds of one thread, on products with a packed weight.
package struct BF16Speed: Equatable, Sendable {
  /// As `RoundedProducts.implementation` names it.
  package var implementation: String
  /// Whether the processor has AVX512-BF16.
  package var hasInstruction: Bool
  /// GFLOP/s.
  package var single: Double
  package var rounded: Double

  package init(implementation: String, hasInstruction: Bool, single: Double, rounded: Double) {
    (self.implementation, self.hasInstruction) = (implementation, hasInstruction)
    (self.single, self.rounded) = (single, rounded)
  }

  /// In relation to single precision.
  package var ratio: Double { rounded / single }

  /// `1.80 times the speed of fp32 (AVX512-BF16)`
  package var text: String { "\(Format.fixed(ratio, 2)) times the speed of fp32 (\(reason))" }

  private var reason: String {
    switch implementation {
    case "avx512-bf16": "AVX512-BF16"
    case "exact": "the processor has no fused multiply-adds, so every product is computed in C"
    default:
      hasInstruction
        ? "fused multiply-adds; the processor's AVX512-BF16 is slower and is not used"
        : "fused multiply-adds; the processor has no AVX512-BF16"
    }
  }
}
