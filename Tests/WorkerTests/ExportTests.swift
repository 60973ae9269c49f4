// Exports of the runs in Tests/Golden/runs, which `ress train` and `ress checkpoint export` wrote. The tests of the
// Python package (python/tests) load the same files into PyTorch and compare the logits.

import Checkpoint
import Configuration
import Data
import Foundation
import RunFolder
import TestSupport
import Testing
import Trained

@Suite struct ExportTests {
  private let scratch = ScratchFolder()
  private static let runs = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../Golden/runs").standardized.path
  private static let names = ["ressformer", "transformer"]

  private func contents(_ path: String) throws -> [UInt8] {
    Array(try #require(FileManager.default.contents(atPath: path), "\(path)"))
  }

  private struct Config: Decodable {
    struct Own: Decodable {
      var run: String
      var step: Int
      var tokenizer: String
      var configuration: RunConfiguration
    }
    var vocab_size: Int
    var hidden_size: Int
    var bos_token_id: Int?
    var ress: Own
  }

  @Test(arguments: names)
  func `an exported folder has the values, the proof and the tokenizer of the golden one, which Python reads`(
    name: String
  ) throws {
    let out = scratch.path + "/hf"
    let export = try ModelFolder.write("\(Self.runs)/\(name)", to: out, proofTokens: 16)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: out).sorted() == [
        "config.json", "model.safetensors", "tokenizer.json",
      ])
    let golden = "\(Self.runs)/\(name)-hf"
    #expect(try contents(out + "/tokenizer.json") == contents(golden + "/tokenizer.json"))
    let (ours, theirs) = (
      try SafetensorsReader(out + "/model.safetensors"), try SafetensorsReader(golden + "/model.safetensors")
    )
    #expect(ours.tensors.keys.sorted() == theirs.tensors.keys.sorted() && ours.tensors.count == export.tensors + 2)
    for (key, tensor) in theirs.tensors {
      #expect(try ours.read(key, shape: tensor.shape) == theirs.read(key, shape: tensor.shape), "\(key)")
    }
    let checkpoint = try CheckpointReader("\(Self.runs)/\(name)")
    for folder in [out, golden] {
      let config = try JSONDecoder().decode(Config.self, from: Data(contents(folder + "/config.json")))
      #expect(config.ress.configuration == checkpoint.manifest.configuration)
      #expect(config.vocab_size == 257 && config.hidden_size == 16 && config.bos_token_id == 256)
      #expect(config.ress.run == name && config.ress.step == 8 && config.ress.tokenizer == "byte")
    }
    // The values are the checkpoint's.
    let embedding = try #require(theirs.tensors["embed.weight"])
    var values = [Float](repeating: 0, count: embedding.shape.reduce(1, *))
    try values.withUnsafeMutableBufferPointer {
      try checkpoint.read("model/embed/weight", shape: embedding.shape, into: $0.baseAddress!)
    }
    #expect(try ours.read("embed.weight", shape: embedding.shape) == values)
  }

  @Test
  func `the proof of a model with bf16 factors is computed in fp32, as other programs compute, and an import agrees`()
    throws
  {
    let place = scratch.path + "/rounded"
    let golden = try CheckpointReader("\(Self.runs)/ressformer")
    var manifest = golden.manifest
    manifest.configuration.model.precision = .bf16
    try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
    try FileManager.default.copyItem(
      atPath: golden.path,
      toPath: CheckpointFolder.unfinished(place, step: manifest.step, generation: manifest.generation))
    _ = try CheckpointFolder.commit(manifest, folder: place)

    let tokens: [Int32] = [1, 2, 3, 5, 8, 13]
    let (rounded, single) = (
      try TrainedModel(place, threads: 1), try TrainedModel("\(Self.runs)/ressformer", threads: 1)
    )
    let (one, other) = (try rounded.logits(tokens), try single.logits(tokens))
    #expect(one != other && zip(one, other).allSatisfy { abs($0 - $1) < 0.1 })
    let files = [scratch.path + "/rounded.safetensors", scratch.path + "/single.safetensors"]
    _ = try ModelFile.write(place, to: files[0], proofTokens: 16)
    _ = try ModelFile.write("\(Self.runs)/ressformer", to: files[1], proofTokens: 16)
    let proofs = try files.map { file in
      let reader = try SafetensorsReader(file)
      return try reader.read(ModelFile.proofLogits, shape: #require(reader.tensors[ModelFile.proofLogits]).shape)
    }
    #expect(proofs[0] == proofs[1])
    let imported = try ModelFile.read(
      files[0], configuration: nil, run: "again", directory: scratch.path, program: "test")
    #expect(imported.proofDistance == 0)
  }

  @Test func `an export replaces an earlier one, and nothing else`() throws {
    let out = scratch.path + "/hf"
    _ = try ModelFolder.write("\(Self.runs)/ressformer", to: out, proofTokens: 4)
    _ = try ModelFolder.write("\(Self.runs)/transformer", to: out, proofTokens: 4)
    let config = try JSONDecoder().decode(Config.self, from: Data(contents(out + "/config.json")))
    #expect(config.ress.run == "transformer")
    try Data([1]).write(to: URL(filePath: out + "/notes.txt"))
    #expect {
      try ModelFolder.write("\(Self.runs)/ressformer", to: out, proofTokens: 4)
    } throws: { "\($0)".contains("contains notes.txt, which no export wrote") }
    #expect(FileManager.default.fileExists(atPath: out + "/notes.txt"))
    #expect {
      try ModelFolder.write("\(Self.runs)/ressformer", to: out + "/notes.txt", proofTokens: 4)
    } throws: { "\($0)".contains("--format hf writes a folder") }
  }

  @Test func `a model of an exported folder is imported again with equal logits`() throws {
    for name in Self.names {
      let result = try ModelFile.read(
        "\(Self.runs)/\(name)-hf/model.safetensors", configuration: nil, run: "again-\(name)",
        directory: scratch.path + "/runs",
        program: "test")
      #expect(result.proofDistance == 0 && result.unused.isEmpty)
    }
  }
}
