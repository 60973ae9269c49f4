// Sequences of several sources as one's: shards one behind the other, parts of a mixture by their weights.

import Data
import Model

package final class CorpusSource: SequenceSource {
  private let sources: [any SequenceSource]
  /// Sequences, and questions, before each source and in all.
  private let sequencesBefore, questionsBefore: [Int]
  /// First source of each part of the mixture, and the end; nil where order is the whole's.
  private let parts: [Int]?
  private let weights: [Double]

  /// - Parameters:
  ///   - parts: sources of each part with its weight; one part's weight means nothing.
  package init(_ parts: [(sources: [any SequenceSource], weight: Double)]) {
    sources = parts.flatMap(\.sources)
    sequencesBefore = sources.reduce(into: [0]) { $0.append($0.last! + $1.sequenceCount) }
    questionsBefore = sources.reduce(into: [0]) { $0.append($0.last! + $1.questionCount) }
    self.parts = parts.count > 1 ? parts.reduce(into: [0]) { $0.append($0.last! + $1.sources.count) } : nil
    weights = parts.map(\.weight)
  }

  package var sequenceCount: Int { sequencesBefore.last! }
  package var length: Int { sources.map(\.length).max()! }
  package var questionCount: Int { questionsBefore.last! }

  package func read(_ sequence: Int, into buffer: inout SequenceBuffer) throws {
    let (source, own) = place(sequence, sequencesBefore)
    try sources[source].read(own, into: &buffer)
  }

  package func tokenCount(of sequence: Int) -> Int {
    let (source, own) = place(sequence, sequencesBefore)
    return sources[source].tokenCount(of: own)
  }

  package func targetCount(of sequence: Int) throws -> Int {
    let (source, own) = place(sequence, sequencesBefore)
    return try sources[source].targetCount(of: own)
  }

  package func sequences(of question: Int) -> Range<Int> {
    let (source, own) = place(question, questionsBefore)
    let range = sources[source].sequences(of: own)
    return range.lowerBound + sequencesBefore[source]..<range.upperBound + sequencesBefore[source]
  }

  package var cutCount: Int { sources.reduce(0) { $0 + $1.cutCount } }

  package func order(seed: UInt64) -> SequenceOrder {
    guard let parts else { return .whole(Sampler(seed: seed, sequenceCount: sequenceCount)) }
    let firsts = parts.map { sequencesBefore[$0] }
    return .mixed(
      MixtureOrder(seed: seed, weights: weights, counts: zip(firsts, firsts.dropFirst()).map { $1 - $0 }),
      firsts: firsts)
  }

  /// All sources answer the same task, so the first one's judge stands for all; it is asked with each source's own numbers.
  package var judge: (any Judge)? {
    let judges = sources.compactMap(\.judge)
    guard judges.count == sources.count else { return nil }
    return CorpusJudge(judges: judges, sequencesBefore: sequencesBefore)
  }

  fileprivate static func place(_ number: Int, _ before: [Int]) -> (source: Int, own: Int) {
    // The last source that begins at or before it; an empty one begins where the next does.
    var low = 0, high = before.count - 1
    while high - low > 1 {
      let middle = (low + high) / 2
      if before[middle] <= number { low = middle } else { high = middle }
    }
    return (low, number - before[low])
  }

  private func place(_ number: Int, _ before: [Int]) -> (source: Int, own: Int) { Self.place(number, before) }
}

/// Hands each question to the judge of the source that it is of.
private struct CorpusJudge: Judge {
  let judges: [any Judge]
  let sequencesBefore: [Int]

  var needsLogits: Bool { judges[0].needsLogits }

  func scores(_ answers: [Answer]) throws -> ScoreSums {
    guard let first = answers.first else { return try judges[0].scores(answers) }
    let (source, _) = CorpusSource.place(first.sequence, sequencesBefore)
    return try judges[source].scores(
      answers.map { answer in
        var own = answer
        own.sequence -= sequencesBefore[source]
        return own
      })
  }
}

/// Which sequence a run trains on at each of its positions.
package enum SequenceOrder: Sendable {
  case whole(Sampler)
  /// `firsts`: the number of each part's first sequence.
  case mixed(MixtureOrder, firsts: [Int])

  package func sequence(at position: Int) -> Int {
    switch self {
    case .whole(let sampler): return sampler.sequence(at: position)
    case .mixed(let order, let firsts):
      let (part, sequence) = order.sequence(at: position)
      return firsts[part] + sequence
    }
  }
}
