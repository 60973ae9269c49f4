// Presents several sources of sequences as one: the shards of a dataset in order, and the parts of a mixture by
// their weights.

import Data
import Model

package final class CorpusSource: SequenceSource {
  private let sources: [any SequenceSource]
  /// Number of sequences, and of questions, before each source, and the total.
  private let sequencesBefore, questionsBefore: [Int]
  /// Index of the first source of each part of a mixture, and the number of sources; nil without a mixture.
  private let parts: [Int]?
  private let weights: [Double]

  /// - Parameters:
  ///   - parts: the sources of each part and its weight. The weight of a single part is ignored.
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

  /// All sources have the same task, so the first one's judge decides whether logits are needed. Each question goes
  /// to the judge of its own source.
  package var judge: (any Judge)? {
    let judges = sources.compactMap(\.judge)
    guard judges.count == sources.count else { return nil }
    return CorpusJudge(judges: judges, sequencesBefore: sequencesBefore)
  }

  fileprivate static func place(_ number: Int, _ before: [Int]) -> (source: Int, own: Int) {
    // Finds the last source that begins at or before the number. An empty source begins where the next one does.
    var low = 0, high = before.count - 1
    while high - low > 1 {
      let middle = (low + high) / 2
      if before[middle] <= number { low = middle } else { high = middle }
    }
    return (low, number - before[low])
  }

  private func place(_ number: Int, _ before: [Int]) -> (source: Int, own: Int) { Self.place(number, before) }
}

/// Passes each question to the judge of the source that it comes from.
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

/// The order of a run's training: which sequence is used at each position.
package enum SequenceOrder: Sendable {
  case whole(Sampler)
  /// `firsts` is the number of each part's first sequence in the whole.
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
