// A run keeps its tokenizer beside its checkpoints, so that the model can be used where its dataset is not
// available.

import Configuration
import Data
import Foundation
import RunFolder

package enum RunTokenizer {
  /// The file of a run's tokenizer, if there is one.
  private static func path(in folder: String) -> String? {
    [TokenizerFile.pairsName, TokenizerFile.piecesName].lazy.map { folder + "/" + $0 }
      .first { FileManager.default.fileExists(atPath: $0) }
  }

  /// Writes the tokenizer's file. A tokenizer of bytes needs none.
  package static func keep(
    _ tokenizer: Tokenizer, in folder: String, _ boundary: Boundary = .none
  ) throws(FolderError) {
    guard let name = tokenizer.fileName else { return }
    let stored = tokenizer.stored
    try boundary.within(folder) { (pinned) throws(FolderError) in
      let path = pinned.path + "/" + name
      if (try? boundary.contents(of: path)).map({ Array($0) }) != stored { try Durable.write(stored, to: path) }
    }
  }

  /// The tokenizer in the run's folder, or else its dataset's; nil where neither exists.
  static func known(_ folder: String, data: DataConfiguration) throws -> Tokenizer? {
    if let path = path(in: folder) { return try TokenizerFile.read(path) }
    return (try? Corpus(data))?.tokenizer
  }

  /// The tokenizer that a checkpoint's model was trained with. Where neither the run's folder nor its dataset has
  /// one, it is bytes.
  static func read(_ folder: String, _ manifest: CheckpointManifest) throws -> Tokenizer {
    let found = try known(folder, data: manifest.configuration.data) ?? .byte
    guard let expected = manifest.data?.tokenizer, expected != found.digest else { return found }
    if expected == Tokenizer.byte.digest { return .byte }
    throw ModelUseError.noTokenizer(path: folder, found: found.summary)
  }

  /// Throws where the dataset's tokenizer is not the one that the run's model was trained with. It also works for
  /// checkpoints of older programs, whose manifests have no digest.
  package static func check(_ tokenizer: Tokenizer, in folder: String, _ dataset: String) throws {
    guard let path = path(in: folder) else { return }
    let own = try TokenizerFile.read(path)
    guard own.digest == tokenizer.digest else {
      throw ModelUseError.otherTokenizer(
        model: path, own: own.summary, dataset: dataset, other: tokenizer.summary)
    }
  }
}
