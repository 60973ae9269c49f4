// Begins the rounds of a worker and counts them. All workers begin the same rounds in the same order: training
// steps, evaluations, audits, and the search for a gradient that is not finite.

import Kernels

final class Rounds {
  let exchange: any GradientExchange
  /// Number of sums of squares that travel with a note.
  private let chunkCount: Int
  private var number = 0

  init(_ exchange: any GradientExchange, chunkCount: Int) {
    self.exchange = exchange
    self.chunkCount = chunkCount
  }

  func begin(_ purpose: Round.Purpose, step: Int, unitCount: Int) throws {
    number += 1
    try exchange.begin(Round(number: number, step: step, purpose: purpose, unitCount: unitCount))
  }

  /// Agrees with the other workers how to exchange.
  func prepare() throws {
    number += 1
    try exchange.prepare(number)
  }

  /// Measures the connections between the workers, all of them together; nil without peers.
  func probe() throws -> LineSpeed? {
    number += 1
    return try exchange.probe(number)
  }

  /// Exchanges notes without norms. Returns the notes of all workers, by roster index.
  func gather(_ note: StepNote) throws -> [StepNote] {
    _ = try exchange.gather(Array(repeating: 0, count: chunkCount), note)
    return exchange.notes
  }
}
