// The order of a mixture: which part is used at each position of training. Positions are divided into rounds of
// 1,024. In each round every part has its share of the places, in an order that depends on the seed. Hence the
// shares hold over any section of a run, and the sequence at a position can be computed without those before it.

import Kernels

package struct MixtureOrder: Sendable {
  /// Number of places of a round.
  package static let round = 1024

  /// Number of places of each part in a round.
  package let places: [Int]
  /// Permutes the places of each round: a round is an epoch of this sampler.
  private let order: Sampler
  private let samplers: [Sampler]

  /// - Parameters:
  ///   - weights: of the parts. Their shares are met to half a place of a round, and each part has at least one
  ///     place.
  ///   - counts: number of sequences of each part, at least 1.
  package init(seed: UInt64, weights: [Double], counts: [Int]) {
    precondition(weights.count == counts.count && weights.count <= MixtureOrder.round)
    order = Sampler(seed: seed ^ MixtureOrder.stream, sequenceCount: MixtureOrder.round)
    places = MixtureOrder.shares(weights)
    // They depend on the seed alone, so that a part has the same order in every mixture.
    samplers = counts.map { Sampler(seed: seed, sequenceCount: $0) }
  }

  /// Whole numbers of places in proportion to the weights, by largest remainders, at least one each.
  private static func shares(_ weights: [Double]) -> [Int] {
    let sum = weights.reduce(0, +)
    let exact = weights.map { $0 / sum * Double(round) }
    var places = exact.map { max(1, Int($0)) }
    while places.reduce(0, +) < round {
      let next = places.indices.max { exact[$0] - Double(places[$0]) < exact[$1] - Double(places[$1]) }!
      places[next] += 1
    }
    while places.reduce(0, +) > round {
      let next = places.indices.filter { places[$0] > 1 }
        .max { Double(places[$0]) - exact[$0] < Double(places[$1]) - exact[$1] }!
      places[next] -= 1
    }
    return places
  }

  /// The part at a position of the run, and the number of its sequence.
  package func sequence(at position: Int) -> (part: Int, sequence: Int) {
    let round = position / MixtureOrder.round
    let place = order.sequence(at: position)
    var part = 0, first = 0
    while place >= first + places[part] {
      first += places[part]
      part += 1
    }
    // Within a round, a part's places come in some order; each of them is one position in the part's own order.
    return (part, samplers[part].sequence(at: round * places[part] + place - first))
  }

  private static let stream: UInt64 = 0x313C_7D5E_0000_0000
}
