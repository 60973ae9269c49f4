// The sequences that a dataset gives a model, whatever its task.

import Configuration
import Data

package struct TaskSource {
  package let task: TaskKind
  private let dataset: Dataset
  private let configuration: RunConfiguration

  /// - Throws: `TaskError` where the model is not one for the dataset's task.
  package init(_ dataset: Dataset, _ configuration: RunConfiguration) throws(TaskError) {
    self.dataset = dataset
    self.configuration = configuration
    task = dataset.task
    let model = configuration.model
    guard model.head == task.head else {
      throw .head(path: dataset.path, task: task, head: model.head)
    }
    guard task.head == .lm || task.head == .span || model.classes >= dataset.classCount else {
      throw .classes(path: dataset.path, labels: dataset.classCount, classes: model.classes)
    }
    if let asked = model.vocabulary, asked < dataset.vocabulary {
      throw .vocabulary(path: dataset.path, model: asked, dataset: dataset.vocabulary)
    }
  }

  package func sequences(_ split: Split) throws(DataError) -> any SequenceSource {
    let length = configuration.data.sequenceLength
    if let examples = dataset.examples(split) {
      return ExampleSource(examples, limit: length, tokenizer: dataset.tokenizer, labels: dataset.labels)
    }
    return try LanguageModelSource(
      dataset.split(split), length: length, layout: configuration.data.documents,
      separator: dataset.tokenizer.separator, tokenizer: dataset.tokenizer)
  }

  /// Says what is wrong with a split that gives no sequence.
  package func tooSmall(_ split: Split) -> DataError {
    task == .lm
      ? .tooSmall(
        path: dataset.path, split: split.rawValue, tokens: dataset.split(split).tokenCount,
        needed: configuration.data.sequenceLength + 1)
      : .noExamples(path: dataset.path, split: split.rawValue)
  }
}

package enum TaskError: Error, Equatable, CustomStringConvertible {
  case head(path: String, task: TaskKind, head: Head)
  case classes(path: String, labels: Int, classes: Int)
  case vocabulary(path: String, model: Int, dataset: Int)

  package var description: String {
    switch self {
    case .head(let path, let task, let head):
      "\(path) holds task '\(task.rawValue)', which trains model.head: \(task.head.rawValue), not \(head.rawValue)"
        + (task == .lm ? "; labelled rows make the other tasks: ress data prepare --task" : "")
    case .classes(let path, let labels, let classes):
      "\(path) has \(labels) classes, and model.classes is \(classes); set model.classes: \(labels)"
    case .vocabulary(let path, let model, let dataset):
      "model.vocabulary is \(model), and \(path) uses \(dataset) tokens; raise it or leave it out"
    }
  }
}
