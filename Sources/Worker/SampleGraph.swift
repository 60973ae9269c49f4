// The token graph of a sample: what a trained model joins in a sequence of its own data, segment by segment.

import Configuration
import Data
import Kernels
import Model
import Training

package struct SampleGraph {
  package struct Token: Equatable, Sendable {
    package var identifier: Int32
    package var text: String
  }

  package var sample: Int
  /// Sequences that the split has.
  package var sampleCount: Int
  package var segment: Int
  /// Segments that the sequence has.
  package var segmentCount: Int
  /// What the segment sees: tokens before it, then its own.
  package var tokens: [Token]
  /// One a step of recurrence.
  package var graphs: [TokenGraph]
  /// Neighbours before and after itself that every token has, whatever they say.
  package var windowBefore: Int
  package var windowAfter: Int
}

extension TrainedModel {
  /// - Parameters:
  ///   - sample: a sequence of the split, from 0.
  ///   - segment: of the sequence, from 0.
  package func graph(_ corpus: Corpus, _ split: Split, sample: Int, segment: Int) throws -> SampleGraph {
    let configuration = manifest.configuration
    guard !configuration.model.isTransformer else { throw ModelUseError.noGraph(path: path) }
    guard corpus.vocabulary <= vocabulary else {
      throw TaskError.vocabulary(path: corpus.path, model: vocabulary, dataset: corpus.vocabulary)
    }
    let source = try TaskSource(corpus, configuration).sequences(split)
    guard sample < source.sequenceCount else {
      throw ModelUseError.noSample(path: corpus.path, split: split.rawValue, sample, count: source.sequenceCount)
    }
    var buffer = SequenceBuffer()
    try source.read(sample, into: &buffer)
    let sizes = Sizes(configuration.model, vocabulary: vocabulary)
    let segments = (buffer.tokenCount + sizes.segment - 1) / sizes.segment
    guard segment < segments else {
      throw ModelUseError.noSegment(sample: sample, tokens: buffer.tokenCount, segment, count: segments)
    }
    // Later segments change nothing in this one.
    let end = min(buffer.tokenCount, (segment + 1) * sizes.segment)
    buffer.cut(to: end)
    let graphs = try graphs(of: buffer, sizes)
    let first = graphs[0].firstVisible
    return buffer.withInput { input, _ in
      SampleGraph(
        sample: sample, sampleCount: source.sequenceCount, segment: segment, segmentCount: segments,
        tokens: (first..<end).map { token in
          .init(identifier: input[token].first ?? -1, text: corpus.text(of: Array(input[token])))
        },
        graphs: graphs, windowBefore: sizes.windowBefore, windowAfter: sizes.windowAfter)
    }
  }
}

extension Corpus {
  /// A token of one feature as the tokenizer says it; of several, as a cell has them, the text among them.
  fileprivate func text(of features: [Int32]) -> String {
    // A node's features are words that only whoever numbered them knows.
    if task == .graphs { return "⟨\(features.count) features⟩" }
    if features.count == 1 { return tokenizer.spoken(features[0]) }
    let text = String(decoding: tokenizer.decode(features.filter { $0 < tokenizer.vocabulary }), as: UTF8.self)
    return text.isEmpty ? features.map { "⟨\($0)⟩" }.joined() : text
  }
}
