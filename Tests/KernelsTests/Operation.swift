// A kernel and its backward as functions of lists of numbers, and the comparison of the two by central differences, in
// the double build. For outputs y(x) and a random vector c, the gradient of c · y from the backward must equal the
// measured slope.

#if RESS_DOUBLE
  import Kernels
  import Testing

  /// Values whose gradient is checked.
  struct Operation {
    var inputs: [[Double]]
    var forward: ([[Double]]) -> [Double]
    /// The gradients of the inputs, from those of the outputs.
    var backward: (_ inputs: [[Double]], _ dout: [Double]) -> [[Double]]

    func check(_ label: String, tolerance: Double = 1e-6) {
      let outputs = forward(inputs)
      let c = random(outputs.count, seed: 77)
      let gradients = backward(inputs, c)
      let step = 1e-6
      func value(_ inputs: [[Double]]) -> Double { zip(forward(inputs), c).reduce(0) { $0 + $1.0 * $1.1 } }
      for (place, input) in inputs.enumerated() {
        for index in input.indices {
          var moved = inputs
          moved[place][index] = input[index] + step
          let above = value(moved)
          moved[place][index] = input[index] - step
          let below = value(moved)
          let slope = (above - below) / (2 * step)
          let gradient = gradients[place][index]
          #expect(
            abs(slope - gradient) <= tolerance * max(1, abs(slope)),
            "\(label), input \(place)[\(index)]: slope \(slope), gradient \(gradient)")
        }
      }
    }
  }

  func random(_ count: Int, seed: UInt64, scale: Double = 1) -> [Double] {
    let philox = Philox(seed: seed, stream: 5)
    return (0..<count).map { scale * (2 * philox.uniform(UInt64($0)) - 1) }
  }

  /// Without Foundation: the series of cos around 0, for angles of a few radians.
  func cosine(_ x: Double) -> Double {
    var term = 1.0, sum = 1.0
    for n in 1...30 {
      term *= -x * x / Double((2 * n - 1) * (2 * n))
      sum += term
    }
    return sum
  }

  func zeros(_ count: Int) -> [Double] { Array(repeating: 0, count: count) }
#endif
