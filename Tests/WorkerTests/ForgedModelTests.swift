// Forged and damaged checkpoints and safetensors files. They are of the same suite as the datasets, because memory is
// compared before and after, and tests of one suite follow each other.

import CHDF5
import Checkpoint
import Configuration
import Foundation
import HDF5
import Kernels
import Model
import RunFolder
import TestSupport
import Testing
import Trained
import Worker

extension ForgedFileTests {
  // MARK: Checkpoints

  private static var tiny: RunConfiguration {
    var c = RunConfiguration.smallModel
    c.data.sequenceLength = 16
    return c
  }

  /// A valid checkpoint with two shards, of a model with 16 tokens. The embedding is divided.
  private func checkpoint(in folder: String) throws -> String {
    let layout = ParameterLayout(Self.tiny.model, vocabulary: 16)
    let entries = (layout.dense + layout.experts.flatMap { $0 }).filter { $0.count > 0 }
    let values = [Float](repeating: 0.5, count: entries.map(\.count).max()!)
    let writer = try CheckpointWriter(folder: folder, step: 4, generation: 0, shardCount: 2)
    return try values.withUnsafeBufferPointer { values in
      let tensors = entries.flatMap { entry in
        let parts =
          entry.name == "embed/weight"
          ? [0..<6, 6..<12, 12..<16].map { TensorRows(entry, rows: $0) } : [TensorRows(entry)]
        return entry.storedKinds.flatMap { kind in
          parts.map {
            NamedTensor(name: $0.stored(as: kind.name(of: entry)), shape: $0.shape, values: values.baseAddress!)
          }
        }
      }
      func owner(_ name: String) -> Int { name.count % 2 }
      var files: [CheckpointManifest.File] = []
      for shard in 0..<2 { files.append(try writer.writeShard(shard, tensors.filter { owner($0.name) == shard })) }
      files.append(try writer.writeModel(tensors.map { ($0.name, owner($0.name)) }))
      return try CheckpointFolder.commit(
        CheckpointManifest(
          run: "r", runIdentifier: "1", step: 4, configuration: Self.tiny, loss: 2, files: files, writer: "test",
          created: ""), folder: folder)
    }
  }

  /// Writes a manifest, and sums that agree with it and with the files.
  private func sign(_ path: String, _ manifest: [String: Any]) throws {
    var manifest = manifest
    var lines = ""
    manifest["files"] = (manifest["files"] as? [[String: Any]] ?? []).map { file -> [String: Any] in
      var file = file
      guard let name = file["name"] as? String, let (digest, size) = try? SHA256.ofFile(path + "/" + name) else {
        return file
      }
      (file["sha256"], file["byteCount"]) = (digest, size)
      lines += "\(digest)  \(name)\n"
      return file
    }
    let bytes = Array(try JSONSerialization.data(withJSONObject: manifest))
    try Data(bytes).write(to: URL(filePath: path + "/manifest.json"))
    lines += "\(SHA256.of(bytes))  manifest.json\n"
    try Data(lines.utf8).write(to: URL(filePath: path + "/SHA256SUMS"))
  }

  private func manifest(_ path: String) throws -> [String: Any] {
    let data = try #require(FileManager.default.contents(atPath: path + "/manifest.json"))
    return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
  }

  /// Replaces one number or text somewhere in a tree of JSON.
  private func changed(_ value: Any, _ numbers: inout Chance) -> Any {
    if var tree = value as? [String: Any], let key = tree.keys.sorted().randomElement(using: &numbers) {
      tree[key] = changed(tree[key]!, &numbers)
      return tree
    }
    if var list = value as? [Any], !list.isEmpty {
      let place = Int.random(in: 0..<list.count, using: &numbers)
      list[place] = changed(list[place], &numbers)
      return list
    }
    let strange: [Any] = [
      -4, 0, 1, 3, 1 << 31, 1 << 40, 1 << 62, Int.max, Int.min, 1e300, "", "../x", NSNull(), true, [Any](),
    ]
    return numbers.pick(strange)
  }

  @Test func `no forged or damaged checkpoint crashes its reader`() throws {
    let whole = try checkpoint(in: scratch.path + "/whole")
    #expect(CheckpointCheck.problems(whole) == [])
    _ = try TrainedModel(whole, threads: 1)
    let before = FuzzPlan.residentMiB
    var refused = 0
    let path = scratch.path + "/forged"
    for seed in FuzzPlan.seeds {
      var numbers = Chance(seed: seed)
      try? FileManager.default.removeItem(atPath: path)
      try FileManager.default.copyItem(atPath: whole, toPath: path)
      // An attacker would update the checksums; a bad disk does not.
      if numbers.chance(0.5) {
        var forged = try manifest(path)
        forged["configuration"] = changed(forged["configuration"]!, &numbers)
        if numbers.chance(0.2), let changed = changed(forged, &numbers) as? [String: Any] { forged = changed }
        try sign(path, forged)
      } else {
        let names = try FileManager.default.contentsOfDirectory(atPath: path).sorted()
        let place = path + "/" + numbers.pick(names)
        let bytes = Array(FileManager.default.contents(atPath: place)!)
        try Data(Forgery.mutated(bytes, &numbers)).write(to: URL(filePath: place))
        if numbers.chance(0.5) { try? sign(path, manifest(path)) }
      }
      refused += CheckpointCheck.problems(path).isEmpty ? 0 : 1
      if let a = try? CheckpointReader(path), let b = try? CheckpointReader(whole) {
        _ = try? CheckpointCheck.differences(a, b)
      }
      _ = try? TrainedModel(path, threads: 1)
    }
    print(
      "checkpoints: seeds \(FuzzPlan.seeds), \(refused) of \(FuzzPlan.count) have a problem, resident \(before) MiB "
        + "before, \(FuzzPlan.residentMiB) MiB after")
    #expect(refused > FuzzPlan.count / 2 || FuzzPlan.count < 100)
    #expect(!FuzzPlan.isAlone || FuzzPlan.residentMiB - before < 512)
  }

  @Test(arguments: [
    ("width", -4), ("experts", 1 << 62), ("expert_width", 1 << 40), ("heads", 0), ("segment", Int.min),
  ])
  func `an invalid configuration is refused in a manifest`(key: String, value: Int) throws {
    let path = try checkpoint(in: scratch.path + "/whole")
    var forged = try manifest(path)
    var configuration = try #require(forged["configuration"] as? [String: Any])
    var model = try #require(configuration["model"] as? [String: Any])
    let spelled = model.keys.first { $0.lowercased() == key.replacing("_", with: "") } ?? key
    try #require(model[spelled] != nil)
    model[spelled] = value
    configuration["model"] = model
    forged["configuration"] = configuration
    try sign(path, forged)
    let problem = complaint { _ = try CheckpointFolder.readManifest(path) }
    #expect(problem.contains("manifest.json is damaged: its configuration is not valid: model.\(key): "), "\(problem)")
    #expect(complaint { _ = try TrainedModel(path, threads: 1) } == problem)
  }

  @Test func `a link of the model file to a file outside the manifest is not followed`() throws {
    let path = try checkpoint(in: scratch.path + "/whole")
    let outside = scratch.path + "/outside.h5"
    try Forgery.makeOutside(outside)
    let model = path + "/model.h5"
    try FileManager.default.removeItem(atPath: model)
    _ = forge("model") { file in
      H5Gclose(H5Gcreate2(file, "/model", 0, 0, 0))
      H5Gclose(H5Gcreate2(file, "/model/embed", 0, 0, 0))
      H5Lcreate_external(outside, "/secret", file, "/model/embed/weight", 0, 0)
    }
    try FileManager.default.moveItem(atPath: scratch.path + "/model.h5", toPath: model)
    try sign(path, manifest(path))
    let said = complaint { _ = try CheckpointReader(path).shape(of: "model/embed/weight") }
    #expect(said.contains("it links to '\(outside)', which the manifest does not name"), "\(said)")
  }

  // MARK: Safetensors

  @Test func `no forged or damaged safetensors file crashes its reader`() throws {
    let path = scratch.path + "/model.safetensors"
    let values: [Float] = (0..<64).map { Float($0) }
    let encoder = JSONEncoder()
    let configuration = String(decoding: try encoder.encode(Self.tiny), as: UTF8.self)
    try values.withUnsafeBufferPointer {
      try SafetensorsFile.write(
        path,
        [
          NamedTensor(name: "embed.weight", shape: [8, 8], values: $0.baseAddress!),
          NamedTensor(name: "b", shape: [64], values: $0.baseAddress!),
        ], metadata: ["ress_configuration": configuration])
    }
    let whole = Array(try #require(FileManager.default.contents(atPath: path)))
    let length = whole[..<8].enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
    let header = try #require(try JSONSerialization.jsonObject(with: Data(whole[8..<8 + length])) as? [String: Any])
    let before = FuzzPlan.residentMiB
    for seed in FuzzPlan.seeds {
      var numbers = Chance(seed: seed)
      var bytes = whole
      if numbers.chance(0.6) {
        var forged = changed(header, &numbers)
        if numbers.chance(0.3), var tree = forged as? [String: Any],
          var metadata = tree["__metadata__"] as? [String: Any],
          let known = try? JSONSerialization.jsonObject(with: Data(configuration.utf8))
        {
          let other = try JSONSerialization.data(withJSONObject: changed(known, &numbers), options: .fragmentsAllowed)
          metadata["ress_configuration"] = String(decoding: other, as: UTF8.self)
          tree["__metadata__"] = metadata
          forged = tree
        }
        let text = Array(try JSONSerialization.data(withJSONObject: forged, options: .fragmentsAllowed))
        bytes = (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) } + text + whole[(8 + length)...]
      } else {
        bytes = Forgery.mutated(bytes, &numbers)
      }
      try Data(bytes).write(to: URL(filePath: path))
      if let reader = try? SafetensorsReader(path) {
        for (name, tensor) in reader.tensors { _ = try? reader.read(name, shape: tensor.shape) }
      }
      // The file has two tensors of a model's many, so it can never be imported.
      #expect(
        complaint {
          _ = try ModelFile.read(path, configuration: nil, run: "forged", program: "test")
        } != "no error", "RESS_SEED=\(seed) RESS_FUZZ=1")
    }
    print("safetensors: seeds \(FuzzPlan.seeds), resident \(before) MiB before, \(FuzzPlan.residentMiB) MiB after")
    #expect(!FuzzPlan.isAlone || FuzzPlan.residentMiB - before < 512)
  }
}
