// `ress checkpoint export` and `ress checkpoint import`: a model as a safetensors file, which other programs read
// and write.
//
// The file holds each tensor under its name from docs/model.md, with dots instead of slashes. Its metadata holds the
// run's configuration. It also holds a proof: some tokens and the logits that the model computes for them, so that a
// program which reads the file can check that its own model computes the same. The proof is computed in fp32, also for
// a model that was trained with bf16 factors, because other programs have no products with the same rounding.

import Checkpoint
import Configuration
import Data
import Foundation
import Kernels
import Model
import RunFolder
import Training

package enum ModelFile {
  /// Keys of the file's metadata.
  private static let configurationKey = "ress_configuration", runKey = "ress_run", stepKey = "ress_step"
  private static let tokenizerKey = "ress_tokenizer"
  /// Names of the proof's tensors: tokens (T), and logits (rows, classes) in the shape that docs/model.md gives for
  /// each head.
  package static let proofTokens = "ress_proof.tokens", proofLogits = "ress_proof.logits"

  /// What an export has written.
  package struct Export: Equatable, Sendable {
    package var tensors: Int
    package var parameters: Int
    package var checkpoint: String
    package var skipped: [String]
  }

  /// Exports the model of a checkpoint or run.
  /// - Parameters:
  ///   - place: the folder of a checkpoint or of a run.
  ///   - count: number of tokens of the proof; 0 writes no proof.
  package static func write(_ place: String, to path: String, proofTokens count: Int) throws -> Export {
    try write(TrainedModel(place, threads: 0, precision: .fp32), to: path, proofTokens: count)
  }

  /// The same, for a model that is loaded already, in fp32.
  static func write(_ model: TrainedModel, to path: String, proofTokens count: Int) throws -> Export {
    let proof = try count > 0 ? model.proof(tokens: count) : nil
    var tensors = model.tensors.map {
      NamedTensor(name: SafetensorsFile.name(of: $0.name), shape: $0.shape, read: $0.read)
    }
    let parameters = tensors.reduce(0) { $0 + $1.shape.reduce(1, *) }
    let counted = tensors.count
    let configuration = model.manifest.configuration
    var metadata = [
      "format": "pt", configurationKey: String(decoding: try JSON.encode(configuration), as: UTF8.self),
      runKey: model.manifest.run, stepKey: "\(model.manifest.step)",
    ]
    metadata[tokenizerKey] = try model.tokenizerDigest
    try (proof?.tokens ?? []).withUnsafeBufferPointer { tokens in
      try (proof?.logits ?? []).withUnsafeBufferPointer { logits in
        if let proof {
          tensors.append(NamedTensor(name: proofTokens, shape: [tokens.count], values: tokens.baseAddress!))
          tensors.append(NamedTensor(name: proofLogits, shape: proof.shape, values: logits.baseAddress!))
        }
        try SafetensorsFile.write(path, tensors, metadata: metadata)
      }
    }
    return Export(tensors: counted, parameters: parameters, checkpoint: model.path, skipped: model.skipped)
  }

  /// What an import has written.
  package struct Import: Equatable, Sendable {
    package var path: String
    package var parameters: Int
    /// Largest difference between the model's logits and those of the proof, relative to the largest logit; nil
    /// without a proof.
    package var proofDistance: Double?
    /// Tensors of the file that the model does not have.
    package var unused: [String]
  }

  /// Largest permitted difference of an import's logits, relative to the largest logit.
  package static let standardTolerance = 1e-4

  /// The next larger number with one significant digit, as a suggestion for `--tolerance`.
  static func roundedUp(_ distance: Double) -> Double {
    guard distance > 0, distance.isFinite else { return 1 }
    let scale = pow(10, floor(log10(distance)))
    return Double("\((distance / scale).rounded(.up))e\(Int(log10(scale).rounded()))") ?? distance
  }

  /// Writes a checkpoint of step 0 into the run's folder, with the file's parameters and zero moments. The
  /// checkpoint is moved into place only after the model was compared with the file's proof.
  ///
  /// - Parameters:
  ///   - given: the model's configuration; nil uses the one in the file, except for the folder to write to.
  ///   - directory: the folder that contains run folders; nil uses the given configuration's, or else `checkpoints`.
  package static func read(
    _ path: String, configuration given: RunConfiguration?, run: String?, directory: String? = nil,
    tolerance: Double = standardTolerance, program: String
  ) throws -> Import {
    let file = try SafetensorsReader(path)
    var configuration: RunConfiguration
    if let given {
      configuration = given
    } else if let text = file.metadata[configurationKey] {
      do { configuration = try JSONDecoder().decode(RunConfiguration.self, from: Data(text.utf8)) } catch {
        throw SafetensorsError.file(path: path, problem: "the configuration in its metadata cannot be read: \(error)")
      }
    } else {
      throw SafetensorsError.file(path: path, problem: "it contains no configuration; give one with --config")
    }
    if let run { configuration.run = run }
    // The file may come from another machine, so its configuration does not decide where this one writes.
    configuration.checkpoint.directory =
      directory ?? given?.checkpoint.directory ?? RunConfiguration().checkpoint.directory
    do { try configuration.checkOfModel() } catch {
      throw SafetensorsError.file(path: path, problem: "its configuration is not valid: \(error)")
    }
    guard let vocabulary = file.tensors["embed.weight"]?.shape.first else {
      throw SafetensorsError.tensor(path: path, name: "embed.weight", problem: "is missing")
    }
    guard (1...16_777_216).contains(vocabulary) else {
      throw SafetensorsError.tensor(path: path, name: "embed.weight", problem: "has \(vocabulary) tokens")
    }
    let tokenizer = file.metadata[tokenizerKey]
    let corpus = try? Corpus(configuration.data)
    if given != nil, let tokenizer, let corpus, corpus.tokenizer.digest != tokenizer {
      throw ModelUseError.otherTokenizer(
        model: path, own: "SHA-256 \(tokenizer)", dataset: corpus.path, other: corpus.tokenizer.summary)
    }
    let layout = ParameterLayout(configuration, vocabulary: vocabulary)
    let folder = configuration.checkpoint.directory + "/" + configuration.run
    if let step = CheckpointFolder.steps(folder).last {
      throw ModelUseError.runExists(folder: folder, step: step)
    }
    var values: [(entry: ParameterEntry, values: [Float])] = []
    for entry in layout.dense + layout.experts.flatMap({ $0 }) where entry.count > 0 {
      values.append((entry, try file.read(SafetensorsFile.name(of: entry.name), shape: entry.shape)))
    }
    let known = Set(values.map { SafetensorsFile.name(of: $0.entry.name) } + [proofTokens, proofLogits])
    let wasThere = FileManager.default.fileExists(atPath: folder)
    // A name that `removeUnfinished` recognises, in case this process is killed.
    let aside = folder + "/" + CheckpointManifest.folderName(step: 0) + ".import.tmp"
    if FileManager.default.fileExists(atPath: aside) { try Durable.removeFolder(aside) }
    defer {
      try? FileManager.default.removeItem(atPath: aside)
      // rmdir removes the folder only where it is empty.
      if !wasThere { rmdir(folder) }
    }
    let fresh = try save(
      values, configuration, tokenizer: tokenizer, folder: aside, program: program)
    let distance = try proofDistance(file, fresh)
    if let distance, !(distance <= tolerance) {
      throw ModelUseError.otherLogits(
        file: path, distance: distance, tolerance: tolerance, type: file.tensors["embed.weight"]!.type)
    }
    let written = CheckpointFolder.finished(folder, step: 0)
    try Durable.replaceFolder(written, by: fresh)
    if let corpus, corpus.tokenizer.digest == tokenizer { try RunTokenizer.keep(corpus.tokenizer, in: folder) }
    return Import(
      path: written, parameters: values.reduce(0) { $0 + $1.values.count }, proofDistance: distance,
      unused: file.tensors.keys.filter { !known.contains($0) }.sorted())
  }

  /// Writes the checkpoint of step 0 and returns its folder.
  private static func save(
    _ tensors: [(entry: ParameterEntry, values: [Float])], _ configuration: RunConfiguration, tokenizer: String?,
    folder: String, program: String
  ) throws -> String {
    try Durable.makeFolder(folder)
    let writer = try CheckpointWriter(folder: folder, step: 0, generation: 0, shardCount: 1)
    // All moments are zero, as at the start of training. They share one block of zeros.
    let zeros = [Float](repeating: 0, count: tensors.map(\.values.count).max() ?? 0)
    var names: [String] = []
    let files = try zeros.withUnsafeBufferPointer { zeros in
      var named: [NamedTensor] = []
      // The writer reads through pointers, so each tensor is copied to memory that stays at its address.
      var kept: [UnsafeMutablePointer<Float>] = []
      defer { for pointer in kept { pointer.deallocate() } }
      for (entry, values) in tensors {
        let pointer = UnsafeMutablePointer<Float>.allocate(capacity: values.count)
        pointer.initialize(from: values, count: values.count)
        kept.append(pointer)
        for kind in entry.storedKinds {
          let stored = kind == .values ? UnsafePointer(pointer) : zeros.baseAddress!
          named.append(NamedTensor(name: kind.name(of: entry), shape: entry.shape, values: stored))
        }
      }
      names = named.map(\.name)
      return [try writer.writeShard(0, named), try writer.writeModel(names.map { ($0, 0) })]
    }
    let manifest = CheckpointManifest(
      run: configuration.run, runIdentifier: UUID().uuidString.lowercased(), step: 0, configuration: configuration,
      loss: nil, files: files, writer: program, created: Date().ISO8601Format(),
      data: tokenizer.map { DataIdentity(dataset: nil, tokenizer: $0) })
    return try CheckpointFolder.commit(manifest, folder: folder)
  }

  /// Computes the proof's logits with the written checkpoint and compares them with the file's.
  private static func proofDistance(_ file: SafetensorsReader, _ checkpoint: String) throws -> Double? {
    guard let tokens = file.tensors[proofTokens], let logits = file.tensors[proofLogits] else { return nil }
    let model = try TrainedModel(checkpoint, threads: 0, precision: .fp32)
    let given = try proofTokens(file, tokens, vocabulary: model.vocabulary)
    let expected = try file.read(proofLogits, shape: logits.shape)
    let own = try model.logits(given)
    guard own.count == expected.count else {
      throw SafetensorsError.tensor(path: file.path, name: proofLogits, problem: "has another shape than the model's")
    }
    guard own.allSatisfy(\.isFinite), expected.allSatisfy(\.isFinite) else { return .infinity }
    let largest = expected.map { abs($0) }.max() ?? 0
    return Double(zip(own, expected).map { abs($0 - $1) }.max() ?? 0) / Double(max(largest, .leastNormalMagnitude))
  }

  /// The tokens of the file's proof. A file in F16 or BF16 has rounded them, and in F16 large ones have become
  /// infinite. Then the tokens that every export uses are taken, where they round to the values in the file.
  private static func proofTokens(
    _ file: SafetensorsReader, _ tensor: SafetensorsReader.Tensor, vocabulary: Int
  ) throws -> [Int32] {
    let given = try file.read(proofTokens, shape: tensor.shape)
    func problem(_ text: String) -> SafetensorsError { .tensor(path: file.path, name: proofTokens, problem: text) }
    if tensor.type == "F32" || tensor.type == "F64" {
      return try given.map { number in
        guard let token = Int32(exactly: number), (0..<Int32(vocabulary)).contains(token) else {
          throw problem("holds \(number), which is not a token of a vocabulary of \(vocabulary)")
        }
        return token
      }
    }
    let asked = TrainedModel.proofTokens(given.count, vocabulary: vocabulary)
    guard zip(given, asked).allSatisfy({ abs($0 - Float($1)) <= Float($1) / 128 || $0 == .infinity && $1 > 60_000 })
    else {
      throw problem("was rounded to \(tensor.type), and its tokens cannot be recovered; store it as F32")
    }
    return asked
  }
}

extension TrainedModel {
  /// The tokens that every export uses for its proof.
  fileprivate static func proofTokens(_ count: Int, vocabulary: Int) -> [Int32] {
    (0..<count).map { Int32($0 * 7919 % vocabulary) }
  }

  /// Logits for tokens spread over the model's whole vocabulary. Checking them needs no dataset.
  fileprivate func proof(tokens count: Int) throws -> (tokens: [Float], logits: [Float], shape: [Int]) {
    let model = manifest.configuration.model
    let count = model.isTransformer ? min(count, model.segment) : count
    let tokens = TrainedModel.proofTokens(count, vocabulary: vocabulary)
    let logits = try logits(tokens)
    let sizes = Sizes(model, vocabulary: vocabulary)
    return (tokens.map { Float($0) }, logits.map { Float($0) }, [sizes.logitRows(count), sizes.logitColumns])
  }
}
