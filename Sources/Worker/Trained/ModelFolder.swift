// Exports a model as a folder in the layout of Hugging Face's hub: `config.json`, `model.safetensors` and the
// tokenizer's file. The package in python/ loads it (`ress.load`), and `tokenizers` and `safetensors` read its files.
//
// The folder is filled under a temporary name and renamed. An earlier export is replaced; a folder with any other
// file is not.

import Configuration
import Data
import Foundation
import RunFolder

package enum ModelFolder {
  private static let configName = "config.json", weightsName = "model.safetensors"
  /// Names of the files that an export writes.
  private static let names: Set<String> = [
    configName, weightsName, TokenizerFile.pairsName, TokenizerFile.piecesName,
  ]

  /// - Parameters:
  ///   - place: the folder of a checkpoint or of a run.
  ///   - count: number of tokens of the proof; 0 writes no proof.
  /// - Throws: where the model's tokenizer is not available, or where `path` is something else than an earlier export.
  package static func write(_ place: String, to path: String, proofTokens count: Int) throws -> ModelFile.Export {
    try check(path)
    let model = try TrainedModel(place, threads: 0, precision: .fp32)
    let aside = path + ".tmp"
    if FileManager.default.fileExists(atPath: aside) { try check(aside, isOwn: true) }
    try? FileManager.default.removeItem(atPath: aside)
    try Durable.makeFolder(aside)
    defer { try? FileManager.default.removeItem(atPath: aside) }
    let export = try ModelFile.write(model, to: aside + "/" + weightsName, proofTokens: count)
    let tokenizer = try model.tokenizer
    let file = TokenizerFile.exported(tokenizer)
    try Durable.write(file.bytes, to: aside + "/" + file.name)
    let config = HubConfiguration(model.manifest, vocabulary: model.vocabulary, tokenizer: tokenizer)
    try Durable.write(try JSON.encode(config, pretty: true) + [10], to: aside + "/" + configName)
    try Durable.replaceFolder(path, by: aside)
    return export
  }

  /// - Throws: where something is at `path` that an export must not replace.
  private static func check(_ path: String, isOwn: Bool = false) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else { return }
    func refuse(_ reason: String) -> FolderError { .system(action: "write", path: path, reason: reason) }
    guard isFolder.boolValue else { throw refuse("a file with that name exists; --format hf writes a folder") }
    let other = try FileManager.default.contentsOfDirectory(atPath: path).filter {
      !names.contains($0) && !(isOwn && $0.hasSuffix(".tmp"))
    }.min()
    if let other { throw refuse("the folder contains \(other), which no export wrote; name another folder") }
  }
}

/// The contents of config.json: the keys that programs of Hugging Face expect, and in `ress` what the model is loaded
/// from.
private struct HubConfiguration: Encodable {
  struct Own: Encodable {
    var format = 1
    var run: String
    var step: Int
    /// `byte`, or the name of the tokenizer's file.
    var tokenizer: String
    var configuration: RunConfiguration
  }

  var architectures = ["ReSSFormer"]
  var model_type = "ressformer"
  var torch_dtype = "float32"
  var vocab_size: Int
  var hidden_size: Int
  var num_hidden_layers: Int
  var num_attention_heads: Int
  /// The token that precedes each document.
  var bos_token_id: Int?
  var ress: Own

  init(_ manifest: CheckpointManifest, vocabulary: Int, tokenizer: Tokenizer) {
    let model = manifest.configuration.model
    vocab_size = vocabulary
    hidden_size = model.width
    num_hidden_layers = model.steps
    num_attention_heads = model.heads
    bos_token_id = tokenizer.separator.map { Int($0) }
    ress = Own(
      run: manifest.run, step: manifest.step,
      tokenizer: tokenizer.fileName ?? ByteTokenizer.name,
      configuration: manifest.configuration)
  }
}
