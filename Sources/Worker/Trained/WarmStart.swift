// A warm start: the weights of another run's checkpoint, with which a run begins at step 0. Moments, the step and the
// order of the data are the run's own. Every worker reads what it holds, so the weights are the same on any cluster.

import Checkpoint
import Configuration
import Data
import Foundation
import Model
import RunFolder

/// A checkpoint that is not the one with which the run began.
package struct ChangedSource: Error, Equatable, CustomStringConvertible {
  package let path: String
  /// SHA-256 of the manifests.
  package let found, expected: String

  package var description: String {
    "\(path) is not the checkpoint that the run began with: the SHA-256 of its manifest is \(found), and the coordinator "
      + "read \(expected)"
  }
}

package struct WarmStart {
  private let reader: CheckpointReader
  private let transfer: WeightTransfer

  /// Opens the checkpoint, and compares its sizes and its tokenizer with the run's.
  /// - Parameters:
  ///   - place: a checkpoint's folder, or a run's folder.
  ///   - verified: whether the coordinator has verified the files.
  ///   - boundary: where the folder and its files must be.
  /// - Throws: `WeightMismatch`, `ModelUseError.otherTokenizer`, `CheckpointError`.
  package init(
    _ place: String, for configuration: RunConfiguration, _ corpus: Corpus, verified: Bool = false,
    _ boundary: Boundary = .none
  ) throws {
    reader = try CheckpointReader(place, verified: verified, boundary)
    let path = reader.path, manifest = reader.manifest
    try WarmStart.compareTokenizers(path, manifest, corpus, boundary)
    let vocabulary = try reader.shape(of: "model/embed/weight").first ?? 0
    transfer = try WeightTransfer(
      from: (manifest.configuration, vocabulary),
      to: (configuration, configuration.model.vocabulary ?? corpus.vocabulary), path: path)
  }

  /// Opens the checkpoint that the coordinator has found, which must not have changed since.
  package init(_ source: WeightSource, for configuration: RunConfiguration, _ corpus: Corpus, _ boundary: Boundary)
    throws
  {
    let digest = try CheckpointFolder.digest(source.path, boundary)
    guard digest == source.sha256 else {
      throw ChangedSource(path: source.path, found: digest, expected: source.sha256)
    }
    try self.init(source.path, for: configuration, corpus, verified: true, boundary)
  }

  /// Names of the tensors that keep the values drawn from the seed.
  package var drawn: [String] { transfer.drawn }

  /// Reads the weights that `parameters` holds. The others keep their values, which must have been drawn from the
  /// seed.
  package func load(into parameters: ParameterBuffer) throws {
    try parameters.forEachTensor { entry, values in
      guard entry.count > 0, transfer.takes(entry.name) else { return }
      try reader.read(StoredKind.values.name(of: entry), shape: entry.shape, into: values)
    }
    parameters.changed()
  }

  /// The same number would mean another piece of text to another tokenizer.
  private static func compareTokenizers(
    _ path: String, _ manifest: CheckpointManifest, _ corpus: Corpus, _ boundary: Boundary
  ) throws {
    if let own = manifest.data?.tokenizer {
      guard own == corpus.tokenizer.digest else {
        throw ModelUseError.otherTokenizer(
          model: path, own: "SHA-256 \(own)", dataset: corpus.path, other: corpus.tokenizer.summary)
      }
      return
    }
    // The manifests of older programs have no digest, but their runs may have kept the tokenizer.
    let folder = (path as NSString).deletingLastPathComponent
    guard let file = try? boundary.openFile(folder + "/" + TokenizerFile.pairsName) else { return }
    close(file)
    try RunTokenizer.check(corpus.tokenizer, in: folder, corpus.path)
  }
}
