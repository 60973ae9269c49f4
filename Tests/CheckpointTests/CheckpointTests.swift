// Checkpoints: tensors are written to shards and read back by name, and damage is detected.

import Checkpoint
import Configuration
import Foundation
import HDF5
import RunFolder
import TestSupport
import Testing

@Suite final class CheckpointTests {
  private let folder = NSTemporaryDirectory() + "ress-checkpoint-" + UUID().uuidString

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  static let tensors: [(name: String, shape: [Int])] = [
    ("model/embed/weight", [7, 3]), ("model/attn/structure_gain", [4]), ("model/experts/0000/gate", [2, 3]),
    ("optimizer/first/embed/weight", [7, 3]), ("optimizer/second/embed/weight", [7, 3]),
  ]

  private func values(_ index: Int) -> [Float] {
    (0..<Self.tensors[index].shape.reduce(1, *)).map { Float(index * 100 + $0) + 0.1 }
  }

  private func save(shards: Int, step: Int = 4) throws -> String {
    let writer = try CheckpointWriter(folder: folder, step: step, generation: 0, shardCount: shards)
    var files: [CheckpointManifest.File] = []
    for shard in 0..<shards {
      let mine = Self.tensors.indices.filter { $0 % shards == shard }
      let all = mine.map { values($0) }
      var tensors: [NamedTensor] = []
      for (index, values) in zip(mine, all) {
        values.withUnsafeBufferPointer {
          tensors.append(
            NamedTensor(name: Self.tensors[index].name, shape: Self.tensors[index].shape, values: $0.baseAddress!))
        }
      }
      files.append(try withExtendedLifetime(all) { try writer.writeShard(shard, tensors) })
    }
    files.append(try writer.writeModel(Self.tensors.enumerated().map { ($0.element.name, $0.offset % shards) }))
    return try CheckpointFolder.commit(
      CheckpointManifest(
        run: "r", runIdentifier: "1", step: step, configuration: RunConfiguration(), loss: 2, files: files,
        writer: "test",
        created: ""), folder: folder)
  }

  private func message(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
  }

  private func expectWhole(_ path: String) throws {
    let reader = try CheckpointReader(path)
    for (index, tensor) in Self.tensors.enumerated() {
      var read = [Float](repeating: 0, count: tensor.shape.reduce(1, *))
      try reader.read(tensor.name, shape: tensor.shape, into: &read)
      #expect(read == values(index))
    }
  }

  @Test(arguments: 1...4)
  func `tensors read back the same by name from any number of shards`(shards: Int) throws {
    let path = try save(shards: shards)
    #expect(path.hasSuffix("step-00000004"))
    try expectWhole(path)
    #expect(CheckpointWriter.shardName(2, of: 12) == "shard-0002-of-0012.h5")
  }

  @Test func `a checkpoint's folder can be moved`() throws {
    let path = try save(shards: 2)
    try FileManager.default.moveItem(atPath: path, toPath: folder + "/elsewhere")
    try expectWhole(folder + "/elsewhere")
  }

  @Test func `an error names a tensor that is missing or has another shape`() throws {
    let reader = try CheckpointReader(try save(shards: 2))
    var value = [Float](repeating: 0, count: 64)
    #expect(
      message { try reader.read("model/none", shape: [1], into: &value) }.contains(
        "model/none is not in the checkpoint"))
    let said = message { try reader.read("model/embed/weight", shape: [3, 7], into: &value) }
    #expect(said.contains("model/embed/weight") && said.contains("[7, 3]") && said.contains("[3, 7]"))
  }

  @Test func `a checkpoint with a damaged shard is not opened`() throws {
    let path = try save(shards: 2)
    let place = path + "/shard-0001-of-0002.h5"
    var bytes = FileManager.default.contents(atPath: place)!
    for offset in stride(from: 0, to: bytes.count, by: 97) {
      bytes[offset] ^= 1
      try bytes.write(to: URL(filePath: place))
      #expect(message { _ = try CheckpointReader(path) }.contains("shard-0001-of-0002.h5 is damaged"))
      bytes[offset] ^= 1
    }
    try bytes.write(to: URL(filePath: place))
    try expectWhole(path)
  }

  @Test func `a shard that links out of the permitted folders is neither read nor written through`() throws {
    let root = folder + "/root", outside = folder + "/outside"
    for path in [root, outside] {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    let boundary = Boundary([root])
    let path = try save(shards: 2)
    try FileManager.default.moveItem(atPath: path, toPath: root + "/c")
    _ = try CheckpointReader(root + "/c", boundary)
    let shard = "shard-0001-of-0002.h5"
    try FileManager.default.moveItem(atPath: root + "/c/" + shard, toPath: outside + "/" + shard)
    try FileManager.default.createSymbolicLink(
      atPath: root + "/c/" + shard, withDestinationPath: outside + "/" + shard)
    // As if the coordinator had hashed the same bytes just before.
    _ = try CheckpointReader(root + "/c")
    #expect(message { _ = try CheckpointReader(root + "/c", boundary) }.contains("it lies outside of the folders"))
    let reader = try CheckpointReader(root + "/c", verified: true, boundary)
    var value = [Float](repeating: 0, count: 64)
    let said = message { try reader.read(Self.tensors[1].name, shape: Self.tensors[1].shape, into: &value) }
    #expect(said.contains("cannot open \(root)/c/\(shard): it lies outside of the folders"), "\(said)")

    let before = FileManager.default.contents(atPath: outside + "/" + shard)
    let aside = CheckpointFolder.unfinished(root, step: 4, generation: 0)
    try FileManager.default.createDirectory(atPath: aside, withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(
      atPath: aside + "/" + shard, withDestinationPath: outside + "/" + shard)
    let writer = try CheckpointWriter(folder: root, step: 4, generation: 0, shardCount: 2, boundary)
    _ = try value.withUnsafeBufferPointer {
      try writer.writeShard(1, [NamedTensor(name: "model/x", shape: [64], values: $0.baseAddress!)])
    }
    #expect(FileManager.default.contents(atPath: outside + "/" + shard) == before)
    try FileManager.default.createSymbolicLink(
      atPath: CheckpointFolder.unfinished(root, step: 5, generation: 0), withDestinationPath: outside)
    #expect(
      message { _ = try CheckpointWriter(folder: root, step: 5, generation: 0, shardCount: 2, boundary) }.contains(
        "step-00000005.g0.tmp: it lies outside"))
  }

  // The second folder is in memory, where older kernels do not offer direct writes.
  @Test(arguments: [false, true])
  func `a file's checksum is that of its bytes, including those between its blocks`(inMemory: Bool) throws {
    let path = (inMemory ? "/dev/shm" : folder) + "/ress-laid-out-\(UUID().uuidString)"
    defer { unlink(path) }
    let sizes = [0, 1, 3 << 20, 9 << 20, 77]
    let blocks = sizes.map { size in (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ size) } }
    let gap = 1000
    let size = sizes.reduce(gap) { $0 + $1 + gap }
    try Data((0..<size).map { UInt8(truncatingIfNeeded: $0) }).write(to: URL(filePath: path))
    var place = gap
    var filled: [FilledFile.Block] = []
    for block in blocks {
      filled.append(
        FilledFile.Block(place: place, byteCount: block.count) { range, target in
          block[range].withUnsafeBytes { target.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        })
      place += block.count + gap
    }
    let (digest, count) = try FilledFile.fill(path, filled.reversed())
    #expect(try (digest, count) == SHA256.ofFile(path))
    let bytes = Array(try #require(FileManager.default.contents(atPath: path)))
    for (block, given) in zip(filled, blocks) {
      #expect(Array(bytes[block.place..<block.place + given.count]) == given)
    }
    #expect(bytes[0..<gap].elementsEqual((0..<gap).map { UInt8(truncatingIfNeeded: $0) }))
    // A block that would overlap another, or exceed the end, is not written.
    #expect(message { _ = try FilledFile.fill(path, filled + filled.suffix(1)) }.contains("no room for"))
    #expect(
      message { _ = try FilledFile.fill(path, [.init(place: size - 3, byteCount: 77, copy: filled[4].copy)]) }.contains(
        "no room for")
    )
  }

  @Test func `an error names a path that cannot be written, and the checkpoint before stays`() throws {
    let path = try save(shards: 1)
    try "in the way".write(
      toFile: CheckpointFolder.unfinished(folder, step: 5, generation: 0), atomically: false, encoding: .utf8)
    #expect(
      message { _ = try CheckpointWriter(folder: folder, step: 5, generation: 0, shardCount: 1) }.contains(
        "step-00000005.g0.tmp"))
    try expectWhole(path)
  }

  @Test func `equal tensors make equal files, whenever they are written`() throws {
    let first = try CheckpointFolder.readManifest(try save(shards: 3)).files
    waitForAnotherSecond()
    let second = try CheckpointFolder.readManifest(try save(shards: 3)).files
    #expect(first == second)
  }

  @Test func `a damaged shard is replaced only by a file that equals the manifest's`() throws {
    let path = try save(shards: 2)
    let place = path + "/shard-0001-of-0002.h5", good = folder + "/good.h5", bad = folder + "/bad.h5"
    try FileManager.default.copyItem(atPath: place, toPath: good)
    try Data([1, 2, 3]).write(to: URL(filePath: bad))
    try Data([9]).write(to: URL(filePath: place))
    #expect(
      message { try CheckpointFolder.replace(file: "shard-0001-of-0002.h5", in: path, by: bad) }.contains("bad.h5"))
    #expect(CheckpointCheck.problems(path).contains { $0.contains("shard-0001-of-0002.h5 is damaged") })
    try CheckpointFolder.replace(file: "shard-0001-of-0002.h5", in: path, by: good)
    #expect(try CheckpointFolder.verify(path).step == 4)
    try expectWhole(path)
  }

  @Test func `damaged values are refused even where the files are not hashed again`() throws {
    let path = try save(shards: 1)
    let place = path + "/shard-0000-of-0001.h5"
    var bytes = FileManager.default.contents(atPath: place)!
    // The bytes of one value of the first tensor.
    let number = withUnsafeBytes(of: values(0)[5]) { Data($0) }
    let found = try #require(bytes.range(of: number))
    bytes[found.lowerBound] ^= 4
    try bytes.write(to: URL(filePath: place))
    let reader = try CheckpointReader(path, verified: true)
    var read = [Float](repeating: 0, count: 21)
    let said = message { try reader.read("model/embed/weight", shape: [7, 3], into: &read) }
    #expect(said.contains("model/embed/weight") && said.contains("CRC-32C"), "\(said)")
  }

  /// `RESS_FUZZ=10000 scripts/test.sh --filter 'flipped bit'` tries more.
  @Test func `no checkpoint with a flipped bit or a truncated file loads`() throws {
    let attempts = ProcessInfo.processInfo.environment["RESS_FUZZ"].flatMap { Int($0) } ?? 2_000
    let path = try save(shards: 2)
    let names = ["model.h5", "shard-0000-of-0002.h5", "shard-0001-of-0002.h5", "manifest.json", "SHA256SUMS"]
    let whole = names.map { FileManager.default.contents(atPath: path + "/" + $0)! }
    var state: UInt64 = 42
    func draw(_ limit: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 33) % UInt64(limit))
    }
    var loaded: [String] = []
    for round in 0..<attempts {
      let place = draw(names.count)
      var bytes = whole[place]
      let offset = draw(bytes.count)
      let isCut = draw(4) == 0
      if isCut { bytes = bytes.prefix(offset) } else { bytes[offset] ^= UInt8(1 << draw(8)) }
      try bytes.write(to: URL(filePath: path + "/" + names[place]))
      if (try? CheckpointReader(path)) != nil {
        loaded.append("round \(round): \(names[place]) at \(offset), cut: \(isCut)")
      }
      try whole[place].write(to: URL(filePath: path + "/" + names[place]))
    }
    #expect(loaded == [])
    try expectWhole(path)
  }

  static let h5dump = "/usr/bin/h5dump"

  @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: h5dump), "needs h5dump of the package hdf5-tools"))
  func `Debian's h5dump shows a tensor by its name through the links of model.h5`() throws {
    let path = try save(shards: 2)
    let process = Process()
    process.executableURL = URL(filePath: Self.h5dump)
    process.arguments = ["-d", "/model/experts/0000/gate", path + "/model.h5"]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    #expect(text.contains("H5T_IEEE_F32LE") && text.contains("( 2, 3 )") && text.contains("200.1"), "\(text)")
  }
}
