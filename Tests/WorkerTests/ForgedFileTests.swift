// Files from an attacker or a bad disk: forged and damaged datasets here, checkpoints and safetensors files in
// ForgedModelTests.swift. Each is read or refused. The process must not crash, nothing outside of the file may be read,
// and memory must not grow.
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
  let scratch = ScratchFolder()

  func complaint(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
  }

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
  func forge(_ name: String, _ body: (hid_t) -> Void) -> String {
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
}
