// The results of an evaluation by question, one line of JSON each: two models can be compared question by question.

import Configuration
import Foundation
import RunFolder
import Shell
import Trained

/// Opens its file at once, so that a path that cannot be written is reported before the evaluation.
struct AnswerSheet: ~Copyable {
  private let path: String
  private let file: UnsafeMutablePointer<FILE>

  init(_ path: String) throws {
    guard let file = fopen(path, "we") else { throw Self.failure(path) }
    self.path = path
    self.file = file
  }

  /// - Parameter asked: a question with its sums; losses are in nats.
  func write(_ asked: TrainedModel.Asked) throws {
    let (sums, scores) = (asked.sums, asked.sums.scores)
    var line: [(String, JSON)] = [
      ("question", .whole(asked.question)), ("loss", .real(sums.targets > 0 ? sums.task / Double(sums.targets) : 0)),
      ("targets", .whole(sums.targets)), ("answers", .whole(scores.answers)), ("right", .whole(scores.right)),
    ]
    if scores.overlap > 0 { line.append(("f1", .real(scores.overlap / Double(max(1, scores.answers))))) }
    if !asked.parts.isEmpty {
      line.append(("parts", .list(asked.parts)))
    }
    guard fputs(JSON.object(line).line + "\n", file) >= 0 else { throw Self.failure(path) }
  }

  /// Writes the lines that are still in memory.
  func finish() throws {
    guard fflush(file) == 0 else { throw Self.failure(path) }
  }

  deinit { fclose(file) }

  private static func failure(_ path: String) -> FolderError {
    .system(action: "write", path: path, reason: String(cString: strerror(errno)))
  }
}
