// Statistics of a step: how tokens were routed to experts, and how often top-k truncated attention, for each step
// of recurrence. The balancer uses the loads; users see the rest (`RouterRecord`).

import Kernels

/// Sums over some tokens of a batch. The number of recurrence steps is that of the model as it was run.
package struct Routing: Equatable, Sendable {
  package let steps: Int
  /// Number of routed experts among which a step's router chooses.
  package let experts: Int
  /// The number of the first expert that each step can reach. Steps with the same one have the same experts.
  package let firstExperts: [Int]
  /// Number of tokens that each expert received at each step, (K, E).
  package var counts: [Int]
  /// Σ over tokens of the entropy of the router's softmax, in nats, (K).
  package var entropy: [Double]
  /// (token, head) pairs whose exact sparsemax support is larger than k, (K).
  package var truncated: [Int]

  package init(experts: Int, firstExperts: [Int]) {
    let steps = firstExperts.count
    self.steps = steps
    self.experts = experts
    self.firstExperts = firstExperts
    counts = Array(repeating: 0, count: steps * experts)
    entropy = Array(repeating: 0, count: steps)
    truncated = Array(repeating: 0, count: steps)
  }

  package init(_ sizes: Sizes) {
    self.init(experts: sizes.experts, firstExperts: (0..<sizes.steps).map(sizes.firstExpert))
  }

  package mutating func clear() {
    for place in counts.indices { counts[place] = 0 }
    for step in 0..<steps { (entropy[step], truncated[step]) = (0, 0) }
  }

  /// Adds in place.
  package mutating func add(_ other: Routing) {
    for place in counts.indices { counts[place] += other.counts[place] }
    for step in 0..<steps {
      entropy[step] += other.entropy[step]
      truncated[step] += other.truncated[step]
    }
  }

  /// Adds to `loads` the number of tokens of each expert of the model, over all steps.
  package func addLoads(to loads: inout [Int]) {
    for step in 0..<steps {
      let first = firstExperts[step]
      for expert in 0..<experts { loads[first + expert] += counts[step * experts + expert] }
    }
  }

  // MARK: as numbers, in reports between workers

  package var numberCount: Int { steps * (experts + 2) }

  package var numbers: [Double] { counts.map { Double($0) } + entropy + truncated.map { Double($0) } }

  /// Takes the numbers of a routing of the same shape; false where they are not valid.
  package mutating func take(_ numbers: some Collection<Double>) -> Bool {
    if let isTaken = numbers.withContiguousStorageIfAvailable({ take($0) }) { return isTaken }
    return Array(numbers).withUnsafeBufferPointer { take($0) }
  }

  private mutating func take(_ values: UnsafeBufferPointer<Double>) -> Bool {
    let (first, second) = (steps * experts, steps * (experts + 1))
    guard values.count == numberCount else { return false }
    for place in values.indices where place < first || place >= second {
      guard values[place] >= 0, values[place] <= 0x1p53 else { return false }
    }
    for place in 0..<first { counts[place] = Int(values[place]) }
    for step in 0..<steps {
      (entropy[step], truncated[step]) = (values[first + step], Int(values[second + step]))
    }
    return true
  }
}
