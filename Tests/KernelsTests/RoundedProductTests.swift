// Products of factors rounded to bf16: every implementation that this processor has is compared, to the bit, with the
// definition in CKernels/bf16.c, which is written here once more in plain Swift.

import CKernels
import Kernels
import Testing

#if !RESS_DOUBLE
  @Suite(.serialized) struct RoundedProductTests {
    // MARK: The definition

    /// To the nearest bf16, of two equally near ones to the even one; what is subnormal then is 0.
    private func rounded(_ x: Float) -> Float {
      guard !x.isNaN else { return x }
      let bits = x.bitPattern
      let nearest = Float(bitPattern: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) & 0xFFFF_0000)
      return flushed(nearest)
    }

    private func flushed(_ x: Float) -> Float {
      x.magnitude < .leastNormalMagnitude ? Float(signOf: x, magnitudeOf: 0) : x
    }

    /// sum + a · b, rounded once; 0 with its sign where that is subnormal after rounding to 24 bits. The sum in double
    /// precision decides it: the halfway point between the largest subnormal number of 24 bits and the smallest normal
    /// one is exact there.
    private func fused(_ a: Float, _ b: Float, _ sum: Float) -> Float {
      let result = sum.addingProduct(a, b)
      guard result.magnitude <= .leastNormalMagnitude else { return result }
      let wide = Double(a) * Double(b) + Double(sum)
      return wide.magnitude < 0x1p-126 - 0x1p-151 ? Float(signOf: result, magnitudeOf: 0) : result
    }

    private func chain(_ depth: Int, from old: Float, _ a: (Int) -> Float, _ b: (Int) -> Float) -> Float {
      stride(from: 0, to: depth, by: 2).reduce(flushed(old)) { sum, p in
        let odd = p + 1 < depth ? fused(rounded(a(p + 1)), rounded(b(p + 1)), sum) : fused(0, 0, sum)
        return fused(rounded(a(p)), rounded(b(p)), odd)
      }
    }

    // MARK: Values

    enum Values: CaseIterable {
      /// Of a usual size.
      case usual
      /// Their products lie around the smallest normal number.
      case small
      /// Of every size, subnormal ones among them.
      case all
      /// Some are infinite or NaN, or become infinite when they are rounded.
      case notFinite
    }

    private func filled(_ rows: Int, _ columns: Int, stride: Int, _ values: Values, seed: UInt64) -> (Arena, Matrix) {
      let (arena, pointer) = Arena.build { $0.reals(max(1, rows * stride)) }
      let random = Philox(seed: seed, stream: 3)
      random.fillNormal(pointer, count: rows * stride, deviation: 1)
      for index in 0..<rows * stride {
        let word = random.words(UInt64(index) + 1_000_000)[0]
        switch values {
        case .usual: break
        case .small: pointer[index] = Float(bitPattern: word & 0x807F_FFFF | (56 + (word >> 8) % 16) << 23)
        case .all:
          let any = Float(bitPattern: word)
          if any.isFinite { pointer[index] = any }
        case .notFinite:
          let some: [Float] = [.infinity, -.infinity, .nan, .greatestFiniteMagnitude, 0, -0.0, 0x1p-140]
          if word % 40 < 7 { pointer[index] = some[Int(word % 40)] }
        }
      }
      return (arena, Matrix(pointer, rows: rows, columns: columns, stride: stride))
    }

    private func values(_ c: Matrix) -> [Float] { (0..<c.rows).flatMap { i in (0..<c.columns).map { c.row(i)[$0] } } }

    private func expect(_ c: Matrix, _ expected: [Float], _ label: @autoclosure () -> String) {
      for (place, (x, y)) in zip(values(c), expected).enumerated()
      where x.bitPattern != y.bitPattern && !(x.isNaN && y.isNaN) {
        Issue.record("\(label()): value \(place) is \(x) instead of \(y)")
        return
      }
    }

    /// The implementations of this processor; the last one is the program's own choice.
    private func forEachImplementation(_ body: (RoundedProducts.Implementation) -> Void) {
      for implementation in RoundedProducts.Implementation.allCases.reversed()
      where RoundedProducts.use(implementation) { body(implementation) }
      #expect(RoundedProducts.use(.fastest) && RoundedProducts.use(.exact))
      #expect(RoundedProducts.implementation == "exact")
      #expect(RoundedProducts.use(.fastest) && RoundedProducts.implementation != "")
    }

    // MARK: Products

    @Test(
      arguments: [(1, 1), (3, 7), (4, 33), (5, 16), (12, 32), (13, 31), (31, 70), (200, 40), (2, 800)], Values.allCases)
    func `all implementations compute the definition, to the bit, at every size and for every kind of value`(
      size: (Int, Int), values kind: Values
    ) {
      for k in size.0 * size.1 > 1000 ? [3, 257] : [1, 2, 3, 63, 64, 256, 257, 300] { check(size.0, size.1, k, kind) }
    }

    private func check(_ m: Int, _ n: Int, _ k: Int, _ kind: Values) {
      let (keepA, a) = filled(m, k, stride: k + 3, kind, seed: 1)
      let (keepT, aT) = filled(k, m, stride: m + 1, kind, seed: 2)
      let (keepB, b) = filled(k, n, stride: n + 5, kind, seed: 3)
      let (keepW, w) = filled(n, k, stride: k, kind, seed: 4)
      let (keepV, v) = filled(k, n, stride: n, kind, seed: 6)
      let (keepC, c) = filled(m, n, stride: n + 2, kind, seed: 5)
      withExtendedLifetime((keepA, keepT, keepB, keepW, keepV, keepC)) {
        let old = values(c)
        var maps = [LinearMap(w, factors: .bf16), LinearMap(v, factors: .bf16)]
        let packs = PackedMaps(&maps)
        packs.pack(Team(laneCount: 1))
        let bare = LinearMap(w, factors: .bf16)
        for adding in [false, true] {
          func definition(_ a: (Int, Int) -> Float, _ b: (Int, Int) -> Float) -> [Float] {
            (0..<m * n).map { place in
              let (i, j) = (place / n, place % n)
              return chain(k, from: adding ? old[place] : 0, { a(i, $0) }, { b($0, j) })
            }
          }
          let map = definition({ a.row($0)[$1] }, { w.row($1)[$0] })
          let back = definition({ a.row($0)[$1] }, { v.row($0)[$1] })
          let gradient = definition({ aT.row($1)[$0] }, { b.row($0)[$1] })
          withExtendedLifetime(packs) {
            forEachImplementation { implementation in
              func run(_ what: String, _ expected: [Float], _ product: () -> Void) {
                for i in 0..<m { for j in 0..<n { c.row(i)[j] = old[i * n + j] } }
                product()
                expect(c, expected, "\(what), \(implementation), \(m) × \(n) × \(k), adding: \(adding)")
              }
              run("map", map) { BLAS.apply(maps[0], to: a, into: c, adding: adding) }
              run("map that is not packed", map) { BLAS.apply(bare, to: a, into: c, adding: adding) }
              run("back", back) { BLAS.multiply(a, maps[1], into: c, adding: adding) }
              run("gradient", gradient) { BLAS.transposeMultiply(aT, b, into: c, factors: .bf16, adding: adding) }
            }
          }
        }
      }
    }

    @Test func `a row's product has the same bits alone and at any place among others`() {
      let (keepX, x) = filled(131, 257, stride: 257, .usual, seed: 6)
      let (keepW, w) = filled(96, 257, stride: 257, .usual, seed: 7)
      let (keepY, y) = filled(131, 96, stride: 96, .usual, seed: 8)
      let (keepZ, z) = filled(1, 96, stride: 96, .usual, seed: 9)
      withExtendedLifetime((keepX, keepW, keepY, keepZ)) {
        var maps = [LinearMap(w, factors: .bf16)]
        let packs = PackedMaps(&maps)
        packs.pack(Team(laneCount: 2))
        #expect(maps[0].packed != nil && maps[0].packedBack != nil)
        forEachImplementation { implementation in
          BLAS.apply(maps[0], to: x, into: y)
          for row in 0..<131 {
            BLAS.apply(maps[0], to: x[rows: row..<row + 1], into: z)
            expect(z, values(y[rows: row..<row + 1]), "row \(row), \(implementation)")
          }
        }
        withExtendedLifetime(packs) {}
      }
    }

    @Test func `the gradients of a map are those of the rounded factors, within the error of their sums`() {
      let (keepX, x) = filled(50, 70, stride: 70, .usual, seed: 1)
      let (keepW, w) = filled(40, 70, stride: 70, .usual, seed: 2)
      let (keepY, dy) = filled(50, 40, stride: 40, .usual, seed: 3)
      let (keepD, dx) = filled(50, 70, stride: 70, .usual, seed: 4)
      let (keepG, dw) = filled(40, 70, stride: 70, .usual, seed: 5)
      withExtendedLifetime((keepX, keepW, keepY, keepD, keepG)) {
        BLAS.multiply(dy, LinearMap(w, factors: .bf16), into: dx)
        BLAS.transposeMultiply(dy, x, into: dw, factors: .bf16)
        func product(_ a: Float, _ b: Float) -> Double { Double(rounded(a)) * Double(rounded(b)) }
        for row in 0..<50 {
          for column in 0..<70 {
            let sum = (0..<40).reduce(0.0) { $0 + product(dy.row(row)[$1], w.row($1)[column]) }
            #expect(abs(Double(dx.row(row)[column]) - sum) < 2e-5)
          }
        }
        for row in 0..<40 {
          for column in 0..<70 {
            let sum = (0..<50).reduce(0.0) { $0 + product(dy.row($1)[row], x.row($1)[column]) }
            #expect(abs(Double(dw.row(row)[column]) - sum) < 2e-5)
          }
        }
      }
    }

    // MARK: Two bytes

    @Test func `values travel as two bytes, rounded to the nearest, and a product of them has the same bits`() {
      let pairs: [(Float, Float)] = [
        (1, 1), (0x1.01p0, 0x1p0), (0x1.03p0, 0x1.04p0), (0x1.0101p0, 0x1.02p0), (-0x1.01p0, -0x1p0),
        (.infinity, .infinity), (.greatestFiniteMagnitude, .infinity), (0x1p-126, 0x1p-126), (0x1p-127, 0),
        (-0x1p-140, -0.0), (0x1.FFp-127, 0x1p-126), (-0.0, -0.0),
      ]
      var bytes = [UInt16](repeating: 0, count: pairs.count + 1)
      var back = [Float](repeating: 0, count: pairs.count + 1)
      var given = pairs.map(\.0) + [.nan]
      RoundedProducts.encode(&given, count: given.count, into: &bytes)
      RoundedProducts.decode(&bytes, count: given.count, into: &back)
      for (value, pair) in zip(back, pairs) {
        #expect(value.bitPattern == pair.1.bitPattern, "\(pair.0) became \(value)")
        #expect(rounded(pair.0).bitPattern == pair.1.bitPattern)
      }
      #expect(back.last!.isNaN)

      let (keepX, x) = filled(9, 65, stride: 65, .all, seed: 1)
      let (keepS, sent) = filled(9, 65, stride: 65, .usual, seed: 2)
      let (keepW, w) = filled(20, 65, stride: 65, .all, seed: 3)
      let (keepY, y) = filled(9, 20, stride: 20, .usual, seed: 4)
      withExtendedLifetime((keepX, keepS, keepW, keepY)) {
        var message = [UInt16](repeating: 0, count: x.count)
        RoundedProducts.encode(x.pointer, count: x.count, into: &message)
        RoundedProducts.decode(&message, count: x.count, into: sent.pointer)
        let map = LinearMap(w, factors: .bf16)
        BLAS.apply(map, to: x, into: y)
        let here = values(y)
        BLAS.apply(map, to: sent, into: y)
        expect(y, here, "rows as two bytes")
      }
    }
  }
#endif
