// What must be chosen, against a plain sort: the graph's neighbours, the k largest scores of attention, the router's
// experts. Equal scores are common in tests and rare in life; the order among them is part of the contract.

import CKernels
import Kernels
import Testing

@Suite struct SelectionTests {
  private func random(_ count: Int, seed: UInt64, levels: Int? = nil) -> [Real] {
    let philox = Philox(seed: seed, stream: 6)
    return (0..<count).map { index in
      let u = philox.uniform(UInt64(index))
      return levels.map { Real(Int(u * Double($0))) } ?? Real(2 * u - 1)
    }
  }

  @Test(arguments: [1, 2, 5, 17, 64, 200], [nil, 3, 1])
  func `a token's neighbours are its window and the best before it, later tokens first among equals`(
    visible: Int, levels: Int?
  ) {
    for (window, degree) in [(1, 0), (3, 4), (8, 16), (1, 300), (5, 1)] {
      let scores = random(visible, seed: UInt64(visible), levels: levels)
      let capacity = window + degree
      var neighbours = [Int32](repeating: -1, count: capacity)
      var count: Int32 = 0
      var weights = [Real](repeating: 0, count: capacity), structure = weights
      var heap = [Int32](repeating: 0, count: max(degree, 1))
      // One row, which sees all tokens before it as cached.
      ress_graph_forward(
        0, 1, Int64(visible - 1), Int64(window), Int64(degree), scores, Int64(visible), &neighbours, &count, &weights,
        &structure, &heap)
      let border = max(0, visible - window)
      let best = (0..<border).sorted { scores[$0] == scores[$1] ? $0 > $1 : scores[$0] > scores[$1] }.prefix(degree)
      let expected = best.sorted() + Array(border..<visible)
      #expect(neighbours.prefix(Int(count)).map { Int($0) } == expected)
      let sum = weights.prefix(Int(count)).reduce(0) { $0 + Double($1) }
      #expect(abs(sum - 1) < 1e-5)
    }
  }

  /// Sparsemax of the k largest by the definition: sort, take the longest prefix with 1 + ρ z_ρ > Σ z.
  private func sparsemax(_ z: [Double], kept: Int, tokens: Int) -> [Int: Double] {
    func first(_ x: Int, _ y: Int) -> Bool {
      if z[x] != z[y] { return z[x] > z[y] }
      if (x < tokens) != (y < tokens) { return x < tokens }
      return x < tokens ? x > y : x < y
    }
    let order = z.indices.sorted(by: first).prefix(kept)
    var sum = 0.0, size = 0, sumAtSize = 0.0
    for (place, index) in order.enumerated() {
      sum += z[index]
      if 1 + Double(place + 1) * z[index] > sum { (size, sumAtSize) = (place + 1, sum) }
    }
    let tau = (sumAtSize - 1) / Double(size)
    return Dictionary(uniqueKeysWithValues: order.prefix(size).map { ($0, z[$0] - tau) })
  }

  @Test(arguments: [1, 2, 3, 8, 40], [nil, 2, 1])
  func `attention weighs the k largest scores by sparsemax`(kept: Int, levels: Int?) {
    let tokens = 12, slots = 3, width = 1
    for seed in UInt64(0)..<40 {
      // Head width 1 and a query of 1: the scores are the keys.
      let keys = random(tokens, seed: seed, levels: levels).map { $0 * 0.3 }
      let slotKeys = random(slots, seed: seed + 100, levels: levels).map { $0 * 0.3 }
      let values = [Real](repeating: 1, count: tokens), slotValues = [Real](repeating: 1, count: slots)
      let neighbours = (0..<tokens).map { Int32($0) }
      let structure = [Real](repeating: 0, count: tokens)
      let used = min(kept, tokens + slots)
      var shape = ress_attention_shape(
        heads: 1, head_width: Int64(width), width: Int64(width), kept: Int64(used), capacity: Int64(tokens),
        slots: Int64(slots), cached: Int64(tokens - 1))
      var support = [UInt16](repeating: 0, count: used), count = [UInt16](repeating: 0, count: 1)
      var weights = [Real](repeating: 0, count: used), out = [Real](repeating: 0, count: 1)
      var scratch = [Real](repeating: 0, count: 2 * (tokens + slots)),
        order = [Int32](repeating: 0, count: tokens + slots)
      ress_attention_forward(
        &shape, 0, 0, 1, [1], keys, values, slotKeys, slotValues, neighbours, [Int32(tokens)], structure, 1, 0,
        &support,
        &count, &weights, &out, &scratch, &order)
      let expected = sparsemax((keys + slotKeys).map { Double($0) }, kept: kept, tokens: tokens)
      let ours = Dictionary(uniqueKeysWithValues: (0..<Int(count[0])).map { (Int(support[$0]), Double(weights[$0])) })
      #expect(Set(ours.keys) == Set(expected.keys), "seed \(seed)")
      for (place, weight) in expected { #expect(abs((ours[place] ?? -1) - weight) < 1e-5, "seed \(seed)") }
      #expect(abs(out[0] - 1) < 1e-5)
    }
  }

  @Test
  func `the router takes the largest biased logits, the smaller index among equals, and weighs them without the bias`()
  {
    let logits: [Real] = [1, 3, 3, 0, 2]
    let bias: [Real] = [2, 0, 0, 4, 0]
    var top = [Int32](repeating: -1, count: 3), weights = [Real](repeating: 0, count: 3)
    var probabilities = [Real](repeating: 0, count: 5), logsum: Real = 0
    ress_router_forward(1, 5, 3, logits, bias, &top, &weights, &probabilities, &logsum)
    #expect(top == [3, 0, 1])
    let ratio = Double(weights[2]) / Double(weights[1])
    #expect(abs(ratio - 7.389056) < 1e-4)
    #expect(abs(probabilities.reduce(0) { $0 + Double($1) } - 1) < 1e-5)
  }

  @Test(arguments: [1, 2, 7, 8, 15, 16, 31, 257, 4096])
  func `softmax agrees with the definition at every width`(width: Int) {
    let x = random(width, seed: UInt64(width)).map { $0 * 20 }
    var p = x
    ress_softmax_rows(1, Int64(width), Int64(width), 1, &p)
    let largest = Double(x.max()!)
    let exponentials = x.map { (Double($0) - largest) }.map { exponential($0) }
    let total = exponentials.reduce(0, +)
    for index in 0..<width { #expect(abs(Double(p[index]) - exponentials[index] / total) < 2e-6) }
  }

  /// e^x by its series on a halved argument, independent of any library.
  private func exponential(_ x: Double) -> Double {
    var term = 1.0, sum = 1.0
    let small = x / 64
    for n in 1..<20 {
      term *= small / Double(n)
      sum += term
    }
    for _ in 0..<6 { sum *= sum }
    return sum
  }
}
