// The gradients of the elementwise kernels and of the router (Operation.swift describes how they are checked).

#if RESS_DOUBLE
  import CKernels
  import Kernels
  import Testing

  @Suite struct OperationGradientTests {
    @Test(arguments: [1, 3, 8, 33])
    func `RMSNorm's gradient is its slope`(width: Int) {
      let rows = 3
      Operation(
        inputs: [random(rows * width, seed: 1), random(width, seed: 2)],
        forward: { x in
          var y = zeros(rows * width), rstd = zeros(rows)
          ress_rmsnorm_forward(Int64(rows), Int64(width), x[0], x[1], &y, &rstd)
          return y
        },
        backward: { x, dy in
          var y = zeros(rows * width), rstd = zeros(rows), dx = zeros(rows * width), dgain = zeros(width)
          ress_rmsnorm_forward(Int64(rows), Int64(width), x[0], x[1], &y, &rstd)
          ress_rmsnorm_backward(Int64(rows), Int64(width), x[0], x[1], rstd, dy, &dx, &dgain)
          return [dx, dgain]
        }
      ).check("RMSNorm of \(width)")
    }

    @Test(arguments: [1, 2, 4], [0, 1])
    func `the taps' gradient is its slope, except for rows before the segment`(taps: Int, twoSided: Int) {
      let rows = 5, width = 3, before = min(taps - 1, 2), tapRows = (taps - 1) * (1 + twoSided)
      let earlier = random(before * width, seed: 9)
      var shape = ress_taps_shape(
        width: Int64(width), taps: Int64(taps), two_sided: Int64(twoSided), before: Int64(before), rows: Int64(rows))
      Operation(
        inputs: [random(rows * width, seed: 1), random(tapRows * width, seed: 2)],
        forward: { x in
          let all = earlier + x[0]
          var out = zeros(rows * width)
          all.withUnsafeBufferPointer {
            ress_taps_forward(&shape, 0, Int64(rows), $0.baseAddress! + before * width, x[1], &out)
          }
          return out
        },
        backward: { x, dout in
          let all = earlier + x[0]
          var dx = zeros(rows * width), dweight = zeros(tapRows * width)
          ress_taps_backward_input(&shape, 0, Int64(rows), dout, x[1], &dx)
          all.withUnsafeBufferPointer {
            ress_taps_backward_weight(
              &shape, 0, Int64(width), $0.baseAddress! + before * width, dout, &dweight)
          }
          return [dx, dweight]
        }
      ).check("\(taps) taps, two sides: \(twoSided)")
    }

    @Test func `the forget gates' gradient is its slope, except for rows before the segment`() {
      let rows = 4, cached = 2, heads = 2
      let earlier = random(cached * heads, seed: 9).map { -abs($0) }
      func decays(_ x: [[Double]]) -> (terms: [Double], decays: [Double]) {
        var terms = zeros(rows * heads)
        ress_forget_forward(Int64(rows), Int64(heads), x[0], x[1], &terms)
        var all = zeros(heads * (cached + rows))
        all.withUnsafeMutableBufferPointer { all in
          for head in 0..<heads {
            ress_forget_sum(
              Int64(cached + rows), Int64(heads), Int64(head), earlier + terms,
              all.baseAddress! + head * (cached + rows))
          }
        }
        return (terms, all)
      }
      Operation(
        inputs: [random(rows * heads, seed: 1, scale: 3), random(heads, seed: 2)],
        forward: { decays($0).decays },
        backward: { x, dout in
          var dlogits = zeros(rows * heads)
          for head in 0..<heads {
            let own = Array(dout[head * (cached + rows) + cached..<(head + 1) * (cached + rows)])
            ress_forget_backward(Int64(rows), Int64(heads), Int64(head), decays(x).terms, own, &dlogits)
          }
          return [dlogits, (0..<heads).map { head in (0..<rows).reduce(0) { $0 + dlogits[$1 * heads + head] } }]
        }
      ).check("forget gates")
    }

    @Test func `SwiGLU's gradient is its slope`() {
      let rows = 2, width = 9
      Operation(
        inputs: [random(rows * 2 * width, seed: 1, scale: 3)],
        forward: { x in
          var h = zeros(rows * width)
          ress_swiglu_forward(Int64(rows), Int64(width), x[0], &h)
          return h
        },
        backward: { x, dh in
          var h = zeros(rows * width), dx = zeros(rows * 2 * width)
          ress_swiglu_backward(Int64(rows), Int64(width), x[0], dh, &dx, &h)
          return [dx]
        }
      ).check("SwiGLU")
    }

    @Test func `softmax's gradient is its slope`() {
      let rows = 3, width = 7
      Operation(
        inputs: [random(rows * width, seed: 1, scale: 2)],
        forward: { x in
          var p = x[0]
          ress_softmax_rows(Int64(rows), Int64(width), Int64(width), 0.7, &p)
          return p
        },
        backward: { x, dp in
          var p = x[0], dx = dp
          ress_softmax_rows(Int64(rows), Int64(width), Int64(width), 0.7, &p)
          ress_softmax_rows_backward(Int64(rows), Int64(width), Int64(width), 0.7, p, &dx)
          return [dx]
        }
      ).check("softmax")
    }

    @Test func `cross-entropy's gradient is its slope, and a target of -1 gives zero`() {
      let rows = 4, classes = 6
      let targets: [Int32] = [5, 0, -1, 3]
      Operation(
        inputs: [random(rows * classes, seed: 1, scale: 2)],
        forward: { x in
          var logits = x[0]
          return [ress_cross_entropy(Int64(rows), Int64(classes), &logits, targets, 0)]
        },
        backward: { x, dout in
          var logits = x[0]
          _ = ress_cross_entropy(Int64(rows), Int64(classes), &logits, targets, dout[0])
          #expect(logits[2 * classes..<3 * classes].allSatisfy { $0 == 0 })
          return [logits]
        }
      ).check("cross-entropy")
    }

    @Test func `gathering rows from experts has the gradient of rows and weights`() {
      let rows = 3, active = 2, width = 4
      let places: [Int32] = [4, 0, 1, 5, 3, 2]
      Operation(
        inputs: [random(rows * active * width, seed: 1), random(rows * active, seed: 2)],
        forward: { x in
          var y = zeros(rows * width)
          ress_gather_rows(Int64(rows), Int64(active), Int64(width), x[0], places, x[1], &y)
          return y
        },
        backward: { x, dy in
          var dx = zeros(x[0].count), dweights = zeros(x[1].count)
          ress_gather_rows_backward(
            Int64(rows), Int64(active), Int64(width), x[0], places, x[1], dy, &dweights, &dx)
          return [dx, dweights]
        }
      ).check("gather")
    }

    @Test(arguments: [Int64(0), 1])
    func `the router's gradient is its slope, including the balance and z losses`(sigmoidGates: Int64) {
      let rows = 3, experts = 5, active = 2
      let bias = random(experts, seed: 9, scale: 0.1)
      let balance = random(experts, seed: 10)
      let zScale = 0.3
      func forward(_ logits: [Double]) -> (top: [Int32], weights: [Double], probabilities: [Double], logsums: [Double])
      {
        var top = [Int32](repeating: 0, count: rows * active)
        var weights = zeros(rows * active), probabilities = zeros(rows * experts), logsums = zeros(rows)
        ress_router_forward(
          Int64(rows), Int64(experts), Int64(active), sigmoidGates, logits, bias, &top, &weights, &probabilities,
          &logsums)
        return (top, weights, probabilities, logsums)
      }
      Operation(
        inputs: [random(rows * experts, seed: 1, scale: 2)],
        forward: { x in
          let f = forward(x[0])
          var auxiliary = 0.0
          for row in 0..<rows {
            auxiliary += zScale * f.logsums[row] * f.logsums[row]
            for expert in 0..<experts { auxiliary += balance[expert] * f.probabilities[row * experts + expert] }
          }
          return f.weights + [auxiliary]
        },
        backward: { x, dout in
          let f = forward(x[0])
          var dlogits = zeros(rows * experts)
          let auxiliary = dout[rows * active]
          ress_router_backward(
            Int64(rows), Int64(experts), Int64(active), sigmoidGates, f.top, f.weights, f.probabilities, f.logsums,
            Array(dout[..<(rows * active)]), auxiliary * zScale, balance.map { auxiliary * $0 }, &dlogits)
          return [dlogits]
        }
      ).check("router")
    }
  }
#endif
