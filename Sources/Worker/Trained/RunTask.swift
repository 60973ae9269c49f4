// A run keeps its task and the names of its classes beside its checkpoints, so that the answers of the model have
// names where its dataset is not available.

import Configuration
import Data
import Foundation
import RunFolder

package struct RunTask: Codable, Equatable, Sendable {
  package var task: String
  /// Names of the classes, in the order of their numbers.
  package var labels: [String]

  private static let name = "task.json"

  /// Writes the task's file; language models need none.
  package static func keep(_ corpus: Corpus, in folder: String, _ boundary: Boundary = .none) throws {
    guard corpus.task != .lm else { return }
    let text = try JSON.encode(RunTask(task: corpus.task.rawValue, labels: corpus.labels))
    try boundary.within(folder) { (pinned) throws(FolderError) in
      let path = pinned.path + "/" + name
      if (try? boundary.contents(of: path)).map({ Array($0) }) != text { try Durable.write(text, to: path) }
    }
  }

  /// The task in the run's folder, or else its dataset's; nil where neither can be read.
  static func known(_ folder: String, data: DataConfiguration) -> (task: TaskKind, labels: [String])? {
    if let text = try? Data(contentsOf: URL(filePath: folder + "/" + name)),
      let kept = try? JSONDecoder().decode(RunTask.self, from: text), let task = TaskKind(rawValue: kept.task)
    {
      return (task, kept.labels)
    }
    return (try? Corpus(data)).map { ($0.task, $0.labels) }
  }
}
