// Selections compared with a plain sort: the graph's neighbours, the k largest scores of attention, the router's
// experts. Equal scores are common in these tests and rare in practice; their order is part of the contract.

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

  @Test(arguments: [1, 2, 5, 17, 64, 200, 777, 4_000], [nil, 100, 3, 1])
  func `a token's neighbours are its window and the best before it, later tokens first among equals`(
    visible: Int, levels: Int?
  ) {
    for (window, degree) in [(1, 0), (3, 4), (8, 16), (1, 300), (5, 1), (16, 32), (16, 64), (2, 128)] {
      let scores = random(visible, seed: UInt64(visible), levels: levels)
      let capacity = window + degree
      var neighbours = [Int32](repeating: -1, count: capacity)
      var count: Int32 = 0
      var weights = [Real](repeating: 0, count: capacity), structure = weights
      var heap = [Int32](repeating: 0, count: max(degree, 1))
      // One row, which sees all tokens before it as cached tokens.
      var shape = ress_graph_shape(
        cached: Int64(visible - 1), visible: Int64(visible), causal: 1, before: Int64(window - 1), after: 0,
        degree: Int64(degree), capacity: Int64(capacity))
      ress_graph_forward(
        &shape, nil, 0, 1, scores, Int64(visible), &neighbours, &count, &weights, &structure, &heap, nil, nil)
      let border = max(0, visible - window)
      let best = (0..<border).sorted { scores[$0] == scores[$1] ? $0 > $1 : scores[$0] > scores[$1] }.prefix(degree)
      let expected = best.sorted() + Array(border..<visible)
      #expect(neighbours.prefix(Int(count)).map { Int($0) } == expected)
      let sum = weights.prefix(Int(count)).reduce(0) { $0 + Double($1) }
      #expect(abs(sum - 1) < 1e-5)
    }
  }

  @Test(arguments: [1, 2, 5, 17, 64, 200, 500], [nil, 100, 3, 1])
  func `a token of a bidirectional model has a window on both sides and the best outside it`(visible: Int, levels: Int?)
  {
    for (reach, degree) in [(0, 0), (0, 16), (2, 4), (4, 16), (1, 300), (40, 3), (8, 64)] {
      let scores = random(visible * visible, seed: UInt64(visible + 1), levels: levels)
      let capacity = min(2 * reach + 1 + degree, visible)
      var neighbours = [Int32](repeating: -1, count: visible * capacity)
      var counts = [Int32](repeating: 0, count: visible)
      var weights = [Real](repeating: 0, count: visible * capacity), structure = weights
      var heap = [Int32](repeating: 0, count: max(degree, 1))
      let cached = visible / 3
      let rows = visible - cached
      var shape = ress_graph_shape(
        cached: Int64(cached), visible: Int64(visible), causal: 0, before: Int64(reach), after: Int64(reach),
        degree: Int64(degree), capacity: Int64(capacity))
      ress_graph_forward(
        &shape, nil, 0, Int64(rows), scores, Int64(visible), &neighbours, &counts, &weights, &structure, &heap, nil, nil
      )
      for row in 0..<rows {
        let token = cached + row
        let window = max(0, token - reach)..<min(visible, token + reach + 1)
        let row_S = scores[row * visible..<(row + 1) * visible].map { $0 }
        let best = (0..<visible).filter { !window.contains($0) }
          .sorted { row_S[$0] == row_S[$1] ? $0 > $1 : row_S[$0] > row_S[$1] }.prefix(degree)
        let found = neighbours[row * capacity..<row * capacity + Int(counts[row])].map { Int($0) }
        #expect(found == (best + Array(window)).sorted(), "row \(row), reach \(reach), degree \(degree)")
      }
    }
  }

  @Test(arguments: [1, 2, 5, 17, 64, 200, 500], [nil, 3, 1])
  func `related tokens are chosen before all others, each by score, and biases are added for every kind`(
    visible: Int, levels: Int?
  ) {
    for (reach, degree, share) in [(0, 4, 0.1), (2, 4, 0.5), (1, 16, 0.02), (1, 300, 0.3), (8, 64, 0.9), (3, 0, 0.5)] {
      let cached = visible / 3, rows = visible - cached, capacity = min(2 * reach + 1 + degree, visible)
      // The first visible token is number 5 of its sequence; tokens before it and after the last are not seen.
      let first = 5, bias: [Real] = [0.5, -1.25]
      let draws = random(rows * (visible + 10) * 2, seed: UInt64(visible + 7))
      var starts: [Int32] = [0], pairs: [Int32] = []
      var related = Array(repeating: [Int: Real](), count: rows)
      for row in 0..<rows {
        for token in 0..<visible + 10 {
          for kind in 0..<2 where Double(draws[(row * (visible + 10) + token) * 2 + kind]) < 2 * share - 1 {
            pairs += [Int32(token), Int32(kind)]
            related[row][token - first, default: 0] += bias[kind]
          }
        }
        starts.append(Int32(pairs.count / 2))
      }
      var scores = random(rows * visible, seed: UInt64(visible + 1), levels: levels)
      let plain = scores
      var neighbours = [Int32](repeating: -1, count: rows * capacity), counts = [Int32](repeating: 0, count: rows)
      var weights = [Real](repeating: 0, count: rows * capacity), structure = weights
      var heap = [Int32](repeating: 0, count: max(degree, 1)), places = [Int32](repeating: 0, count: visible)
      var pool = [Real](repeating: 0, count: visible)
      var shape = ress_graph_shape(
        cached: Int64(cached), visible: Int64(visible), causal: 0, before: Int64(reach), after: Int64(reach),
        degree: Int64(degree), capacity: Int64(capacity))
      var biases = bias
      starts.withUnsafeBufferPointer { starts in
        pairs.withUnsafeBufferPointer { pairs in
          biases.withUnsafeMutableBufferPointer { bias in
            // Without a pair none is read.
            let none = starts.baseAddress!
            var relations = ress_relations(
              starts: starts.baseAddress, pairs: pairs.baseAddress ?? none, first: Int64(first), bias: bias.baseAddress)
            ress_relations_add(&relations, 0, Int64(rows), Int64(visible), &scores, Int64(visible))
            ress_graph_forward(
              &shape, &relations, 0, Int64(rows), scores, Int64(visible), &neighbours, &counts, &weights, &structure,
              &heap, &pool, &places)
          }
        }
      }
      for row in 0..<rows {
        let token = cached + row
        let window = max(0, token - reach)..<min(visible, token + reach + 1)
        let row_S = (0..<visible).map { plain[row * visible + $0] + (related[row][$0] ?? 0) }
        for j in 0..<visible { #expect(abs(scores[row * visible + j] - row_S[j]) < 1e-5) }
        func isBetter(_ x: Int, _ y: Int) -> Bool {
          let (a, b) = (scores[row * visible + x], scores[row * visible + y])
          if (related[row][x] != nil) != (related[row][y] != nil) { return related[row][x] != nil }
          return a == b ? x > y : a > b
        }
        let best = (0..<visible).filter { !window.contains($0) }.sorted(by: isBetter).prefix(degree)
        let found = neighbours[row * capacity..<row * capacity + Int(counts[row])].map { Int($0) }
        #expect(found == (best + Array(window)).sorted(), "row \(row), reach \(reach), degree \(degree)")
      }
    }
  }

  /// Sparsemax of the k largest by its definition: sort, and take the longest prefix with 1 + ρ z_ρ > Σ z.
  private func sparsemax(_ z: [Double], kept: Int, tokens: Int) -> [Int: Double] {
    let order = ranked(z, tokens: tokens).prefix(kept)
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
    weigh(kept: kept, levels: levels, activation: RESS_SPARSEMAX, expected: sparsemax)
  }

  @Test(arguments: [1, 2, 3, 8, 40, 400], [nil, 2, 1])
  func `attention weighs the k largest scores by softmax if configured`(kept: Int, levels: Int?) {
    weigh(kept: kept, levels: levels, activation: RESS_SOFTMAX) { z, kept, tokens in
      let order = ranked(z, tokens: tokens).prefix(kept)
      let weights = order.map { exponential(z[$0] - z[order[0]]) }
      let total = weights.reduce(0, +)
      return Dictionary(uniqueKeysWithValues: zip(order, weights).map { ($0, $1 / total) })
    }
  }

  @Test(arguments: [1, 2, 3, 8, 40], [nil, 2, 1])
  func `attention weighs the k largest scores by 1,5-entmax if configured`(kept: Int, levels: Int?) {
    weigh(kept: kept, levels: levels, activation: RESS_ENTMAX15) { z, kept, tokens in
      // By bisection: the sum of max(z/2 − τ, 0)² decreases as τ increases.
      let order = Array(ranked(z, tokens: tokens).prefix(kept))
      var low = z[order[0]] / 2 - 1, high = z[order[0]] / 2
      for _ in 0..<60 {
        let middle = (low + high) / 2
        let sum = order.reduce(0.0) { $0 + max(z[$1] / 2 - middle, 0) * max(z[$1] / 2 - middle, 0) }
        if sum > 1 { low = middle } else { high = middle }
      }
      return Dictionary(uniqueKeysWithValues: order.map { ($0, max(z[$0] / 2 - low, 0) * max(z[$0] / 2 - low, 0)) })
        .filter { $0.value > 1e-9 }
    }
  }

  @Test func `with softmax, all keys kept and no structure gain, sparse attention equals dense attention`() {
    let rows = 9, heads = 2, headWidth = 4, width = 8
    let queries = random(rows * width, seed: 1), keys = random(rows * width, seed: 2),
      values = random(rows * width, seed: 3)
    // The graph's scores do not matter: every earlier token is a neighbour.
    let scores = random(rows * rows, seed: 4)
    var neighbours = [Int32](repeating: -1, count: rows * 2 * rows), counts = [Int32](repeating: 0, count: rows)
    var weights = [Real](repeating: 0, count: rows * 2 * rows), structure = weights
    var heap = [Int32](repeating: 0, count: rows)
    var graph = ress_graph_shape(
      cached: 0, visible: Int64(rows), causal: 1, before: Int64(rows - 1), after: 0, degree: Int64(rows),
      capacity: Int64(2 * rows))
    ress_graph_forward(
      &graph, nil, 0, Int64(rows), scores, Int64(rows), &neighbours, &counts, &weights, &structure, &heap, nil, nil)
    var shape = ress_attention_shape(
      heads: Int64(heads), head_width: Int64(headWidth), width: Int64(width), kept: Int64(rows),
      capacity: Int64(2 * rows),
      slots: 0, cached: 0, activation: Int64(RESS_SOFTMAX))
    var support = [UInt16](repeating: 0, count: rows * heads * rows),
      supportCounts = [UInt16](repeating: 0, count: rows * heads)
    var supportWeights = [Real](repeating: 0, count: rows * heads * rows),
      out = [Real](repeating: 0, count: rows * width)
    var scratch = [Real](repeating: 0, count: 4 * rows), order = [Int32](repeating: 0, count: 2 * rows)
    var terms = ress_attention_head(temperature: 1, gain: 0, memory_bias: 0, decays: nil)
    for head in 0..<heads {
      _ = ress_attention_forward(
        &shape, &terms, Int64(head), 0, Int64(rows), queries, keys, values, [0], [0], neighbours, counts, structure,
        &support, &supportCounts, &supportWeights, &out, &scratch, &order)
    }
    for row in 0..<rows {
      for head in 0..<heads {
        let logits = (0...row).map { key in
          (0..<headWidth).reduce(0.0) { sum, c in
            sum + Double(queries[row * width + head * headWidth + c]) * Double(keys[key * width + head * headWidth + c])
          } / 2
        }
        let exponentials = logits.map { exponential($0) }
        let total = exponentials.reduce(0, +)
        for c in 0..<headWidth {
          let expected = (0...row).reduce(0.0) {
            $0 + exponentials[$1] / total * Double(values[$1 * width + head * headWidth + c])
          }
          #expect(abs(Double(out[row * width + head * headWidth + c]) - expected) < 1e-5)
        }
      }
    }
  }

  /// Positions in the order of preference: larger scores; tokens before slots; later tokens; earlier slots.
  private func ranked(_ z: [Double], tokens: Int) -> [Int] {
    z.indices.sorted { x, y in
      if z[x] != z[y] { return z[x] > z[y] }
      if (x < tokens) != (y < tokens) { return x < tokens }
      return x < tokens ? x > y : x < y
    }
  }

  private func weigh(
    kept: Int, levels: Int?, activation: Int, expected reference: ([Double], Int, Int) -> [Int: Double]
  ) {
    let slots = 3, width = 1
    // 61 and 3 positions are several vectors; above 512 positions the kernel selects in another way.
    let sizes =
      (0..<40).map { (UInt64($0), 12) } + (40..<50).map { (UInt64($0), 61) } + (50..<54).map { (UInt64($0), 600) }
    for (seed, tokens) in sizes {
      // Head width 1 and a query of 1: the scores are the keys.
      let keys = random(tokens, seed: seed, levels: levels).map { $0 * 0.3 }
      let slotKeys = random(slots, seed: seed + 100, levels: levels).map { $0 * 0.3 }
      let values = [Real](repeating: 1, count: tokens), slotValues = [Real](repeating: 1, count: slots)
      let neighbours = (0..<tokens).map { Int32($0) }
      let structure = [Real](repeating: 0, count: tokens)
      let used = min(kept, tokens + slots)
      var shape = ress_attention_shape(
        heads: 1, head_width: Int64(width), width: Int64(width), kept: Int64(used), capacity: Int64(tokens),
        slots: Int64(slots), cached: Int64(tokens - 1), activation: Int64(activation))
      var support = [UInt16](repeating: 0, count: used), count = [UInt16](repeating: 0, count: 1)
      var weights = [Real](repeating: 0, count: used), out = [Real](repeating: 0, count: 1)
      var scratch = [Real](repeating: 0, count: 2 * (tokens + slots)),
        order = [Int32](repeating: 0, count: tokens + slots)
      var terms = ress_attention_head(temperature: 1, gain: 1, memory_bias: 0, decays: nil)
      let truncated = ress_attention_forward(
        &shape, &terms, 0, 0, 1, [1], keys, values, slotKeys, slotValues, neighbours, [Int32(tokens)], structure,
        &support, &count, &weights, &out, &scratch, &order)
      let expected = reference((keys + slotKeys).map { Double($0) }, kept, tokens)
      let ours = Dictionary(uniqueKeysWithValues: (0..<Int(count[0])).map { (Int(support[$0]), Double(weights[$0])) })
      #expect(
        Set(ours.keys.filter { ours[$0]! > 1e-6 }) == Set(expected.keys.filter { expected[$0]! > 1e-6 }), "seed \(seed)"
      )
      for (place, weight) in expected { #expect(abs((ours[place] ?? -1) - weight) < 1e-5, "seed \(seed)") }
      #expect(abs(out[0] - 1) < 1e-5)
      // Whether top-k truncated the support, compared with a reference that keeps all.
      let whole = reference((keys + slotKeys).map { Double($0) }, tokens + slots, tokens)
      let isCut = activation == Int(RESS_SPARSEMAX) && whole.values.count { $0 > 1e-9 } > kept
      #expect(truncated == (isCut ? 1 : 0), "seed \(seed)")
    }
  }

  @Test
  func `the router chooses the largest biased logits, the smaller index among equals, and weighs without bias`() {
    let logits: [Real] = [1, 3, 3, 0, 2]
    let bias: [Real] = [2, 0, 0, 4, 0]
    var top = [Int32](repeating: -1, count: 3), weights = [Real](repeating: 0, count: 3)
    var probabilities = [Real](repeating: 0, count: 5), logsum: Real = 0
    ress_router_forward(1, 5, 3, 0, logits, bias, &top, &weights, &probabilities, &logsum)
    #expect(top == [3, 0, 1])
    let ratio = Double(weights[2]) / Double(weights[1])
    #expect(abs(ratio - 7.389056) < 1e-4)
    #expect(abs(probabilities.reduce(0) { $0 + Double($1) } - 1) < 1e-5)
    ress_router_forward(1, 5, 3, 1, logits, bias, &top, &weights, &probabilities, &logsum)
    #expect(top == [3, 0, 1])
    for (weight, logit) in zip(weights, [0.0, 1, 3]) {
      #expect(abs(Double(weight) - 1 / (1 + exponential(-logit))) < 1e-6)
    }
  }

  @Test(arguments: [1, 2, 7, 8, 15, 16, 31, 257, 4096])
  func `softmax equals its definition at every width`(width: Int) {
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
