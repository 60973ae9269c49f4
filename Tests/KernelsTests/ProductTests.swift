// Matrix products: compared with their definition at edge sizes, to the bit, and with OpenBLAS's; and the promise that
// the bits of a row do not depend on other rows.

import CKernels
import Kernels
import OpenBLAS
import Testing

@Suite struct ProductTests {
  private func filled(_ rows: Int, _ columns: Int, stride: Int? = nil, seed: UInt64) -> (Arena, Matrix) {
    let stride = stride ?? columns
    let (arena, pointer) = Arena.build { $0.reals(max(1, rows * stride)) }
    Philox(seed: seed, stream: 3).fillNormal(pointer, count: rows * stride, deviation: 1)
    return (arena, Matrix(pointer, rows: rows, columns: columns, stride: stride))
  }

  private func expect(
    _ c: Matrix, _ before: [Real], depth: Int, adding: Bool, _ label: String, _ element: (Int, Int, Int) -> Double
  ) {
    for i in 0..<c.rows {
      for j in 0..<c.columns {
        var sum = adding ? Double(before[i * c.columns + j]) : 0
        for p in 0..<depth { sum += element(i, j, p) }
        let error = abs(Double(c.row(i)[j]) - sum)
        if error > 2e-5 * Double(depth).squareRoot() * 4 {
          Issue.record("\(label) at \(i), \(j): \(c.row(i)[j]) is not \(sum)")
          return
        }
      }
    }
  }

  @Test(arguments: [1, 3, 4, 5, 12, 13, 31], [1, 7, 16, 31, 32, 33, 70])
  func `a product equals its definition at every size, overwritten or added`(m: Int, n: Int) {
    for k in [1, 2, 63, 64, 100, 256, 300] { check(m, n, k) }
  }

  private func check(_ m: Int, _ n: Int, _ k: Int) {
    let (keepA, a) = filled(m, k, stride: k + 3, seed: 1)
    let (keepT, aT) = filled(k, m, stride: m + 1, seed: 2)
    let (keepB, b) = filled(k, n, stride: n + 5, seed: 3)
    let (keepW, w) = filled(n, k, stride: k, seed: 4)
    let (keepC, c) = filled(m, n, stride: n + 2, seed: 5)
    withExtendedLifetime((keepA, keepT, keepB, keepW, keepC)) {
      var maps = [LinearMap(w)]
      let packs = PackedMaps(&maps)
      packs.pack(Team(laneCount: 1))
      withExtendedLifetime(packs) {
        for adding in [false, true] {
          let before = (0..<m).flatMap { i in (0..<n).map { c.row(i)[$0] } }
          BLAS.multiply(a, b, into: c, adding: adding)
          expect(c, before, depth: k, adding: adding, "multiply") { Double(a.row($0)[$2]) * Double(b.row($2)[$1]) }
        }
        for adding in [false, true] {
          let before = (0..<m).flatMap { i in (0..<n).map { c.row(i)[$0] } }
          BLAS.transposeMultiply(aT, b, into: c, adding: adding)
          expect(c, before, depth: k, adding: adding, "transposed") { Double(aT.row($2)[$0]) * Double(b.row($2)[$1]) }
        }
        for adding in [false, true] {
          let before = (0..<m).flatMap { i in (0..<n).map { c.row(i)[$0] } }
          BLAS.apply(maps[0], to: a, into: c, adding: adding)
          expect(c, before, depth: k, adding: adding, "map") { Double(a.row($0)[$2]) * Double(w.row($1)[$2]) }
        }
      }
    }
  }

  @Test func `every element is one chain of fused multiply-adds over k, which begins with the old value`() {
    for (m, n, k) in [(1, 1, 1), (5, 33, 300), (13, 40, 257), (50, 70, 520)] {
      let (keepA, a) = filled(m, k, seed: 1)
      let (keepB, b) = filled(n, k, seed: 2)
      let (keepC, c) = filled(m, n, seed: 3)
      withExtendedLifetime((keepA, keepB, keepC)) {
        let expected = (0..<m).flatMap { i in
          (0..<n).map { j in (0..<k).reduce(c.row(i)[j]) { $0.addingProduct(a.row(i)[$1], b.row(j)[$1]) }.bitPattern }
        }
        BLAS.multiplyTransposed(a, b, into: c, adding: true)
        #expect((0..<m * n).allSatisfy { c.pointer[$0].bitPattern == expected[$0] }, "\(m) × \(n) × \(k)")
      }
    }
  }

  @Test func `a product is OpenBLAS's, within the error of its sums`() {
    OpenBLAS.useOneThread()
    let (keepA, a) = filled(37, 211, seed: 1)
    let (keepB, b) = filled(53, 211, seed: 2)
    let (keepC, c) = filled(37, 53, seed: 3)
    let (keepD, d) = filled(37, 53, seed: 4)
    withExtendedLifetime((keepA, keepB, keepC, keepD)) {
      BLAS.multiplyTransposed(a, b, into: c)
      OpenBLAS.multiplyTransposed(a, b, into: d)
      #expect((0..<c.count).allSatisfy { abs(c.pointer[$0] - d.pointer[$0]) < 1e-4 })
    }
  }

  @Test func `a row's product with a packed map has the same bits alone and at any place among others`() {
    let (width, outputs) = (256, 96)
    let (keepX, x) = filled(131, width, seed: 6)
    let (keepW, w) = filled(outputs, width, seed: 7)
    let (keepY, y) = filled(131, outputs, seed: 8)
    let (keepZ, z) = filled(1, outputs, seed: 9)
    withExtendedLifetime((keepX, keepW, keepY, keepZ)) {
      var maps = [LinearMap(w)]
      let packs = PackedMaps(&maps)
      packs.pack(Team(laneCount: 2))
      #expect(maps[0].packed != nil)
      BLAS.apply(maps[0], to: x, into: y)
      for row in 0..<131 {
        BLAS.apply(maps[0], to: x[rows: row..<row + 1], into: z)
        #expect((0..<outputs).allSatisfy { y.row(row)[$0].bitPattern == z.row(0)[$0].bitPattern }, "row \(row)")
      }
    }
  }

  @Test(arguments: [1, 2, 15, 16, 17, 33, 48, 100, 130], [256, 257, 300])
  func `a product with a weight that is not packed has the same bits as one that is`(rows: Int, outputs: Int) {
    // 7000: a panel of rows does not fit the buffers.
    for width in [1, 30, 256, 700, 2048, 7000] where width < 7000 || rows < 20 {
      let (keepX, x) = filled(rows, width, stride: width + 3, seed: 6)
      let (keepW, w) = filled(outputs, width, stride: width + 1, seed: 7)
      let (keepY, y) = filled(rows, outputs, stride: outputs + 5, seed: 8)
      let (keepZ, z) = filled(rows, outputs, stride: outputs + 5, seed: 8)
      withExtendedLifetime((keepX, keepW, keepY, keepZ)) {
        var maps = [LinearMap(w)]
        let packs = PackedMaps(&maps)
        packs.pack(Team(laneCount: 1))
        for adding in [true, false] {
          BLAS.apply(maps[0], to: x, into: y, adding: adding)
          BLAS.apply(LinearMap(w), to: x, into: z, adding: adding)
          let same = (0..<rows * (outputs + 5)).allSatisfy { y.pointer[$0].bitPattern == z.pointer[$0].bitPattern }
          #expect(same, "\(rows) × \(outputs) × \(width), adding: \(adding)")
        }
        withExtendedLifetime(packs) {}
      }
    }
  }

  @Test func `values beside a strided result are not touched`() {
    let (keepA, a) = filled(13, 64, seed: 1)
    let (keepB, b) = filled(64, 40, seed: 2)
    let (keepC, whole) = filled(13, 60, seed: 3)
    withExtendedLifetime((keepA, keepB, keepC)) {
      let before = (0..<whole.count).map { whole.pointer[$0] }
      BLAS.multiply(a, b, into: whole[columns: 10..<50])
      for row in 0..<13 {
        for column in Array(0..<10) + Array(50..<60) {
          #expect(whole.row(row)[column] == before[row * 60 + column])
        }
      }
    }
  }
}
