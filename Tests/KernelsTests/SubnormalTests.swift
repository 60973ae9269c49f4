// Values that fade away end as 0, and not as subnormal numbers, which processors compute a hundred times more slowly than others.

import Kernels
import Testing

@Suite struct SubnormalTests {
  /// Forget terms of a token: with −0.3 for each, the weight of a token 300 tokens back is e^−90 of the nearest one's.
  private static let tokens = 700, term = Real(-0.3)

  private func random(_ count: Int, stream: UInt64) -> [Real] {
    let philox = Philox(seed: 3, stream: stream)
    return (0..<count).map { Real(2 * philox.uniform(UInt64($0)) - 1) }
  }

  @Test func `weights of distant tokens under forget gates are 0, forward and backward`() {
    let tokens = Self.tokens
    var decays = (0..<tokens).map { Real($0 + 1) * Self.term }
    var scores = random(tokens * tokens, stream: 1), gradient = random(tokens * tokens, stream: 2)
    let raw = scores
    var logsums = [Real](repeating: 0, count: tokens), delta = logsums, ddecays = logsums
    decays.withUnsafeMutableBufferPointer { decays in
      let softmax = VisibleSoftmax(
        width: tokens, first: 0, isCausal: true, scale: 1, logsumStride: 1, decays: decays.baseAddress!)
      scores.withUnsafeMutableBufferPointer { scores in
        let matrix = Matrix(scores.baseAddress!, rows: tokens, columns: tokens)
        logsums.withUnsafeMutableBufferPointer { softmax.forward(matrix, logsums: $0.baseAddress!) }
        check(Array(scores), raw: raw)

        scores.baseAddress!.update(from: raw, count: raw.count)
        gradient.withUnsafeMutableBufferPointer { gradient in
          softmax.backward(
            matrix, dp: Matrix(gradient.baseAddress!, rows: tokens, columns: tokens), logsums: &logsums, delta: &delta,
            ddecays: &ddecays)
        }
        check(Array(scores), raw: raw)
      }
    }
    #expect(gradient.count { $0.isSubnormal } == 0)
  }

  /// Every row of weights adds up to 1; a weight is 0 where z is more than 64 below the largest of its row, and what is above has one.
  private func check(_ weights: [Real], raw: [Real]) {
    let tokens = Self.tokens
    var zeros = 0
    for row in 0..<tokens {
      let weights_T = weights[row * tokens..<(row + 1) * tokens]
      let sum = weights_T.reduce(0) { $0 + Double($1) }
      #expect(abs(sum - 1) < 1e-5)
      // A difference of 60 in F and 2 in the scores is above the bound, of 72 and 2 below it.
      for (column, weight) in weights_T.prefix(row + 1).enumerated() {
        if row - column < 200 { #expect(weight > 0) }
        if row - column > 240 { #expect(weight == 0) }
        zeros += weight == 0 ? 1 : 0
      }
    }
    #expect(zeros > tokens)
    #expect(weights.count { $0.isSubnormal } == 0)
  }

  @Test func `moments without a gradient become 0 and change no parameter afterwards`() {
    let count = 40
    var values = random(count, stream: 3), first = random(count, stream: 4)
    var second = first.map { $0 * $0 }, gradient = [Real](repeating: 0, count: count)
    let step = AdamW(
      rate: 1e-3, gradientScale: 1, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, correction1: 1, correction2: 1)
    for _ in 0..<2_000 {
      step.update(&values, first: &first, second: &second, gradient: &gradient, count: count, decay: 0)
    }
    #expect(first == gradient && second == gradient)
    let before = values
    step.update(&values, first: &first, second: &second, gradient: &gradient, count: count, decay: 0)
    #expect(values == before)
  }

  @Test func `a small gradient is not lost`() {
    var value = [Real(1)], first = [Real(0)], second = [Real(0)], gradient = [Real(1e-12)]
    let step = AdamW(
      rate: 1e-3, gradientScale: 1, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, correction1: 1, correction2: 1)
    step.update(&value, first: &first, second: &second, gradient: &gradient, count: 1, decay: 0)
    #expect(abs(Double(first[0]) - 1e-13) < 1e-16 && abs(Double(second[0]) - 5e-26) < 1e-29)
  }
}
