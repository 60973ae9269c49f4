// A model out of ress and into it: `ress checkpoint export` and `import`. A safetensors file has each tensor by its name in
// docs/model.md, with dots. It also tells the configuration, and what the model says of some tokens, so that whoever reads the file
// can see whether the model that he made of it is the same one.

import Checkpoint
import Configuration
import Data
import Foundation
import Kernels
import Model
import RunFolder
import Training

package enum ModelExchange {
  /// Keys of a file's metadata.
  private static let configurationKey = "ress_configuration", runKey = "ress_run", stepKey = "ress_step"
  private static let tokenizerKey = "ress_tokenizer"
  /// Tensors of the proof: tokens (T), and logits (rows, classes) as docs/model.md has them for each head.
  package static let proofTokens = "ress_proof.tokens", proofLogits = "ress_proof.logits"

  package struct Export: Equatable, Sendable {
    package var tensors: Int
    package var parameters: Int
    package var checkpoint: String
    package var skipped: [String]
  }

  /// - Parameter proofTokens: of the proof; 0 writes none.
  package static func write(_ place: String, to path: String, proofTokens count: Int) throws -> Export {
    let model = try TrainedModel(place, threads: 0)
    let proof = try count > 0 ? model.proof(tokens: count) : nil
    var tensors = model.tensors.map {
      NamedTensor(name: SafetensorsFile.name(of: $0.name), shape: $0.shape, values: $0.values)
    }
    let parameters = tensors.reduce(0) { $0 + $1.shape.reduce(1, *) }
    let counted = tensors.count
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let configuration = model.manifest.configuration
    var metadata = [
      "format": "pt", configurationKey: String(decoding: try encoder.encode(configuration), as: UTF8.self),
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

  package struct Import: Equatable, Sendable {
    package var path: String
    package var parameters: Int
    /// Largest difference of the model's logits from those of the file's proof, as a share of the largest; nil without a proof.
    package var proofDistance: Double?
    /// Tensors of the file that the model has not.
    package var unused: [String]
  }

  /// What the logits of an import may differ by, as a share of the largest.
  package static let standardTolerance = 1e-4

  /// The next number of one digit, as a person would write it.
  static func roundedUp(_ distance: Double) -> Double {
    guard distance > 0, distance.isFinite else { return 1 }
    let scale = pow(10, floor(log10(distance)))
    return Double("\((distance / scale).rounded(.up))e\(Int(log10(scale).rounded()))") ?? distance
  }

  /// Writes a checkpoint of step 0 into the run's folder: the file's parameters, and an optimizer that has seen nothing. It counts only
  /// when the model was compared with the file's proof.
  ///
  /// - Parameters:
  ///   - given: the model's configuration; nil takes what the file tells, but for where to write.
  ///   - directory: of runs' folders; nil: the given configuration's, else `checkpoints`.
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
        throw SafetensorsError.file(path: path, problem: "the configuration that it tells cannot be read: \(error)")
      }
    } else {
      throw SafetensorsError.file(path: path, problem: "it tells no configuration; name one with --config")
    }
    if let run { configuration.run = run }
    // A file of somebody else does not say where this machine writes.
    configuration.checkpoint.directory =
      directory ?? given?.checkpoint.directory ?? RunConfiguration().checkpoint.directory
    do { try configuration.checkOfModel() } catch {
      throw SafetensorsError.file(path: path, problem: "the configuration for it cannot be: \(error)")
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
    let layout = ParameterLayout(configuration.model, vocabulary: vocabulary)
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
    // Of a name that `removeUnfinished` knows, should this process be killed.
    let aside = folder + "/" + CheckpointManifest.folderName(step: 0) + ".import.tmp"
    if FileManager.default.fileExists(atPath: aside) { try Durable.removeFolder(aside) }
    defer {
      try? FileManager.default.removeItem(atPath: aside)
      // Only where it is empty.
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

  private static func save(
    _ tensors: [(entry: ParameterEntry, values: [Float])], _ configuration: RunConfiguration, tokenizer: String?,
    folder: String, program: String
  ) throws -> String {
    try Durable.makeFolder(folder)
    let writer = try CheckpointWriter(folder: folder, step: 0, generation: 0, shardCount: 1)
    // Moments of an optimizer that has seen nothing are zero.
    let zeros = [Float](repeating: 0, count: tensors.map(\.values.count).max() ?? 0)
    var names: [String] = []
    let files = try zeros.withUnsafeBufferPointer { zeros in
      var named: [NamedTensor] = []
      // The arrays stay where they are while the writer reads them.
      var kept: [UnsafeMutablePointer<Float>] = []
      defer { for pointer in kept { pointer.deallocate() } }
      for (entry, values) in tensors {
        let pointer = UnsafeMutablePointer<Float>.allocate(capacity: values.count)
        pointer.initialize(from: values, count: values.count)
        kept.append(pointer)
        named.append(NamedTensor(name: "model/" + entry.name, shape: entry.shape, values: pointer))
        guard entry.isTrained else { continue }
        for moment in ["first", "second"] {
          named.append(
            NamedTensor(name: "optimizer/\(moment)/" + entry.name, shape: entry.shape, values: zeros.baseAddress!))
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

  private static func proofDistance(_ file: SafetensorsReader, _ checkpoint: String) throws -> Double? {
    guard let tokens = file.tensors[proofTokens], let logits = file.tensors[proofLogits] else { return nil }
    let model = try TrainedModel(checkpoint, threads: 0)
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

  /// The tokens of a proof. A copy in F16 or BF16 has rounded them, and some beyond what it can hold: then they are those that every
  /// export asks, if they round to what is there.
  private static func proofTokens(
    _ file: SafetensorsReader, _ tensor: SafetensorsReader.Tensor, vocabulary: Int
  ) throws -> [Int32] {
    let given = try file.read(proofTokens, shape: tensor.shape)
    func problem(_ text: String) -> SafetensorsError { .tensor(path: file.path, name: proofTokens, problem: text) }
    if tensor.type == "F32" || tensor.type == "F64" {
      return try given.map { number in
        guard let token = Int32(exactly: number), (0..<Int32(vocabulary)).contains(token) else {
          throw problem("holds \(number), which is no token of a vocabulary of \(vocabulary)")
        }
        return token
      }
    }
    let asked = TrainedModel.proofTokens(given.count, vocabulary: vocabulary)
    guard zip(given, asked).allSatisfy({ abs($0 - Float($1)) <= Float($1) / 128 || $0 == .infinity && $1 > 60_000 })
    else {
      throw problem("was rounded to \(tensor.type), and no token can be read of it; keep it as F32")
    }
    return asked
  }
}

extension TrainedModel {
  /// Tokens that every export asks.
  fileprivate static func proofTokens(_ count: Int, vocabulary: Int) -> [Int32] {
    (0..<count).map { Int32($0 * 7919 % vocabulary) }
  }

  /// What it says of some tokens of its own vocabulary, spread over all of it: no dataset is needed to check it.
  fileprivate func proof(tokens count: Int) throws -> (tokens: [Float], logits: [Float], shape: [Int]) {
    let model = manifest.configuration.model
    let count = model.isTransformer ? min(count, model.segment) : count
    let tokens = TrainedModel.proofTokens(count, vocabulary: vocabulary)
    let logits = try logits(tokens)
    let sizes = Sizes(model, vocabulary: vocabulary)
    return (tokens.map { Float($0) }, logits.map { Float($0) }, [sizes.logitRows(count), sizes.logitColumns])
  }
}
