// A run keeps its tokenizer beside its checkpoints, so that a model can read and write text where its dataset is not.

import Configuration
import Data
import Foundation
import RunFolder

enum RunTokenizer {
  private static let name = "tokenizer.json"

  /// Bytes need no file.
  static func keep(_ tokenizer: Tokenizer, in folder: String) throws(FolderError) {
    guard case .bytePairs = tokenizer else { return }
    let text = Array(tokenizer.stored.utf8)
    let path = folder + "/" + name
    if FileManager.default.contents(atPath: path).map({ Array($0) }) != text { try Durable.write(text, to: path) }
  }

  /// The run's, else its dataset's. A run without either was trained on bytes.
  static func read(_ folder: String, data: DataConfiguration) throws -> Tokenizer {
    let path = folder + "/" + name
    if FileManager.default.fileExists(atPath: path) { return .bytePairs(try TokenizerFile.read(path)) }
    return (try? Corpus(data))?.tokenizer ?? .byte
  }
}
