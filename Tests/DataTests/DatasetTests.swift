// Text to datasets and back, and the errors for input that is not usable.

import Data
import Foundation
import HDF5
import Testing

@Suite final class DatasetTests {
  private let folder = NSTemporaryDirectory() + "ress-data-" + UUID().uuidString

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  @discardableResult
  private func write(_ name: String, _ bytes: [UInt8]) throws -> String {
    let path = folder + "/" + name
    try FileManager.default.createDirectory(
      atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try Data(bytes).write(to: URL(filePath: path))
    return path
  }

  private func tokens(_ split: TokenSplit) throws -> [Int32] {
    var tokens: [Int32] = []
    try split.read(from: 0, count: split.tokenCount, into: &tokens)
    return tokens
  }

  private func message(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
  }

  @Test func `bytes are kept unchanged after a separator, valid UTF-8 or not`() throws {
    let bytes: [UInt8] = [0, 255, 195, 40] + Array("grüße".utf8)
    var preparation = DatasetPreparation(sources: [try write("a.txt", bytes)], output: folder + "/d.h5")
    preparation.validationFraction = 0
    let summary = try preparation.run()
    #expect(summary.documents == 1 && summary.bytes == bytes.count)
    let dataset = try Dataset(path: folder + "/d.h5")
    #expect(dataset.vocabulary == 257 && dataset.tokenizer.summary == "byte")
    #expect(try tokens(dataset.split(.train)) == [256] + bytes.map { Int32($0) })
    #expect(dataset.split(.validation).tokenCount == 0)
    #expect(ByteTokenizer.decode(ByteTokenizer.encode("grüße") + [256]) == "grüße")
  }

  @Test func `a folder's files are documents in the order of their names, without hidden ones`() throws {
    for (name, text) in [
      ("b/2.txt", "two"), ("a.txt", "one"), ("c.txt", "three"), (".hidden", "no"), ("b/.git/x", "no"), ("empty", ""),
    ] {
      try write("texts/" + name, Array(text.utf8))
    }
    var preparation = DatasetPreparation(sources: [folder + "/texts"], output: folder + "/d.h5")
    preparation.validationFraction = 0
    _ = try preparation.run()
    let split = try Dataset(path: folder + "/d.h5").split(.train)
    #expect(
      try tokens(split) == [256] + "one".utf8.map { Int32($0) } + [256] + "two".utf8.map { Int32($0) } + [256]
        + "three".utf8.map { Int32($0) })
    #expect(try split.documentOffsets() == [0, 4, 8])
  }

  @Test func `the end of the text validates by default, and whole documents on request`() throws {
    let sources = try (0..<4).map { try write("\($0).txt", Array(repeating: UInt8(65 + $0), count: 100)) }
    var preparation = DatasetPreparation(sources: sources, output: folder + "/d.h5")
    preparation.validationFraction = 0.125
    var summary = try preparation.run()
    #expect(summary.trainTokens == 350 + 4 && summary.validationTokens == 50 + 1)
    preparation.splitBy = .documents
    summary = try preparation.run()
    #expect(summary.trainTokens == 303 && summary.validationTokens == 101)
    let dataset = try Dataset(path: folder + "/d.h5")
    #expect(try Set(tokens(dataset.split(.validation)).dropFirst()) == [68])
    #expect(try !tokens(dataset.split(.train)).contains(68))
  }

  @Test func `text larger than a piece is read completely, and progress reaches its end`() throws {
    let bytes = (0..<3_000_001).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 9) }
    let preparation = DatasetPreparation(sources: [try write("big", bytes)], output: folder + "/d.h5")
    var last = (0, 0), calls = 0
    let summary = try preparation.run { done, total in
      last = (done, total)
      calls += 1
    }
    #expect(last == (bytes.count, bytes.count) && calls > 1)
    #expect(summary.trainTokens + summary.validationTokens == bytes.count + 2)
    let dataset = try Dataset(path: folder + "/d.h5")
    let all = try tokens(dataset.split(.train)).dropFirst() + tokens(dataset.split(.validation)).dropFirst()
    #expect(all.elementsEqual(bytes.map { Int32($0) }))
  }

  @Test func `a preparation that fails leaves the existing dataset`() throws {
    let output = folder + "/d.h5"
    _ = try DatasetPreparation(sources: [try write("a", Array("some text".utf8))], output: output).run()
    let before = FileManager.default.contents(atPath: output)
    #expect(
      message { _ = try DatasetPreparation(sources: [folder + "/none"], output: output).run() }.contains(
        folder + "/none"))
    let empty = try write("empty", [])
    #expect(
      message { _ = try DatasetPreparation(sources: [empty], output: output).run() } == "there is no text in \(empty)")
    #expect(FileManager.default.contents(atPath: output) == before)
    #expect(!FileManager.default.fileExists(atPath: output + ".tmp"))
  }

  @Test func `a file that is not a dataset is refused by name`() throws {
    #expect(
      message { _ = try Dataset(path: folder + "/none.h5") }.contains(
        "none.h5 does not exist; make it with: ress data prepare"))
    let text = try write("text.h5", Array("not HDF5 at all".utf8))
    #expect(message { _ = try Dataset(path: text) }.contains("text.h5 is not a dataset of ress"))
    let foreign = folder + "/foreign.h5"
    do { try HDF5File.create(foreign).setAttribute("x", 1) }
    #expect(message { _ = try Dataset(path: foreign) }.contains("it has no ress_dataset_format"))
    do { try HDF5File.create(foreign).setAttribute("ress_dataset_format", 99) }
    #expect(message { _ = try Dataset(path: foreign) }.contains("format 99"))
    let output = folder + "/d.h5"
    _ = try DatasetPreparation(sources: [try write("a", Array(repeating: 65, count: 300_000))], output: output).run()
    let whole = FileManager.default.contents(atPath: output)!
    for share in [0.01, 0.3, 0.9] {
      try whole.prefix(Int(Double(whole.count) * share)).write(to: URL(filePath: output))
      #expect(message { _ = try Dataset(path: output) }.contains("d.h5 is not a dataset of ress"), "cut to \(share)")
    }
  }

  @Test func `a token outside the vocabulary is an error that names its place`() throws {
    let path = folder + "/bad.h5"
    do {
      let file = try HDF5File.create(path)
      try file.setAttribute("ress_dataset_format", 1)
      try file.setAttribute("tokenizer", "byte")
      try file.setAttribute("vocabulary", 10)
      try file.setAttribute("sources", "a")
      for split in ["train", "validation"] {
        try file.createList(split + "/tokens", .bits16).append([Int32(1), 2, 3, 4, 5, 6, 7, 99, 1, 2])
        try file.createList(split + "/documents", .bits64).append([UInt64(0)])
      }
    }
    let split = try Dataset(path: path).split(.train)
    var buffer: [Int32] = []
    try split.read(sequence: 0, length: 3, into: &buffer)
    #expect(buffer == [1, 2, 3, 4])
    #expect(
      message { try split.read(sequence: 2, length: 3, into: &buffer) }
        == "\(path): token 99 at offset 7 of the train split is outside the vocabulary of 10; the file is damaged, prepare it again"
    )
  }

  @Test func `a split of n tokens has (n − 1) ∕ length sequences, and nothing is read past its end`() throws {
    _ = try DatasetPreparation(sources: [try write("a", Array(repeating: 65, count: 100))], output: folder + "/d.h5")
      .run()
    let split = try Dataset(path: folder + "/d.h5").split(.train)
    #expect(split.tokenCount == 96)
    #expect(
      split.sequenceCount(length: 5) == 19 && split.sequenceCount(length: 95) == 1
        && split.sequenceCount(length: 96) == 0)
    var buffer: [Int32] = []
    try split.read(sequence: 18, length: 5, into: &buffer)
    #expect(
      message { try split.read(sequence: 19, length: 5, into: &buffer) }.contains("numbers 95 to 101 of a list of 96"))
  }
}
