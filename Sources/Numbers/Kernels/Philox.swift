// Random numbers by counter: a number depends on (seed, stream, counter) and not on numbers drawn before. Any
// worker can therefore draw any number of any step, and no generator state is exchanged or saved. Salmon et al.,
// "Parallel random numbers: as easy as 1, 2, 3" (2011), Philox4x32-10.

package struct Philox: Sendable {
  private let key: (UInt32, UInt32)
  private let stream: (UInt32, UInt32)

  /// `stream` separates the places that draw with one seed, such as parameters.
  package init(seed: UInt64, stream: UInt64) {
    key = (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
    self.stream = (UInt32(truncatingIfNeeded: stream), UInt32(truncatingIfNeeded: stream >> 32))
  }

  /// The four random words of a counter value.
  package func words(_ counter: UInt64) -> SIMD4<UInt32> {
    var x = SIMD4(
      UInt32(truncatingIfNeeded: counter), UInt32(truncatingIfNeeded: counter >> 32), stream.0, stream.1)
    var k = key
    for _ in 0..<10 {
      let a = UInt64(0xD251_1F53) * UInt64(x[0])
      let b = UInt64(0xCD9E_8D57) * UInt64(x[2])
      x = SIMD4(
        UInt32(truncatingIfNeeded: b >> 32) ^ x[1] ^ k.0, UInt32(truncatingIfNeeded: b),
        UInt32(truncatingIfNeeded: a >> 32) ^ x[3] ^ k.1, UInt32(truncatingIfNeeded: a))
      k.0 &+= 0x9E37_79B9
      k.1 &+= 0xBB67_AE85
    }
    return x
  }

  /// A number in [0, 1), with 53 random bits.
  package func uniform(_ counter: UInt64) -> Double {
    let w = words(counter)
    return Double((UInt64(w[0]) << 32 | UInt64(w[1])) >> 11) * 0x1p-53
  }

  /// Fills with N(0, deviation²), by the method of Box and Muller, in double.
  package func fillNormal(_ values: RealPointer, count: Int, deviation: Double) {
    for pair in 0..<(count + 1) / 2 {
      let w = words(UInt64(pair))
      let u = (Double(w[0]) + 0.5) * 0x1p-32
      let v = Double(w[1]) * 0x1p-32
      let radius = deviation * (-2 * SameEverywhere.log(u)).squareRoot()
      values[2 * pair] = Real(radius * SameEverywhere.cosine(turns: v))
      if 2 * pair + 1 < count { values[2 * pair + 1] = Real(radius * SameEverywhere.sine(turns: v)) }
    }
  }
}
