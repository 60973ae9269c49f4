// Sources of text, and that nothing of them is lost: compressed files, lines of JSON, interrupted preparations.

import CZstd
import Configuration
import Data
import Foundation
import HDF5
import TestSupport
import Testing
import Training

@Suite final class `Sources of text` {
  private let folder = NSTemporaryDirectory() + "ress-sources-" + UUID().uuidString

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func path(_ name: String) -> String { folder + "/" + name }

  private func write(_ name: String, _ text: String) throws {
    try text.write(toFile: path(name), atomically: true, encoding: .utf8)
  }

  private func gzip(_ name: String) throws {
    let process = Process()
    process.executableURL = URL(filePath: "/bin/gzip")
    process.arguments = ["-k", path(name)]
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
  }

  private func zstd(_ name: String) throws {
    let bytes = [UInt8](try Data(contentsOf: URL(filePath: path(name))))
    var packed = [UInt8](repeating: 0, count: ZSTD_compressBound(bytes.count))
    let count = ZSTD_compress(&packed, packed.count, bytes, bytes.count, 3)
    #expect(ZSTD_isError(count) == 0)
    try Data(packed[..<count]).write(to: URL(filePath: path(name + ".zst")))
  }

  private func dataset(
    _ sources: String..., change: (inout DatasetPreparation) -> Void = { _ in }
  ) throws -> Dataset {
    var preparation = DatasetPreparation(sources: sources.map(path), output: path("d.h5"))
    preparation.validationFraction = 0
    change(&preparation)
    _ = try preparation.run()
    return try Dataset(path: path("d.h5"))
  }

  private func text(_ split: TokenSplit) throws -> String {
    var tokens: [Int32] = []
    try split.read(from: 0, count: split.tokenCount, into: &tokens)
    return String(decoding: tokens.map { $0 == 256 ? UInt8(ascii: "|") : UInt8($0) }, as: UTF8.self)
  }

  private func complaint(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)".replacing(folder + "/", with: "") }
    return "no error"
  }

  @Test func `lines of JSON are documents, compressed by gzip or zstd or not`() throws {
    try write("a.jsonl", #"{"text": "one\ntwo"}"# + "\n\n" + #"{"n": 1, "text": "drei ü"}"#)
    try gzip("a.jsonl")
    try zstd("a.jsonl")
    for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
      let dataset = try dataset(name)
      #expect(try text(dataset.split(.train)) == "|one\ntwo|drei ü")
      #expect(dataset.split(.train).documentCount == 2)
    }
  }

  @Test func `a validation file is used for validation, and all other text for training`() throws {
    try write("a.txt", "train")
    try write("b.txt", "held")
    let dataset = try dataset("a.txt") {
      $0.validationSources = [path("b.txt")]
      $0.validationFraction = 0.5
    }
    #expect(try text(dataset.split(.train)) == "|train")
    #expect(try text(dataset.split(.validation)) == "|held")
  }

  @Test func `an error names a compressed file that is truncated or damaged, and no dataset is written`() throws {
    try write("a.txt", (0..<20_000).map { "line \($0 * 7919 % 10_007)" }.joined(separator: "\n"))
    try gzip("a.txt")
    try zstd("a.txt")
    for name in ["a.txt.gz", "a.txt.zst"] {
      let whole = try Data(contentsOf: URL(filePath: path(name)))
      try whole.prefix(whole.count / 2).write(to: URL(filePath: path(name)))
      #expect(complaint { _ = try dataset(name) }.contains(name))
      var flipped = whole
      flipped[whole.count / 2] ^= 0x10
      try flipped.write(to: URL(filePath: path(name)))
      #expect(complaint { _ = try dataset(name) }.contains(name))
      #expect(!FileManager.default.fileExists(atPath: path("d.h5")))
    }
  }

  @Test func `an error names the file and number of a line that is not JSON or has no text`() throws {
    try write("a.jsonl", "{\"text\": \"x\"}\nnot json\n")
    #expect(
      complaint { _ = try dataset("a.jsonl") }
        == "a.jsonl:2: not a JSON object on one line: 'not' is not a JSON value (column 1)")
    try write("a.jsonl", #"{"body": "x"}"#)
    #expect(
      complaint { _ = try dataset("a.jsonl") }
        == "a.jsonl:1: no text in field 'text'; it has body: name one with --field")
  }

  @Test func `an interrupted preparation continues and gives the same dataset`() throws {
    try write("big.txt", (0..<3_000_000).map { "w\($0 % 7919)" }.joined(separator: " "))
    let good = #"{"text": "end"}"#
    let files = [path("big.txt"), path("end.jsonl")]
    // The same file twice for every reader; the first time it cannot be read to its end.
    func writeEnd(_ text: String) throws {
      try write("end.jsonl", text)
      try FileManager.default.setAttributes(
        [.modificationDate: Date(timeIntervalSince1970: 1e9)], ofItemAtPath: files[1])
    }
    try writeEnd(String(repeating: "x", count: good.utf8.count))
    var preparation = DatasetPreparation(sources: files, output: path("d.h5"))
    preparation.threads = 3
    #expect(complaint { _ = try preparation.run() }.contains("end.jsonl:1"))

    try writeEnd(good)
    let journal = path("d.h5.train.tokens")
    let tokens = try Data(contentsOf: URL(filePath: journal))
    var damaged = tokens
    damaged[1000] ^= 1
    try damaged.write(to: URL(filePath: journal))
    #expect(complaint { _ = try preparation.run() }.contains("its tokens differ from those that were written"))

    try tokens.write(to: URL(filePath: journal))
    let summary = try preparation.run()
    #expect(summary.resumedBytes >= 16 << 20 && summary.documents == 2)
    var fresh = preparation
    fresh.output = path("fresh.h5")
    // In another second, so that a time stamp in a file would differ.
    waitForAnotherSecond()
    #expect(try fresh.run().resumedBytes == 0)
    #expect(try Data(contentsOf: URL(filePath: path("d.h5"))) == Data(contentsOf: URL(filePath: path("fresh.h5"))))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder).allSatisfy { !$0.contains(".train.") })
  }

  @Test func `separate documents never share a sequence, and a long one is divided`() throws {
    try write("a.jsonl", ["abcdefg", "h", "ijk"].map { #"{"text": "\#($0)"}"# }.joined(separator: "\n"))
    let split = try dataset("a.jsonl").split(.train)
    let source = try LanguageModelSource(split, length: 5, layout: .separate, separator: 256)
    var seen: [String] = []
    var buffer = SequenceBuffer()
    func spoken(_ tokens: [Int32]) -> String {
      String(decoding: tokens.map { $0 == 256 ? UInt8(ascii: "|") : UInt8($0) }, as: UTF8.self)
    }
    for sequence in 0..<source.sequenceCount {
      try source.read(sequence, into: &buffer)
      #expect(buffer.tokens.count == source.tokenCount(of: sequence))
      #expect(buffer.targets.count == source.targetCount(of: sequence))
      seen.append(spoken(buffer.tokens) + ">" + spoken(Array(buffer.targets.suffix(1))))
    }
    // Each begins with its separator, and its last target is the next document's; no separator follows the last
    // document.
    #expect(seen == ["|abcd>e", "efg>|", "|h>|", "|ij>k"])
  }

  @Test func `an error names a damaged chunk of a dataset`() throws {
    try write("a.txt", (0..<200_000).map { "word\($0 % 977)" }.joined(separator: " "))
    let dataset = try dataset("a.txt")
    var tokens: [Int32] = []
    try dataset.split(.train).read(from: 0, count: 1000, into: &tokens)
    var bytes = [UInt8](try Data(contentsOf: URL(filePath: path("d.h5"))))
    // A byte of the text, in the middle of the file.
    bytes[bytes.count / 2] ^= 1
    try Data(bytes).write(to: URL(filePath: path("d.h5")))
    let damaged = try Dataset(path: path("d.h5")).split(.train)
    let message = complaint { try damaged.read(from: 0, count: damaged.tokenCount, into: &tokens) }
    #expect(message.contains("d.h5") && message.contains("train/tokens"), "\(message)")
  }
}
