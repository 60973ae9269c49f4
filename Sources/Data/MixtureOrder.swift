// Which part of a mixture comes when. Positions come in rounds of 1,024; in each round every part has its share of the places, in an
// order that the seed gives. So the share holds over any stretch of a run, and a position's sequence is known without those before it.

import Kernels

package struct MixtureOrder: Sendable {
  /// Places of a round.
  package static let round = 1024

  /// Places of each part in a round.
  package let places: [Int]
  /// Puts the places of each round in an order of its own: an epoch is a round.
  private let order: Sampler
  private let samplers: [Sampler]

  /// - Parameters:
  ///   - weights: of the parts; their shares of the sum are met to half a place of a round, and each has one at least.
  ///   - counts: sequences of each part, which has some.
  package init(seed: UInt64, weights: [Double], counts: [Int]) {
    precondition(weights.count == counts.count && weights.count <= MixtureOrder.round)
    order = Sampler(seed: seed ^ MixtureOrder.stream, sequenceCount: MixtureOrder.round)
    places = MixtureOrder.shares(weights)
    // Of the seed alone, so that a part has the same order in every mixture.
    samplers = counts.map { Sampler(seed: seed, sequenceCount: $0) }
  }

  /// Whole places in proportion to the weights, by largest remainders, with one for each.
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

  /// The part at a position of the run, and its sequence.
  package func sequence(at position: Int) -> (part: Int, sequence: Int) {
    let round = position / MixtureOrder.round
    let place = order.sequence(at: position)
    var part = 0, first = 0
    while place >= first + places[part] {
      first += places[part]
      part += 1
    }
    // A part's places are met in some order within the round; each is one of the part's own positions.
    return (part, samplers[part].sequence(at: round * places[part] + place - first))
  }

  private static let stream: UInt64 = 0x313C_7D5E_0000_0000
}
