// The order of training: which sequence is used at each position. An epoch visits every sequence once, in an order
// of its own. The order is a keyed permutation that is computed and not stored: any worker finds the sequence at
// any position in constant time, the state of the data loader is one integer, and a dataset of any size needs no
// table.
//
// A Feistel network of four rounds permutes the numbers of an even number of bits. A result outside of the dataset
// is permuted again until it is inside (cycle walking). Black and Rogaway, "Ciphers with arbitrary finite domains"
// (2002).

import Kernels

package struct Sampler: Sendable {
  package let sequenceCount: Int
  private let seed: UInt64
  private let halfBits: UInt64

  package init(seed: UInt64, sequenceCount: Int) {
    precondition(sequenceCount > 0, "an empty dataset has no order")
    self.seed = seed
    self.sequenceCount = sequenceCount
    let bits = UInt64.bitWidth - UInt64(sequenceCount - 1).leadingZeroBitCount
    halfBits = UInt64(max(1, (bits + 1) / 2))
  }

  /// The sequence at a position of the run, counted from its first step.
  package func sequence(at position: Int) -> Int {
    let epoch = position / sequenceCount
    let keys = Philox(seed: seed, stream: Sampler.stream).words(UInt64(epoch))
    var value = UInt64(position % sequenceCount)
    repeat { value = permute(value, keys) } while value >= UInt64(sequenceCount)
    return Int(value)
  }

  /// Philox stream of the keys, distinct from the streams of all parameters.
  private static let stream: UInt64 = 0x5A3F_0000_0000

  private func permute(_ value: UInt64, _ keys: SIMD4<UInt32>) -> UInt64 {
    let mask = (UInt64(1) << halfBits) - 1
    var left = value >> halfBits
    var right = value & mask
    for round in 0..<4 {
      // Mixes half and key to 64 bits (Stafford's variant 13 of the MurmurHash3 finalizer).
      var mixed = right ^ (UInt64(keys[round]) << 20) ^ UInt64(round)
      mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
      mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
      mixed ^= mixed >> 31
      (left, right) = (right, left ^ (mixed & mask))
    }
    return left << halfBits | right
  }
}
