// Random numbers for tests, all drawn from one seed, which is printed so that a failure can be repeated.

import Foundation

/// SplitMix64. Streams of one seed are independent, so that tests may run in any order and in parallel.
package struct Chance: RandomNumberGenerator, Sendable {
  private var state: UInt64

  /// `RESS_CHANCE=N scripts/test.sh --filter …` repeats a run with the seed that scripts/test.sh printed.
  package static let seed: UInt64 = {
    if let given = ProcessInfo.processInfo.environment["RESS_CHANCE"].flatMap({ UInt64($0) }) { return given }
    let drawn = UInt64.random(in: 0..<1 << 32)
    FileHandle.standardError.write(Data("chance: RESS_CHANCE=\(drawn) repeats these tests\n".utf8))
    return drawn
  }()

  /// - Parameter stream: identifies the use, for example the test.
  package init(_ stream: String) {
    state = stream.utf8.reduce(Self.seed) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }

  /// The numbers of one given seed, for tests that go through a range of seeds and report the one that failed.
  package init(seed: UInt64) { state = seed }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
