// The gradients of the kernels of attention and of the token graph (Operation.swift describes how they are checked).

#if RESS_DOUBLE
  import CKernels
  import Kernels
  import Testing

  @Suite struct AttentionGradientTests {
    @Test(arguments: [(3, 1), (5, 0)], [false, true])
    func `the gradient of the softmax over visible tokens is its slope`(sight: (Int, Int), forgets: Bool) {
      // out = p · values, where p follows from scores; the backward gets dp = dout · valuesᵀ, as in attention.
      let rows = 3, width = 5
      let values = random(width, seed: 3)
      func shaped<Result>(_ decays: [Double], _ body: (UnsafePointer<ress_visible_shape>) -> Result) -> Result {
        decays.withUnsafeBufferPointer { decays in
          var shape = ress_visible_shape(
            width: Int64(width), stride: Int64(width), visible: Int64(sight.0), growth: Int64(sight.1), scale: 0.7,
            logsum_stride: 1, first: 2, decays: forgets ? decays.baseAddress! : nil)
          return body(&shape)
        }
      }
      func softmax(_ x: [[Double]]) -> (p: [Double], logsums: [Double]) {
        var p = x[0], logsums = zeros(rows)
        shaped(x[1]) { ress_visible_softmax($0, Int64(rows), &p, &logsums) }
        return (p, logsums)
      }
      let falling = [-0.3, -0.5, -1.1, -1.2, -2]
      Operation(
        inputs: [random(rows * width, seed: 1, scale: 2), falling],
        forward: { x in
          let p = softmax(x).p
          return (0..<rows).map { row in (0..<width).reduce(0) { $0 + p[row * width + $1] * values[$1] } }
        },
        backward: { x, dout in
          let (p, logsums) = softmax(x)
          var dp = (0..<rows * width).map { dout[$0 / width] * values[$0 % width] }
          let delta = (0..<rows).map { row in (0..<width).reduce(0) { $0 + p[row * width + $1] * dp[row * width + $1] }
          }
          var again = x[0], ddecays = zeros(width)
          shaped(x[1]) { ress_visible_softmax_backward($0, Int64(rows), logsums, delta, &again, &dp, &ddecays) }
          for (one, two) in zip(p, again) { #expect(abs(one - two) < 1e-12) }
          return [dp, ddecays]
        }
      ).check("visible softmax, forgetting: \(forgets)")
    }

    @Test func `the gradient of a rotation is the inverse rotation`() {
      let rows = 2, heads = 2, half = 3
      let angles = random(rows * half, seed: 4, scale: 3)
      let table = (0..<rows).flatMap { row in
        let row_N = angles[row * half..<(row + 1) * half]
        return row_N.map { cosine($0) } + row_N.map { cosine($0 - .pi / 2) }
      }
      func turned(_ x: [Double], _ direction: Double) -> [Double] {
        var y = x
        ress_rotate(Int64(rows), Int64(heads), Int64(half), table, direction, &y)
        return y
      }
      let x = random(rows * heads * 2 * half, seed: 1)
      Operation(inputs: [x], forward: { turned($0[0], 1) }, backward: { _, dout in [turned(dout, -1)] }).check("turn")
      for (one, two) in zip(turned(turned(x, 1), -1), x) { #expect(abs(one - two) < 1e-12) }
    }

    @Test func `the graph's scores get their gradient through attention and through the weights`() {
      // Outputs: structure (log A + log |N|) with a gain, and A itself, for rows that see some cached tokens.
      let rows = 4, cached = 3, window = 2, degree = 2, rank = 3, capacity = window + degree, visible = cached + rows
      let gain = [1.3]
      let cachedKeys = random(cached * rank, seed: 8)
      let scale = 0.6
      func graph(_ x: [[Double]]) -> (neighbours: [Int32], counts: [Int32], weights: [Double], structure: [Double]) {
        let keys = cachedKeys + x[1]
        var scores = zeros(rows * visible)
        for i in 0..<rows {
          for j in 0..<visible {
            for c in 0..<rank { scores[i * visible + j] += scale * x[0][i * rank + c] * keys[j * rank + c] }
          }
        }
        var neighbours = [Int32](repeating: -1, count: rows * capacity), counts = [Int32](repeating: 0, count: rows)
        var weights = zeros(rows * capacity), structure = zeros(rows * capacity)
        var heap = [Int32](repeating: 0, count: degree)
        var shape = ress_graph_shape(
          cached: Int64(cached), visible: Int64(visible), causal: 1, before: Int64(window - 1), after: 0,
          degree: Int64(degree), capacity: Int64(capacity))
        ress_graph_forward(
          &shape, nil, 0, Int64(rows), scores, Int64(visible), &neighbours, &counts, &weights, &structure, &heap, nil,
          nil)
        return (neighbours, counts, weights, structure)
      }
      Operation(
        inputs: [random(rows * rank, seed: 1), random(rows * rank, seed: 2)],
        forward: { x in
          let g = graph(x)
          return g.structure.map { gain[0] * $0 } + g.weights
        },
        backward: { x, dout in
          let g = graph(x)
          // The support of attention: every neighbour, with one head.
          var support = [UInt16](), supportCounts = [UInt16]()
          for i in 0..<rows {
            support += (0..<capacity).map { UInt16($0) }
            supportCounts.append(UInt16(g.counts[i]))
          }
          var dscores = zeros(rows * capacity), dqueries = zeros(rows * rank), dkeys = zeros(rows * rank)
          let dweights = Array(dout[(rows * capacity)...])
          ress_graph_backward(
            0, Int64(rows), Int64(capacity), Int64(rank), 1, Int64(capacity), scale, gain, g.neighbours, g.counts,
            g.weights, support, supportCounts, Array(dout[..<(rows * capacity)]), dweights, cachedKeys + x[1], &dscores,
            &dqueries)
          ress_graph_backward_keys(
            Int64(rows), Int64(capacity), Int64(rank), Int64(cached), scale, g.neighbours, g.counts, dscores, x[0],
            &dkeys)
          return [dqueries, dkeys]
        }
      ).check("graph")
    }

    @Test func `the smoothness penalty's gradient is its slope over the union of both graphs`() {
      let rows = 2, capacity = 4
      let here: [Int32] = [0, 2, 3, -1, 1, 2, 4, 5]
      let there: [Int32] = [1, 2, -1, -1, 1, 3, 4, 5]
      let hereCounts: [Int32] = [3, 4], thereCounts: [Int32] = [2, 4]
      let live = [0, 1, 2, 4, 5, 6, 7]
      func spread(_ values: [Double]) -> [Double] {
        var all = zeros(rows * capacity)
        for (value, place) in zip(values, live) { all[place] = value }
        return all
      }
      let other = random(rows * capacity, seed: 3)
      Operation(
        inputs: [random(live.count, seed: 1)],
        forward: { x in
          [ress_graph_smooth(0, 2, Int64(capacity), here, hereCounts, spread(x[0]), there, thereCounts, other)]
        },
        backward: { x, dout in
          var dweights = zeros(rows * capacity)
          ress_graph_smooth_backward(
            0, 2, Int64(capacity), 2 * dout[0], here, hereCounts, spread(x[0]), there, thereCounts, other, &dweights)
          return [live.map { dweights[$0] }]
        }
      ).check("smoothness")
    }

    @Test(arguments: [2, 3, 20], [RESS_SPARSEMAX, RESS_ENTMAX15, RESS_SOFTMAX])
    func `sparse attention's gradient is its slope`(kept: Int, activation: Int) {
      for forgets in [false, true] { checkAttention(kept: kept, activation: activation, forgets: forgets) }
    }

    private func checkAttention(kept: Int, activation: Int, forgets: Bool) {
      let rows = 3, cached = 2, heads = 2, headWidth = 4, width = 8, slots = 2, capacity = 4, visible = cached + rows
      // Row 1 is token 3 and also sees token 4, as in a bidirectional model.
      let neighbours: [Int32] = [0, 1, 2, -1, 0, 3, 4, -1, 1, 2, 3, 4]
      let counts: [Int32] = [3, 3, 4]
      let cachedKeys = random(cached * width, seed: 20), cachedValues = random(cached * width, seed: 21)
      let structureScale = 0.4
      let used = min(kept, capacity + slots)
      var shape = ress_attention_shape(
        heads: Int64(heads), head_width: Int64(headWidth), width: Int64(width), kept: Int64(used),
        capacity: Int64(capacity), slots: Int64(slots), cached: Int64(cached),
        activation: Int64(activation))
      let cachedDecays = [-0.2, -0.3]
      // The terms of a head's scores.
      func withTerms<Result>(
        _ x: [[Double]], _ head: Int, _ body: (UnsafePointer<ress_attention_head>) -> Result
      ) -> Result {
        (cachedDecays + x[9][head * rows..<(head + 1) * rows]).withUnsafeBufferPointer { decays in
          var terms = ress_attention_head(
            temperature: x[8][head], gain: x[6][head], memory_bias: x[7][head],
            decays: forgets ? decays.baseAddress! : nil)
          return body(&terms)
        }
      }
      // Inputs: queries, keys, values, slot keys, slot values, structure, gains, biases, temperatures, decays.
      func forward(_ x: [[Double]]) -> (out: [Double], support: [UInt16], counts: [UInt16], weights: [Double]) {
        var support = [UInt16](repeating: 0, count: rows * heads * used)
        var supportCounts = [UInt16](repeating: 0, count: rows * heads)
        var weights = zeros(rows * heads * used), out = zeros(rows * width)
        var scratch = zeros(2 * (capacity + slots)), order = [Int32](repeating: 0, count: capacity + slots)
        for head in 0..<heads {
          withTerms(x, head) { terms in
            _ = ress_attention_forward(
              &shape, terms, Int64(head), 0, Int64(rows), x[0], cachedKeys + x[1], cachedValues + x[2], x[3], x[4],
              neighbours, counts, x[5], &support, &supportCounts, &weights, &out, &scratch, &order)
          }
        }
        return (out, support, supportCounts, weights)
      }
      _ = visible
      Operation(
        inputs: [
          random(rows * width, seed: 1), random(rows * width, seed: 2), random(rows * width, seed: 3),
          random(slots * width, seed: 4), random(slots * width, seed: 5),
          random(rows * capacity, seed: 6, scale: structureScale), random(heads, seed: 7), random(heads, seed: 8),
          [0.6, 1.3], [-0.4, -1, -1.1, -0.5, -0.6, -1.4],
        ],
        forward: { forward($0).out },
        backward: { x, dout in
          let f = forward(x)
          var dqueries = zeros(rows * width), dkeys = zeros(rows * width), dvalues = zeros(rows * width)
          var dslotKeys = zeros(slots * width), dslotValues = zeros(slots * width)
          var dlogits = zeros(rows * heads * used), dgain = zeros(heads), dbias = zeros(heads)
          var dtemperature = zeros(heads), ddecays: [Double] = []
          for head in 0..<heads {
            var gain = 0.0, bias = 0.0, temperature = 0.0, decays = zeros(rows)
            withTerms(x, head) { terms in
              ress_attention_backward(
                &shape, terms, Int64(head), Int64(rows), x[0], cachedKeys + x[1], cachedValues + x[2], x[3], x[4],
                neighbours, counts, x[5], f.support, f.counts, f.weights, dout, &dqueries, &dkeys, &dvalues,
                &dslotKeys, &dslotValues, &dlogits, &gain, &bias, &temperature, &decays)
            }
            dgain[head] = gain
            dbias[head] = bias
            // The kernel's gradient is that of the logarithm.
            dtemperature[head] = temperature / x[8][head]
            ddecays += forgets ? decays : zeros(rows)
          }
          var dstructure = zeros(rows * capacity)
          for row in 0..<rows {
            for head in 0..<heads {
              let at = row * heads + head
              for s in 0..<Int(f.counts[at]) where Int32(f.support[at * used + s]) < counts[row] {
                dstructure[row * capacity + Int(f.support[at * used + s])] += x[6][head] * dlogits[at * used + s]
              }
            }
          }
          return [
            dqueries, dkeys, dvalues, dslotKeys, dslotValues, dstructure, dgain, dbias, dtemperature, ddecays,
          ]
        }
      ).check("attention with \(kept) kept, activation \(activation)")
    }
  }
#endif
