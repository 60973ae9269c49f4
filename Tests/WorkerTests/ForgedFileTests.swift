// Files from an attacker or a bad disk: forged and damaged datasets, checkpoints and safetensors files. Each is
// read or refused. The process must not crash, nothing outside of the file may be read, and memory must not grow.
//
// `RESS_FUZZ=100000 scripts/test.sh --filter ForgedFileTests` tries more; `RESS_SEED=N` begins at a seed that a
// failure named.

import CHDF5
import Checkpoint
import Configuration
import Data
import Foundation
import HDF5
import Kernels
import Model
import RunFolder
import TestSupport
import Testing
import Trained
import Worker

@Suite(.serialized) struct ForgedFileTests {
  private let scratch = ScratchFolder()

  private func complaint(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
  }

  // MARK: Datasets

  private static let attributes: [(String, Int?)] = [
    ("ress_dataset_format", 2), ("vocabulary", 91), ("task", nil), ("labels", nil), ("sources", nil),
    ("tokenizer", nil), ("relation_kinds", 2),
  ]
  private static let lists = ["train", "validation"].flatMap { split in
    [
      "tokens", "documents", "targets", "answers", "questions", "bags", "answer_starts", "relations", "relation_starts",
    ].map { "\(split)/\($0)" }
  }

  /// Reads everything of a dataset that a run or `ress data show` reads. Returns whether bytes from outside of the
  /// file were read.
  private func readAll(_ path: String) -> Bool {
    var isLeaking = false
    func look(_ values: [Int32]) { isLeaking = isLeaking || values.contains(Forgery.secret) }
    guard let dataset = try? Dataset(path: path) else { return false }
    for split in Split.allCases {
      let tokens = dataset.split(split)
      _ = try? tokens.documentLengths()
      var buffer: [Int32] = []
      for (start, count) in [(0, tokens.tokenCount), (0, 1), (max(0, tokens.tokenCount - 3), 3)] where count < 1 << 20 {
        if (try? tokens.read(from: start, count: count, into: &buffer)) != nil { look(buffer) }
      }
      guard let examples = dataset.examples(split) else { continue }
      var bags: [Int32] = [], targets: [Int32] = [], relations = RelationTable()
      for example in 0..<min(examples.count, 40) {
        if (try? examples.read(example, limit: 32, features: &buffer, bags: &bags, targets: &targets)) != nil {
          look(buffer)
        }
        try? examples.readRelations(example, limit: 32, into: &relations)
        _ = try? examples.targetCount(of: example, limit: 32)
        _ = try? examples.answers(of: example)
      }
    }
    return isLeaking
  }

  @Test func `no forged or damaged dataset crashes its reader or reveals other files`() throws {
    let outside = scratch.path + "/outside.h5", path = scratch.path + "/d.h5"
    try Forgery.makeOutside(outside)
    let before = FuzzPlan.residentMiB
    for seed in FuzzPlan.seeds {
      var numbers = Chance(seed: seed)
      Forgery.dataset(at: path, outside: outside, attributes: Self.attributes, lists: Self.lists, &numbers)
      if numbers.chance(0.5) {
        let bytes = Array(FileManager.default.contents(atPath: path) ?? Data())
        try Data(Forgery.mutated(bytes, &numbers)).write(to: URL(filePath: path))
      }
      #expect(!readAll(path), "RESS_SEED=\(seed) RESS_FUZZ=1")
    }
    print("datasets: seeds \(FuzzPlan.seeds), resident \(before) MiB before, \(FuzzPlan.residentMiB) MiB after")
    #expect(!FuzzPlan.isAlone || FuzzPlan.residentMiB - before < 512)
  }

  /// A file with one wrong object, written by HDF5 itself.
  private func forge(_ name: String, _ body: (hid_t) -> Void) -> String {
    let path = scratch.path + "/\(name).h5"
    do {
      HDF5Lock.begin()
      defer { HDF5Lock.end() }
      let access = H5Pcreate(ress_h5_file_access())
      H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110)
      let file = H5Fcreate(path, ress_h5_truncate(), 0, access)
      H5Pclose(access)
      body(file)
      H5Fclose(file)
    }
    return path
  }

  private func attribute(_ file: hid_t, _ name: String, _ type: hid_t, count: Int) {
    let space = H5Screate_simple(1, [hsize_t(count)], nil)
    let attribute = H5Acreate2(file, name, type, space, 0, 0)
    H5Awrite(attribute, type, [UInt8](repeating: 0x41, count: count * H5Tget_size(type)))
    H5Aclose(attribute)
    H5Sclose(space)
  }

  @Test func `an attribute of more values, or of another type, is refused before it is read`() throws {
    let path = forge("attributes") { file in
      attribute(file, "many", ress_h5_int64_file(), count: 4000)
      attribute(file, "real", ress_h5_float64_file(), count: 1)
      let text = ress_h5_string(8)
      attribute(file, "texts", text, count: 4000)
      H5Tclose(text)
    }
    let file = try HDF5File.open(path)
    #expect(complaint { _ = try file.number("many") }.hasSuffix("many: the attribute does not hold one value"))
    #expect(complaint { _ = try file.number("real") }.hasSuffix("real: the attribute is not a whole number"))
    #expect(complaint { _ = try file.text("texts") }.hasSuffix("texts: the attribute does not hold one value"))
  }

  private func list(
    _ file: hid_t, _ name: String, _ type: hid_t, _ shape: [hsize_t], _ change: (hid_t, hid_t) -> Void = { _, _ in }
  ) {
    let properties = H5Pcreate(ress_h5_dataset_create())
    let space = H5Screate_simple(Int32(shape.count), shape, nil)
    change(properties, space)
    let list = H5Dcreate2(file, name, type, space, 0, properties, 0)
    H5Dclose(list)
    H5Sclose(space)
    H5Pclose(properties)
  }

  @Test func `a list or tensor in another file, or larger than its file, is refused by name`() throws {
    let outside = scratch.path + "/outside.h5"
    try Forgery.makeOutside(outside)
    let path = forge("lists") { file in
      list(file, "external", ress_h5_uint8_file(), [64]) { properties, _ in
        H5Pset_external(properties, outside + ".raw", 0, 64)
      }
      list(file, "virtual", ress_h5_uint8_file(), [64]) { properties, space in
        H5Pset_virtual(properties, space, outside, "/secret", space)
      }
      H5Lcreate_external(outside, "/secret", file, "link", 0, 0)
      H5Lcreate_soft("/virtual", file, "soft", 0, 0)
      list(file, "endless", ress_h5_uint8_file(), [1 << 40])
      // HDF5 itself makes no list of more than 2^63 bytes.
      list(file, "wide", ress_h5_uint64_file(), [1 << 58])
      list(file, "table", ress_h5_uint8_file(), [0, 3])
      list(file, "reals", ress_h5_float32_file(), [0])
      list(file, "signed", ress_h5_int64_file(), [0])
      // A chunk of HDF5 has less than 4 GiB, and no more numbers than a list whose length is fixed.
      list(file, "chunk", ress_h5_uint64_file(), [1 << 28]) { properties, _ in H5Pset_chunk(properties, 1, [1 << 28]) }
      list(file, "shuffled", ress_h5_uint64_file(), [0]) { properties, _ in
        H5Pset_chunk(properties, 1, [16])
        H5Pset_shuffle(properties)
      }
    }
    let file = try HDF5File.open(path)
    let reasons = [
      "external": "stored in another file", "virtual": "made of other datasets", "link": "it is a link",
      "soft": "it is a link", "endless": "is too small for its shape", "wide": "is too small for its shape",
      "table": "it is not a list", "reals": "not a list of unsigned whole numbers",
      "signed": "not a list of unsigned whole numbers", "chunk": "its chunks are larger",
      "shuffled": "a filter other than the checksum", "nothing": "there is no such object",
    ]
    for (name, reason) in reasons.sorted(by: { $0.key < $1.key }) {
      let said = complaint { _ = try file.openList(name) }
      #expect(said.contains("\(name): ") && said.contains(reason), "\(name): \(said)")
    }
    #expect(complaint { _ = try file.shape(of: "link") }.contains("it is a link"))
    #expect(complaint { _ = try file.shape(of: "wide") }.contains("is too small for its shape"))
    // A file without a checksum on every structure was not written by ress.
    let old = scratch.path + "/old.h5"
    do {
      HDF5Lock.begin()
      defer { HDF5Lock.end() }
      H5Fclose(H5Fcreate(old, ress_h5_truncate(), 0, 0))
    }
    #expect(complaint { _ = try HDF5File.open(old) }.contains("not an HDF5 file of version 1.10 or later"))
    #expect(mkfifo(scratch.path + "/pipe", 0o600) == 0)
    #expect(complaint { _ = try HDF5File.open(scratch.path + "/pipe") }.contains("not a regular file"))
  }

  // MARK: Checkpoints

  private static var tiny: RunConfiguration {
    var c = RunConfiguration()
    c.model.width = 8
    c.model.heads = 2
    c.model.steps = 2
    c.model.segment = 8
    c.model.memorySlots = 2
    c.model.cache = 8
    c.model.window = 4
    c.model.structureRank = 2
    c.model.graphDegree = 2
    c.model.keys = 4
    c.model.experts = 2
    c.model.activeExperts = 1
    c.model.expertWidth = 8
    c.data.sequenceLength = 8
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
        return ["model/", "optimizer/first/", "optimizer/second/"].filter { entry.isTrained || $0 == "model/" }
          .flatMap { kind in
            parts.map {
              NamedTensor(name: $0.stored(as: kind + entry.name), shape: $0.shape, values: values.baseAddress!)
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
