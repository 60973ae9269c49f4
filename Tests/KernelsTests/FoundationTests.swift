// The basis of the model: random numbers, threads, memory, fixed tiles.

import Foundation
import Kernels
import Synchronization
import Testing

@Suite struct FoundationTests {
  @Test func `Philox produces the published values`() {
    // Known answers of Random123, philox4x32-10.
    #expect(Philox(seed: 0, stream: 0).words(0) == SIMD4(0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8))
    #expect(
      Philox(seed: .max, stream: .max).words(.max) == SIMD4(0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd))
    #expect(
      Philox(seed: 0x299f_31d0_a409_3822, stream: 0x0370_7344_1319_8a2e).words(0x85a3_08d3_243f_6a88)
        == SIMD4(0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1))
  }

  @Test func `normal numbers have the requested mean and deviation`() {
    let count = 40_001
    let values = RealPointer.allocate(capacity: count)
    defer { values.deallocate() }
    Philox(seed: 5, stream: 1).fillNormal(values, count: count, deviation: 0.5)
    var sum = 0.0, squares = 0.0
    for index in 0..<count {
      sum += Double(values[index])
      squares += Double(values[index]) * Double(values[index])
    }
    #expect(abs(sum / Double(count)) < 0.01)
    #expect(abs((squares / Double(count)).squareRoot() - 0.5) < 0.01)
  }

  @Test(arguments: [1, 2, 3, 5])
  func `a team runs every task of every region exactly once`(lanes: Int) {
    let team = Team(laneCount: lanes)
    for region in 0..<300 {
      let count = region % 11
      let done = UnsafeMutablePointer<Int>.allocate(capacity: max(count, 1))
      done.initialize(repeating: 0, count: max(count, 1))
      defer { done.deallocate() }
      team.run(count) { task, lane in
        done[task] += 1
        precondition(lane < lanes)
      }
      for task in 0..<count { #expect(done[task] == 1) }
    }
  }

  @Test(arguments: [0, 1, 127, 128, 129, 1000])
  func `tiles cover a range once and do not depend on threads`(total: Int) {
    let tiles = Tiles(of: total, size: 128)
    #expect((0..<tiles.count).flatMap { Array(tiles[$0]) } == Array(0..<total))
  }

  @Test func `an arena hands out aligned zeros that do not overlap`() {
    let (arena, parts) = Arena.build { ($0.matrix(3, 5), $0.indices(7), $0.shorts(1), $0.reals(0)) }
    withExtendedLifetime(arena) {
      #expect(UInt(bitPattern: parts.0.pointer) % 64 == 0 && UInt(bitPattern: parts.1) % 64 == 0)
      for index in 0..<15 { #expect(parts.0.pointer[index] == 0) }
      for index in 0..<15 { parts.0.pointer[index] = 1 }
      for index in 0..<7 { #expect(parts.1[index] == 0) }
    }
  }

  @Test func `products equal their definition`() {
    let (arena, (a, b, bT, aT, c)) = Arena.build {
      ($0.matrix(5, 7), $0.matrix(7, 3), $0.matrix(3, 7), $0.matrix(7, 5), $0.matrix(5, 3))
    }
    withExtendedLifetime(arena) {
      Philox(seed: 1, stream: 1).fillNormal(a.pointer, count: 35, deviation: 1)
      Philox(seed: 1, stream: 2).fillNormal(b.pointer, count: 21, deviation: 1)
      for i in 0..<5 { for k in 0..<7 { aT.row(k)[i] = a.row(i)[k] } }
      for k in 0..<7 { for j in 0..<3 { bT.row(j)[k] = b.row(k)[j] } }
      func expect(adding: Real) {
        for i in 0..<5 {
          for j in 0..<3 {
            var sum: Real = 0
            for k in 0..<7 { sum += a.row(i)[k] * b.row(k)[j] }
            #expect(abs(c.row(i)[j] - (sum * 2 + adding * sum)) < 1e-4)
          }
        }
      }
      BLAS.multiply(a, b, into: c, scale: 2)
      expect(adding: 0)
      BLAS.multiplyTransposed(a, bT, into: c, adding: true)
      expect(adding: 1)
      BLAS.transposeMultiply(aT, b, into: c, scale: 2)
      expect(adding: 0)
    }
  }

  @Test func `exp, log, cosine and sine are the C library's, within two units in the last place`() {
    for step in -2000...2000 {
      let x = Double(step) * 0.3401
      #expect(abs(SameEverywhere.exp(x) / Foundation.exp(x) - 1) < 5e-16)
      let y = Foundation.exp(x / 3)
      #expect(abs(SameEverywhere.log(y) - Foundation.log(y)) <= 5e-16 * max(1, abs(x)))
      let turns = Double(step) / 4000
      #expect(abs(SameEverywhere.cosine(turns: turns) - Foundation.cos(2 * .pi * turns)) < 5e-16)
      #expect(abs(SameEverywhere.sine(turns: turns) - Foundation.sin(2 * .pi * turns)) < 5e-16)
    }
    #expect(abs(SameEverywhere.pow(10_000, -0.5) - 0.01) < 1e-17)
  }

  @Test func `the fingerprint is the same each time, and names what determines the bits`() {
    let fingerprint = Fingerprint.measure()
    #expect(fingerprint == Fingerprint.measure())
    #expect(fingerprint.split(separator: "/").count == 2)
  }
}
