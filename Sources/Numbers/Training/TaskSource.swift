// Opens the sequences of a dataset for a model, for any task, after checking that the model fits the task.

import Configuration
import Data

package struct TaskSource {
  package let task: TaskKind
  private let corpus: Corpus
  private let configuration: RunConfiguration

  /// - Throws: `TaskError` where the model does not fit the dataset's task.
  package init(_ corpus: Corpus, _ configuration: RunConfiguration) throws(TaskError) {
    self.corpus = corpus
    self.configuration = configuration
    task = corpus.task
    let model = configuration.model
    guard model.head == task.head else {
      throw .head(path: corpus.path, task: task, head: model.head)
    }
    guard task.head == .lm || task.head == .span || model.classes >= corpus.classCount else {
      throw .classes(path: corpus.path, labels: corpus.classCount, classes: model.classes)
    }
    if let asked = model.vocabulary, asked < corpus.vocabulary {
      throw .vocabulary(path: corpus.path, model: asked, dataset: corpus.vocabulary)
    }
    guard model.relations > 0 else { return }
    for dataset in corpus.parts.flatMap(\.datasets)
    where dataset.relationKinds == 0 || dataset.relationKinds > model.relations {
      throw .relations(path: dataset.path, task: task, dataset: dataset.relationKinds, model: model.relations)
    }
  }

  package func sequences(_ split: Split) throws(DataError) -> any SequenceSource {
    var parts: [(sources: [any SequenceSource], weight: Double)] = []
    for part in corpus.parts {
      var sources: [any SequenceSource] = []
      for dataset in part.datasets { sources.append(try sequences(split, of: dataset)) }
      // A part without sequences could never supply its share of the mixture.
      if split == .train, sources.allSatisfy({ $0.sequenceCount == 0 }) { throw tooSmall(split, part) }
      parts.append((sources, part.weight))
    }
    if parts.count == 1, parts[0].sources.count == 1 { return parts[0].sources[0] }
    return CorpusSource(parts)
  }

  private func sequences(_ split: Split, of dataset: Dataset) throws(DataError) -> any SequenceSource {
    let length = configuration.data.sequenceLength
    if let examples = dataset.examples(split) {
      let longest = Split.allCases.compactMap { dataset.examples($0)?.longest }.max() ?? 0
      return ExampleSource(
        examples, limit: length, longest: longest, tokenizer: dataset.tokenizer, labels: dataset.labels,
        readsRelations: configuration.model.relations > 0)
    }
    return try LanguageModelSource(
      dataset.split(split), length: length, layout: configuration.data.documents,
      separator: dataset.tokenizer.separator, tokenizer: dataset.tokenizer)
  }

  /// The error for a split that has no sequence.
  package func tooSmall(_ split: Split) -> DataError { tooSmall(split, corpus.parts[0]) }

  private func tooSmall(_ split: Split, _ part: Corpus.Part) -> DataError {
    task == .lm
      ? .tooSmall(
        path: part.path, split: split.rawValue, tokens: part.datasets.reduce(0) { $0 + $1.split(split).tokenCount },
        needed: configuration.data.sequenceLength + 1)
      : .noExamples(path: part.path, split: split.rawValue)
  }
}

package enum TaskError: Error, Equatable, CustomStringConvertible {
  case head(path: String, task: TaskKind, head: Head)
  case classes(path: String, labels: Int, classes: Int)
  case vocabulary(path: String, model: Int, dataset: Int)
  case relations(path: String, task: TaskKind, dataset: Int, model: Int)

  package var description: String {
    switch self {
    case .head(let path, let task, let head):
      "\(path) holds task '\(task.rawValue)', which trains model.head: \(task.head.rawValue), not \(head.rawValue)"
        + (task == .lm ? "; labelled rows make the other tasks: ress data prepare --task" : "")
    case .classes(let path, let labels, let classes):
      "\(path) has \(labels) classes, and model.classes is \(classes); set model.classes: \(labels)"
    case .vocabulary(let path, let model, let dataset):
      "model.vocabulary is \(model), and \(path) uses \(dataset) tokens; raise it or leave it out"
    case .relations(let path, let task, let dataset, let model):
      dataset > 0
        ? "\(path) has \(dataset) kinds of relations, and model.relation_kinds is \(model); set model.relation_kinds: "
          + "\(dataset), or 0 to read none"
        : "\(path) has no relations, and model.relation_kinds is \(model); "
          + (task.hasRelations ? "prepare it with --relations, or set " : "task \(task.rawValue) has none: set ")
          + "model.relation_kinds: 0"
    }
  }
}
