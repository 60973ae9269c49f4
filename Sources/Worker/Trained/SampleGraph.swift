// The token graph of a sample: which tokens a trained model links in a sequence of its dataset, segment by segment
// (`ress graph`, and the dashboard's view of it).

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
  /// Number of sequences in the split.
  package var sampleCount: Int
  package var segment: Int
  /// Number of segments in the sequence.
  package var segmentCount: Int
  /// The tokens that the segment sees: those before it that are still visible, then its own.
  package var tokens: [Token]
  /// One graph for each step of recurrence.
  package var graphs: [TokenGraph]
  /// Number of neighbours before and after itself that every token is linked to, whatever their content.
  package var windowBefore: Int
  package var windowAfter: Int
}

extension TrainedModel {
  /// Computes the graphs of one segment.
  /// - Parameters:
  ///   - sample: number of the sequence in the split, from 0.
  ///   - segment: number of the segment in the sequence, from 0.
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
    // The model is causal over segments: later ones change nothing in this one, so they are not computed.
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
  /// A token as text. A token of several features (a table cell) is shown as the text among them.
  fileprivate func text(of features: [Int32]) -> String {
    // A node's features are numbers whose meaning only the dataset's author knows.
    if task == .graphs { return "⟨\(features.count) features⟩" }
    if features.count == 1 { return tokenizer.spoken(features[0]) }
    let text = String(decoding: tokenizer.decode(features.filter { $0 < tokenizer.vocabulary }), as: UTF8.self)
    return text.isEmpty ? features.map { "⟨\($0)⟩" }.joined() : text
  }
}
