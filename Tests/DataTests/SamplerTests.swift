// The order of training sequences.

import Data
import Testing

@Suite struct SamplerTests {
  @Test func `an epoch visits every sequence once, for every dataset size up to 200 and a large one`() {
    for count in Array(1...200) + [10_007] {
      let sampler = Sampler(seed: 3, sequenceCount: count)
      for epoch in 0..<2 {
        let visited = (0..<count).map { sampler.sequence(at: epoch * count + $0) }
        #expect(visited.sorted() == Array(0..<count), "\(count) sequences, epoch \(epoch)")
      }
    }
  }

  @Test func `every epoch and every seed has another order`() {
    let sampler = Sampler(seed: 3, sequenceCount: 500)
    let first = (0..<500).map { sampler.sequence(at: $0) }
    #expect(first != (500..<1000).map { sampler.sequence(at: $0) })
    #expect(first != (0..<500).map { Sampler(seed: 4, sequenceCount: 500).sequence(at: $0) })
    #expect(first != Array(0..<500))
  }

  @Test func `the sequence at a position does not depend on earlier calls`() {
    let sampler = Sampler(seed: 9, sequenceCount: 77)
    let forwards = (0..<200).map { sampler.sequence(at: $0) }
    #expect((0..<200).reversed().map { sampler.sequence(at: $0) } == forwards.reversed())
  }

  @Test func `the order is that of earlier versions`() {
    // A change of these numbers changes every curve. It needs a reason and a note in the changelog, not only a new
    // list.
    let sampler = Sampler(seed: 1, sequenceCount: 1000)
    #expect((0..<8).map { sampler.sequence(at: $0) } == SamplerTests.pinned)
  }
  static let pinned = [253, 116, 262, 837, 943, 345, 755, 32]
}

@Suite struct `The order of a mixture` {
  @Test func `each part has its share of every round, within half a place`() {
    let order = MixtureOrder(seed: 5, weights: [0.7, 0.2, 0.1], counts: [300, 70, 9])
    #expect(order.places.reduce(0, +) == MixtureOrder.round)
    for round in 0..<3 {
      var counts = [0, 0, 0]
      for place in 0..<MixtureOrder.round { counts[order.sequence(at: round * MixtureOrder.round + place).part] += 1 }
      #expect(counts == order.places)
      #expect(zip(counts, [716.8, 204.8, 102.4]).allSatisfy { abs(Double($0) - $1) <= 0.5 })
    }
  }

  @Test func `every sequence of a part is used once before one is used again`() {
    let order = MixtureOrder(seed: 5, weights: [3, 1], counts: [500, 256])
    var seen: [[Int]] = [[], []]
    for position in 0..<2 * MixtureOrder.round {
      let (part, sequence) = order.sequence(at: position)
      seen[part].append(sequence)
    }
    #expect(seen.map(\.count) == [1536, 512])
    // Two rounds hold two epochs of the second part and three of the first; a round holds whole epochs of the
    // second.
    #expect(seen[1][..<256].sorted() == Array(0..<256) && seen[1][256...].sorted() == Array(0..<256))
    #expect(Dictionary(grouping: seen[0]) { $0 }.values.map(\.count).allSatisfy { (3...4).contains($0) })
  }

  @Test func `the smallest weight has a place, and rounds differ`() {
    let order = MixtureOrder(seed: 1, weights: [1e9, 1], counts: [10, 10])
    #expect(order.places == [1023, 1])
    let rounds = (0..<2).map { round in
      (0..<MixtureOrder.round).map { order.sequence(at: round * MixtureOrder.round + $0).part }
    }
    #expect(rounds[0] != rounds[1])
  }
}
