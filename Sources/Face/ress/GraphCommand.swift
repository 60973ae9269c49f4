// `ress graph`: the token graph of a sample, as text and for the dashboard.

import Configuration
import Data
import Foundation
import Kernels
import Model
import Shell
import Trained

func graph(_ options: GraphOptions) throws -> ExitCode {
  let model = try TrainedModel(options.checkpoint, threads: options.threads ?? 0)
  if !options.json { for sentence in model.skipped { Terminal.complain(sentence) } }
  let corpus = try options.dataset.map { try Corpus(path: $0) } ?? Corpus(model.manifest.configuration.data)
  let split = Split(rawValue: options.split) ?? .validation
  let graph = try model.graph(
    corpus, split, sample: options.sample, segment: options.segment)
  let strongest = options.strongest
  if options.json {
    Terminal.print(try graph.json(checkpoint: model.path, step: model.manifest.step, split, strongest: strongest))
    return .done
  }
  let step = options.step ?? graph.graphs.count
  guard step <= graph.graphs.count else {
    throw UsageError("--step \(step): the model has \(graph.graphs.count) steps of recurrence", command: "graph")
  }
  Terminal.print(
    "\(model.path), \(split.rawValue) sample \(graph.sample) of \(graph.sampleCount), segment \(graph.segment) of \(graph.segmentCount), "
      + "step of recurrence \(step) of \(graph.graphs.count)\n" + graph.table(step: step, strongest: strongest ?? 4))
  return .done
}

extension SampleGraph {
  /// Each token with the neighbours outside its window that have the largest weights.
  fileprivate func table(step: Int, strongest: Int) -> String {
    var table = TextTable([("token", .right), ("text", .left), ("in window", .right), ("farther neighbours", .left)])
    let graph = graphs[step - 1]
    for (token, edges) in zip(graph.tokens, graph.edges) {
      let window = token - windowBefore...token + windowAfter
      let far = edges.filter { !window.contains($0.token) }
      let near = edges.lazy.filter { window.contains($0.token) }.reduce(0) { $0 + Double($1.weight) }
      table.add([
        "\(token)", shown(token), percent(near),
        far.strongest(strongest).map { "\($0.token) \(shown($0.token)) \(percent(Double($0.weight)))" }
          .joined(separator: ", "),
      ])
    }
    return table.text
  }

  private func shown(_ token: Int) -> String { "'" + tokens[token - graphs[0].firstVisible].text.escaped + "'" }
  private func percent(_ share: Double) -> String { Format.fixed(100 * share, 0) + " %" }

  /// Indices refer to `tokens`. `first` is the position of the first of them in the sequence; the segment's own tokens
  /// begin at `own`.
  fileprivate func json(checkpoint: String, step: Int, _ split: Split, strongest: Int?) throws -> String {
    struct Page: Encodable {
      let checkpoint: String
      let step: Int
      let split: String
      let sample, samples, segment, segments, first, own, windowBefore, windowAfter: Int
      let identifiers: [Int32]
      let texts: [String]
      let steps: [Step]
    }
    struct Step: Encodable {
      /// One row for each token of the segment: neighbours, and A to four digits.
      let neighbours: [[Int]]
      let weights: [[Double]]
    }
    let first = graphs[0].firstVisible
    let steps = graphs.map { graph in
      let edges = graph.edges.map { edges in strongest.map { edges.strongest($0) } ?? edges }
      return Step(
        neighbours: edges.map { $0.map { $0.token - first } },
        weights: edges.map { $0.map { (Double($0.weight) * 1e4).rounded() / 1e4 } })
    }
    let page = Page(
      checkpoint: checkpoint, step: step, split: split.rawValue, sample: sample, samples: sampleCount, segment: segment,
      segments: segmentCount, first: first, own: graphs[0].tokens.lowerBound - first, windowBefore: windowBefore,
      windowAfter: windowAfter, identifiers: tokens.map(\.identifier), texts: tokens.map(\.text), steps: steps)
    return String(decoding: try JSON.encode(page), as: UTF8.self)
  }
}

extension [TokenGraph.Edge] {
  /// The `count` neighbours with the largest weights, in descending order; of equal weights the later token first.
  fileprivate func strongest(_ count: Int) -> [TokenGraph.Edge] {
    Array(sorted { ($0.weight, $0.token) > ($1.weight, $1.token) }.prefix(count))
  }
}

extension String {
  /// The text on one line, with control characters escaped.
  fileprivate var escaped: String {
    unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7f ? $0.escaped(asASCII: true) : String($0) }.joined()
  }
}
