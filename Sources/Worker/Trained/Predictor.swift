// Answers of a trained model to rows without labels (`ress predict`): the same input and the same choice as in an
// evaluation, with the probabilities of the classes.

import Configuration
import Data
import Foundation
import Kernels
import Model
import Training

/// The model's answer to one question.
package enum Prediction: Equatable, Sendable {
  /// Probabilities of the classes.
  case classes([Double])
  /// The probability of each choice to be the right one; they add up to 1.
  case choices([Double])
  /// For each word, the probabilities of its tags. Words after the length that is read have none.
  case tags([[Double]])
  /// The answer, and the probability of its first token times that of its last; the text is empty where the example has
  /// no text to answer from.
  case span(text: String, probability: Double)
  /// The mean loss of the text's tokens in nats, and their number and that of their bytes.
  case text(loss: Double, tokens: Int, bytes: Int)
}

package final class Predictor {
  package let task: TaskKind
  /// Names of the classes; empty where they are not known.
  package let labels: [String]
  /// Tokens that are read of an example.
  package let length: Int
  private let model: TrainedModel
  private let sizes: Sizes
  private let tokenizer: Tokenizer
  private let network: SequenceModel

  /// - Parameters:
  ///   - task: the task, where neither the run's folder nor its dataset has it.
  ///   - length: tokens that are read of an example, instead of the run's `data.sequence_length`.
  package init(
    _ model: TrainedModel, task given: TaskKind? = nil, length: Int? = nil, recurrence: Int? = nil
  ) throws {
    let configuration = model.manifest.configuration, head = configuration.model.head
    self.model = model
    let known = RunTask.known((model.path as NSString).deletingLastPathComponent, data: configuration.data)
    guard let task = given ?? known?.task ?? Predictor.onlyTask(of: head) else {
      throw PredictionError.unknownTask(path: model.path, head: head)
    }
    guard task.head == head else { throw PredictionError.otherHead(path: model.path, task: task, head: head) }
    guard task != .graphs else { throw PredictionError.graph(path: model.path) }
    self.task = task
    labels = known?.task == task ? known?.labels ?? [] : []
    tokenizer = try model.tokenizer
    self.length = length ?? configuration.data.sequenceLength
    sizes = try model.sizes(recurrence: recurrence, length: length ?? 0)
    network = SequenceModel(
      sizes, maximumTokens: self.length, recompute: .always, memoryLimit: 0, team: model.team,
      exchange: model.experts)
  }

  /// The task of a head that only one task has.
  private static func onlyTask(of head: Head) -> TaskKind? {
    switch head {
    case .lm: .lm
    case .span: .span
    case .classify, .tag: nil
    }
  }

  /// A reader of rows for this model.
  package func reader(field: String? = nil) -> QueryReader {
    QueryReader(task, tokenizer, field: field, relationKinds: sizes.relationKinds)
  }

  /// Whether some tokens of the question are not read.
  package func cuts(_ query: Query) -> Bool {
    // The last token of a text is only predicted.
    let limit = task == .lm ? length + 1 : length
    return query.examples.contains { $0.tokenCount > limit }
  }

  package func answer(_ query: Query) throws -> Prediction {
    switch task {
    case .lm: return try loss(of: query.examples[0])
    case .classify, .tables: return .classes(Self.softmax(try logits(of: query.examples[0])[...]))
    case .multipleChoice:
      let odds = try query.examples.map { example in
        let logits = try logits(of: example)
        return logits[1] - logits[0]
      }
      return .choices(Self.softmax(odds[...]))
    case .tag:
      let example = query.examples[0], logits = try logits(of: example)
      return .tags(example.asked.filter { $0 < length }.map { Self.softmax(row($0, of: logits)) })
    case .span: return try span(of: query.examples[0])
    case .graphs: preconditionFailure("a graph's nodes are not rows by themselves")
    }
  }

  private func row(_ row: Int, of logits: [Real]) -> ArraySlice<Real> {
    logits[row * sizes.logitColumns..<(row + 1) * sizes.logitColumns]
  }

  private func span(of example: Query.Example) throws -> Prediction {
    let tokens = Array(example.features.prefix(length)), logits = try logits(of: example)
    guard let span = SpanJudge.span(tokens, logits, tokenizer, longest: SpanJudge.longest(tokenizer)) else {
      return .span(text: "", probability: 0)
    }
    let starts = Self.softmax(stride(from: 0, to: logits.count, by: 2).map { logits[$0] }[...])
    let ends = Self.softmax(stride(from: 1, to: logits.count, by: 2).map { logits[$0] }[...])
    return .span(
      text: String(decoding: tokenizer.decode(tokens[span]), as: UTF8.self),
      probability: starts[span.lowerBound] * ends[span.upperBound])
  }

  private func loss(of example: Query.Example) throws -> Prediction {
    let tokens = Array(example.features.prefix(length + 1))
    guard tokens.count > 1 else { return .text(loss: 0, tokens: 0, bytes: 0) }
    try check(tokens)
    let input = Array(tokens.dropLast()), targets = Array(tokens.dropFirst())
    var report = SequenceReport(sizes)
    try input.withUnsafeBufferPointer { input in
      try targets.withUnsafeBufferPointer { targets in
        try network.evaluate(
          TokenInput(input), targets: targets, unit: 0, sequence: 0, weights: model.weights, report: &report)
      }
    }
    return .text(
      loss: report.losses.task / Double(targets.count), tokens: targets.count,
      bytes: targets.reduce(0) { $0 + tokenizer.byteCount(of: $1) })
  }

  /// The logits of an example, row after row.
  private func logits(of example: Query.Example) throws -> [Real] {
    let count = min(length, example.tokenCount)
    let features = Array(
      example.bags.isEmpty ? example.features.prefix(count) : example.features.prefix(Int(example.bags[count])))
    let bags = example.bags.isEmpty ? [] : Array(example.bags.prefix(count + 1))
    try check(features)
    var relations = RelationTable()
    if !example.relations.isEmpty { relations.set(example.relations, tokens: count) }
    let (rows, columns) = (sizes.logitRows(count), sizes.logitColumns)
    var out = [Real](repeating: 0, count: rows * columns)
    try out.withUnsafeMutableBufferPointer { out in
      try features.withUnsafeBufferPointer { features in
        try bags.withUnsafeBufferPointer { bags in
          try relations.withView { relations in
            try network.logits(
              TokenInput(features, bags: bags, relations: relations), weights: model.weights,
              into: Matrix(out.baseAddress!, rows: rows, columns: columns))
          }
        }
      }
    }
    return out
  }

  private func check(_ tokens: [Int32]) throws {
    if let outside = tokens.first(where: { !(0..<Int32(model.vocabulary)).contains($0) }) {
      throw ModelUseError.unknownToken(path: model.path, token: outside, vocabulary: model.vocabulary)
    }
  }

  /// Probabilities in double precision.
  private static func softmax(_ logits: ArraySlice<Real>) -> [Double] {
    let largest = Double(logits.max() ?? 0)
    let weights = logits.map { SameEverywhere.exp(max(-700, Double($0) - largest)) }
    let total = weights.reduce(0, +)
    return weights.map { $0 / total }
  }
}

/// A question that the model cannot be asked.
package enum PredictionError: Error, Equatable, CustomStringConvertible {
  case unknownTask(path: String, head: Head)
  case otherHead(path: String, task: TaskKind, head: Head)
  case graph(path: String)

  package var description: String {
    switch self {
    case .unknownTask(let path, let head):
      "\(path) has the head '\(head.rawValue)', and neither its run's folder nor its dataset is there to tell the task; "
        + "name it with --task \(TaskKind.allCases.filter { $0.head == head }.map(\.rawValue).joined(separator: " or --task "))"
    case .otherHead(let path, let task, let head):
      "\(path) has the head '\(head.rawValue)', and task \(task.rawValue) needs '\(task.head.rawValue)'"
    case .graph(let path):
      "\(path) was trained on a graph, whose nodes are not rows by themselves; prepare the graph and use: ress evaluate --answers"
    }
  }
}
