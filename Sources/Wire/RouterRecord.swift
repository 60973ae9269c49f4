// How a step's tokens were routed, as the router clinic looks at it every `training.clinic_every` steps.

#if canImport(Glibc)
  import Glibc
#endif

/// By step of recurrence; all lists are empty where the model has no routed experts.
package struct RouterRecord: Codable, Equatable, Sendable {
  /// Step n is the n-th, counted from 1.
  package var step: Int
  /// e: experts that a token reaches.
  package var active: Int
  /// Tokens that each expert got at each step of recurrence, (K, E). Where blocks are separate the experts are those of the step's block.
  package var loads: [[Int]]
  /// Mean over tokens of the entropy of the router's softmax, in nats, (K): log E where it is undecided, 0 where it is sure.
  package var entropy: [Double]
  /// The balancer's bias of each expert after the step, (blocks, E).
  package var bias: [[Double]]
  /// Share of the (token, head) pairs whose exact sparsemax support is larger than the k that are kept, (K); empty where nothing is cut.
  package var truncation: [Double]
  /// When the router was looked at, seconds since 1970; nil in the records of older programs.
  package var time: Double?

  package init(
    step: Int, active: Int, loads: [[Int]], entropy: [Double], bias: [[Double]], truncation: [Double],
    time: Double? = nil
  ) {
    self.step = step
    self.active = active
    self.loads = loads
    self.entropy = entropy
    self.bias = bias
    self.truncation = truncation
    self.time = time
  }
}

extension RouterRecord {
  /// Experts of a block; 0 where none are routed.
  package var experts: Int { loads.first?.count ?? 0 }

  /// Each expert's share of a step's assignments, (K, E).
  package var shares: [[Double]] {
    loads.map { row in
      let total = Double(max(1, row.reduce(0, +)))
      return row.map { Double($0) / total }
    }
  }

  /// log E, the largest entropy there can be; 0 without experts.
  package var entropyLimit: Double { log(Double(max(1, experts))) }

  /// e^entropy of each step's shares, (K): how many experts, equally loaded, would be as uneven. E is balance, `active` is collapse.
  package var effectiveExperts: [Double] {
    shares.map { row in
      exp(row.reduce(0.0) { sum, share in share > 0 ? sum - share * log(share) : sum })
    }
  }

  /// How far each step is from collapse, (K): 1 where all experts carry the same, 0 where every token goes to the same `active` ones.
  package var spread: [Double] {
    guard experts > active else { return [] }
    return effectiveExperts.map { max(0, $0 - Double(active)) / Double(experts - active) }
  }
}
