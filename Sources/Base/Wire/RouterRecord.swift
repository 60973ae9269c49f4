// How the tokens of one step were routed to experts. Workers measure it every `training.clinic_every` steps; `ress
// status` and the dashboard show it, so that a user sees a router that has collapsed onto few experts.
//
// Shapes: K steps of recurrence, E experts of a block.

#if canImport(Glibc)
  import Glibc
#endif

/// Router statistics of one step. All lists are empty where the model has no routed experts.
package struct RouterRecord: Codable, Equatable, Sendable {
  /// Number of the training step, counted from 1.
  package var step: Int
  /// Number of experts that each token is sent to (e in the paper).
  package var active: Int
  /// Number of tokens that each expert of its pool received at each step of recurrence, (K, E).
  package var loads: [[Int]]
  /// Entropy of the router's softmax, averaged over tokens, in nats, (K): log E where the router is undecided, 0
  /// where it is certain.
  package var entropy: [Double]
  /// The balancer's bias of each expert after the step, (blocks, E).
  package var bias: [[Double]]
  /// Share of the (token, head) pairs whose exact sparsemax support is larger than the k entries that are kept,
  /// (K); empty where the support is not truncated.
  package var truncation: [Double]
  /// The pool of experts that each step can reach, (K). In records of older programs, which have nil, all steps of one
  /// block share a pool, and separate blocks have one each.
  package var pools: [Int]?
  /// When it was measured, in seconds since 1970; nil in records of older programs.
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
  /// The pool of experts of a step of recurrence, counted from 0.
  package func pool(ofStep step: Int) -> Int { pools?[step] ?? (bias.count <= 1 ? 0 : step) }

  /// Number of experts of a block; 0 without routed experts.
  package var experts: Int { loads.first?.count ?? 0 }

  /// Each expert's share of a step's assignments, (K, E).
  package var shares: [[Double]] {
    loads.map { row in
      let total = Double(max(1, row.reduce(0, +)))
      return row.map { Double($0) / total }
    }
  }

  /// log E, the largest possible entropy; 0 without experts.
  package var entropyLimit: Double { log(Double(max(1, experts))) }

  /// Exponential of the entropy of each row of `shares`, (K): the number of equally loaded experts that would have
  /// that entropy. It is E where the load is balanced, and `active` where the router has collapsed.
  package var effectiveExperts: [Double] {
    shares.map { row in
      exp(row.reduce(0.0) { sum, share in share > 0 ? sum - share * log(share) : sum })
    }
  }

  /// How far each step is from collapse, (K): 1 where all experts have the same load, 0 where every token goes to
  /// the same `active` ones.
  package var spread: [Double] {
    guard experts > active else { return [] }
    return effectiveExperts.map { max(0, $0 - Double(active)) / Double(experts - active) }
  }
}
