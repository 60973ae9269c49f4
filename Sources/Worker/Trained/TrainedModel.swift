// The whole model of a checkpoint, loaded on this machine. Generating text, evaluating, exporting and drawing token
// graphs use it; none of them needs a coordinator.

import Checkpoint
import Configuration
import Data
import Foundation
import Kernels
import Model
import Training
import Wire

/// A model to compute with, on this machine's threads. It is not trained further.
package final class TrainedModel {
  /// The checkpoint's folder.
  package let path: String
  package let manifest: CheckpointManifest
  /// Newer checkpoints of the run that were skipped because they do not verify, and the reasons.
  package let skipped: [String]
  package let vocabulary: Int
  /// The tokenizer that its training text was encoded with.
  package var tokenizer: Tokenizer {
    get throws { try RunTokenizer.read((path as NSString).deletingLastPathComponent, manifest) }
  }
  private let parameters: ParameterBuffer
  let weights: Weights
  let team: Team
  let experts: LocalExperts

  /// - Parameters:
  ///   - place: a checkpoint's folder, or a run's folder, of which the newest checkpoint that verifies is used.
  ///   - threads: 0 uses all cores.
  ///   - precision: that of the products; nil uses the one of the run.
  package init(_ place: String, threads: Int, precision: Precision? = nil) throws {
    let reader = try CheckpointReader(place)
    (path, manifest, skipped) = (reader.path, reader.manifest, reader.skipped)
    // The configuration may leave the size of the vocabulary to the dataset; the embedding table always has it.
    let embedding = try reader.shape(of: "model/embed/weight")
    guard let vocabulary = embedding.first, vocabulary > 0 else {
      throw CheckpointError.tensor(path: path, name: "model/embed/weight", problem: "holds no token")
    }
    self.vocabulary = vocabulary
    var model = manifest.configuration.model
    if let precision { model.precision = precision }
    let owned = Array(0..<model.expertCount)
    let layout = ParameterLayout(model, vocabulary: vocabulary)
    // Checked before memory is allocated, because the sizes come from a manifest that may be damaged.
    for entry in layout.dense + layout.experts.flatMap({ $0 }) where entry.count > 0 {
      try reader.check(StoredKind.values.name(of: entry), shape: entry.shape)
    }
    parameters = ParameterBuffer(layout, experts: owned)
    try parameters.forEachTensor { entry, values in
      if entry.count > 0 { try reader.read(StoredKind.values.name(of: entry), shape: entry.shape, into: values) }
    }
    weights = Weights(parameters, model)
    team = Team(laneCount: threads > 0 ? threads : ProcessInfo.processInfo.activeProcessorCount)
    experts = LocalExperts(model, parameters: parameters, held: owned, team: team)
  }

  /// The model's sizes with another number of recurrence steps, or for sequences of up to `length` tokens.
  func sizes(recurrence: Int?, length: Int = 0) throws -> Sizes {
    var model = manifest.configuration.model
    if model.isTransformer, length > model.segment {
      // Rotary and sinusoidal positions can be computed beyond the trained length; a trained table has no further
      // rows.
      guard model.positions != .learned else {
        throw ModelUseError.fixedPositions(path: path, length: length, positions: model.segment)
      }
      model.segment = length
    }
    if let recurrence, recurrence != model.steps, !model.allowsOtherSteps {
      throw ModelUseError.fixedSteps(path: path, steps: model.steps)
    }
    return Sizes(model, vocabulary: vocabulary, steps: recurrence)
  }

  /// The model's tensors, by their names in docs/model.md. They point into the parameter buffer.
  var tensors: [NamedTensor] {
    var tensors: [NamedTensor] = []
    parameters.forEachTensor { entry, values in
      if entry.count > 0 { tensors.append(NamedTensor(name: entry.name, shape: entry.shape, values: values)) }
    }
    return tensors
  }

  /// All logits of a sequence, (`Sizes.logitRows`, classes).
  package func logits(_ tokens: [Int32]) throws -> [Real] {
    guard let outside = tokens.first(where: { !(0..<Int32(vocabulary)).contains($0) }) else {
      let sizes = try sizes(recurrence: nil)
      let model = SequenceModel(
        sizes, maximumTokens: tokens.count, recompute: .always, memoryLimit: 0, team: team, exchange: experts)
      let (rows, columns) = (sizes.logitRows(tokens.count), sizes.logitColumns)
      var out = [Real](repeating: 0, count: rows * columns)
      try out.withUnsafeMutableBufferPointer { out in
        try tokens.withUnsafeBufferPointer { tokens in
          try model.logits(
            TokenInput(tokens), weights: weights, into: Matrix(out.baseAddress!, rows: rows, columns: columns))
        }
      }
      return out
    }
    throw ModelUseError.unknownToken(path: path, token: outside, vocabulary: vocabulary)
  }

  /// The token graphs of the buffer's last segment, one for each recurrence step.
  func graphs(of buffer: SequenceBuffer, _ sizes: Sizes) throws -> [TokenGraph] {
    let model = SequenceModel(
      sizes, maximumTokens: buffer.tokenCount, recompute: .always, memoryLimit: 0, team: team, exchange: experts)
    return try buffer.withInput { tokens, _ in try model.graphs(tokens, weights: weights) }
  }

  /// The result of evaluating a split.
  package struct Evaluation: Equatable, Sendable {
    package var losses: Losses
    /// Number of sequences; for tasks with questions, the number of questions.
    package var sequences: Int
    package var tokens: Int
    /// The measures of the task.
    package var metrics: [EvaluationRecord.Metric]
  }

  /// SHA-256 of the tokenizer that the model was trained with; nil where it is not known.
  var tokenizerDigest: String? {
    get throws {
      if let kept = manifest.data?.tokenizer { return kept }
      return try RunTokenizer.known((path as NSString).deletingLastPathComponent, data: manifest.configuration.data)?
        .digest
    }
  }

  /// The result of one question of an evaluation.
  package struct Asked {
    /// Its number in the split.
    package var question: Int
    package var sums: LossSums
    /// Mean losses of equal parts of the sequence, from its first tokens to its last; empty unless parts were
    /// requested.
    package var parts: [Double]
  }

  /// Losses and scores over a dataset's validation split. `sequences` of them are used, evenly spaced; nil uses
  /// all. Equal sequences give the same bits as an evaluation during training.
  ///
  /// - Parameters:
  ///   - length: tokens that are read of a sequence, instead of the run's `data.sequence_length`.
  ///   - parts: number of parts of each sequence whose losses are reported separately, for language models; 0 for
  ///     none.
  ///   - each: called with the result of each question.
  package func evaluate(
    _ corpus: Corpus, sequences: Int?, recurrence: Int? = nil, length: Int? = nil, parts: Int = 0,
    each: (Asked) throws -> Void = { _ in }, progress: (Int, Int) -> Void = { _, _ in }
  ) throws -> Evaluation {
    var configuration = manifest.configuration
    if let length { configuration.data.sequenceLength = length }
    let sizes = try sizes(recurrence: recurrence, length: length ?? 0)
    // Without this check, tokens of another tokenizer with the same number of tokens would be evaluated as if they
    // were the model's.
    if let own = try tokenizerDigest, own != corpus.tokenizer.digest {
      throw ModelUseError.otherTokenizer(
        model: path, own: (try? tokenizer)?.summary ?? "SHA-256 \(own)", dataset: corpus.path,
        other: corpus.tokenizer.summary)
    }
    guard corpus.vocabulary <= vocabulary else {
      throw TaskError.vocabulary(path: corpus.path, model: vocabulary, dataset: corpus.vocabulary)
    }
    let task = try TaskSource(corpus, configuration)
    let source = try task.sequences(.validation)
    guard source.sequenceCount > 0 else { throw task.tooSmall(.validation) }
    let model = SequenceModel(
      sizes, maximumTokens: source.length, recompute: .always, memoryLimit: 0,
      team: team, exchange: experts)
    let count = min(sequences ?? source.questionCount, source.questionCount)
    var tree = UnitTree<LossSums>(unitCount: count)
    let evaluator = Evaluator(source, sizes)
    let isParted = parts > 0 && task.task == .lm
    evaluator.keepsLogits = isParted
    for unit in 0..<count {
      var report = SequenceReport(sizes)
      let question = unit * source.questionCount / count
      let answers = try evaluator.ask(question, unit: unit, model, weights, &report)
      try each(
        Asked(question: question, sums: report.losses, parts: isParted ? Self.losses(of: answers[0], parts) : []))
      tree.insert(report.losses, at: UnitNode(level: 0, index: unit)) { $0 + $1 }
      progress(unit + 1, count)
    }
    let sums = tree.total!
    return Evaluation(
      losses: Losses(sums, configuration.model, steps: sizes.steps), sequences: count, tokens: sums.tokens,
      metrics: TaskMetrics.of(task.task, sums).map { .init(name: $0.name, value: $0.value) })
  }
}

extension TrainedModel {
  /// The mean loss of each of `parts` equal parts of a sequence; 0 for a part without targets.
  private static func losses(of answer: Answer, _ parts: Int) -> [Double] {
    let count = answer.targets.count
    return (0..<parts).map { part in
      let rows = (part * count / parts..<(part + 1) * count / parts).filter { answer.targets[$0] >= 0 }
      return rows.isEmpty ? 0 : rows.reduce(0) { $0 + answer.loss($1) } / Double(rows.count)
    }
  }
}

/// A request that the model cannot fulfil.
package enum ModelUseError: Error, Equatable, CustomStringConvertible {
  case fixedSteps(path: String, steps: Int)
  case writesNoText(path: String, head: Head)
  case contextTooLong(path: String, tokens: Int, context: Int)
  case fixedPositions(path: String, length: Int, positions: Int)
  case runExists(folder: String, step: Int)
  case unknownToken(path: String, token: Int32, vocabulary: Int)
  case noGraph(path: String)
  case noSample(path: String, split: String, Int, count: Int)
  case noSegment(sample: Int, tokens: Int, Int, count: Int)
  case otherTokenizer(model: String, own: String, dataset: String, other: String)
  case noTokenizer(path: String, found: String)
  case otherLogits(file: String, distance: Double, tolerance: Double, type: String)

  package var description: String {
    switch self {
    case .fixedSteps(let path, let steps):
      "\(path) has \(steps) blocks with experts of their own, so it runs for \(steps) steps; leave --recurrence out"
    case .writesNoText(let path, let head):
      "\(path) was trained for '\(head.rawValue)'; only a model with head: lm writes text"
    case .runExists(let folder, let step):
      "\(folder) has checkpoints already, up to step \(step); import under another name with --run"
    case .unknownToken(let path, let token, let vocabulary):
      "\(path) has tokens below \(vocabulary), and token \(token) was given"
    case .otherTokenizer(let model, let own, let dataset, let other):
      "\(model) and \(dataset) have different tokenizers (\(own); \(other)), so equal tokens mean different texts; "
        + "prepare the text with the model's own: --tokenizer"
    case .noTokenizer(let path, let found):
      "the model was trained with another tokenizer than the one that was found (\(found)); copy its tokenizer.json or tokenizer.model to \(path)"
    case .otherLogits(let file, let distance, let tolerance, let type):
      "\(file): the model's logits differ from those of the file's proof by \(distance) of the largest, and \(tolerance) is "
        + "allowed; nothing was written"
        + (type == "F32" || type == "F64"
          ? ""
          : ". Its numbers are \(type), which rounds them: if that is intended, use --tolerance \(ModelFile.roundedUp(distance))")
    case .noGraph(let path):
      "\(path) is a dense transformer, in which every token sees all before it; only model.architecture: ressformer has a graph"
    case .noSample(let path, let split, let sample, let count):
      count == 0
        ? "\(path) has no sequence in its \(split) split"
        : "sample \(sample) is not in \(path): its \(split) split has sequences 0 to \(count - 1)"
    case .noSegment(let sample, let tokens, let segment, let count):
      "segment \(segment) is not in sample \(sample): it has \(tokens) tokens in segments 0 to \(count - 1)"
    case .fixedPositions(let path, let length, let positions):
      "\(path) has learned positions for \(positions) tokens, and --length is \(length); lower it"
    case .contextTooLong(let path, let tokens, let context):
      "\(path) is a transformer that reads \(context) tokens at most, and prompt and text together are \(tokens); lower --tokens"
    }
  }
}
