// Several datasets as one: shards must be complete, and mixtures keep their weights.

import Configuration
import Data
import Foundation
import HDF5
import Testing
import Training

@Suite final class `Shards and mixtures` {
  private let folder = NSTemporaryDirectory() + "ress-corpus-" + UUID().uuidString

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func path(_ name: String) -> String { folder + "/" + name }

  @discardableResult private func prepare(
    _ name: String, _ text: String, change: (inout DatasetPreparation) -> Void = { _ in }
  ) throws -> String {
    try text.write(toFile: path(name + ".txt"), atomically: true, encoding: .utf8)
    var preparation = DatasetPreparation(sources: [path(name + ".txt")], output: path(name))
    change(&preparation)
    _ = try preparation.run()
    return path(name)
  }

  private func complaint(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)".replacing(folder + "/", with: "") }
    return "no error"
  }

  private func configuration(_ change: (inout RunConfiguration) -> Void) -> RunConfiguration {
    var configuration = RunConfiguration()
    configuration.data.sequenceLength = 10
    change(&configuration)
    return configuration
  }

  /// The text of the sequences, without separators.
  private func texts(_ source: any SequenceSource, _ numbers: some Sequence<Int>) throws -> [String] {
    var buffer = SequenceBuffer()
    return try numbers.map { number in
      try source.read(number, into: &buffer)
      return String(decoding: buffer.tokens.filter { $0 < 256 }.map { UInt8($0) }, as: UTF8.self)
    }
  }

  @Test func `shards together hold all of the text, and are read as one dataset`() throws {
    let text = (0..<2000).map { "\($0) " }.joined()
    let corpus = try Corpus(path: prepare("corpus", text) { $0.shards = 3 })
    let datasets = corpus.parts[0].datasets
    #expect(datasets.map { ($0.path as NSString).lastPathComponent } == (0..<3).map { Corpus.shardName($0, of: 3) })
    for split in Split.allCases {
      let pieces = try datasets.map { dataset in
        var tokens: [Int32] = []
        try dataset.split(split).read(from: 0, count: dataset.split(split).tokenCount, into: &tokens)
        return tokens.filter { $0 < 256 }.map { UInt8($0) }
      }
      // Equal shares, and the text in order: the validation split is its end.
      #expect(Set(pieces.map { $0.count / 4 }).count <= 2)
      let joined = String(decoding: pieces.joined(), as: UTF8.self)
      #expect(split == .train ? text.hasPrefix(joined) : text.hasSuffix(joined))
    }
    let source = try TaskSource(corpus, configuration { _ in }).sequences(.train)
    let all = try texts(source, 0..<source.sequenceCount)
    #expect(source.sequenceCount == datasets.reduce(0) { $0 + $1.split(.train).sequenceCount(length: 10) })
    #expect(all.allSatisfy { text.contains($0) } && Set(all).count == all.count)
  }

  @Test func `a shard ends at the end of a document, if one ends in its share`() throws {
    let rows = (0..<40).map { "{\"text\": \"\(String(repeating: "\($0 % 10)", count: 50 + $0 % 7))\"}" }.joined(
      separator: "\n")
    try rows.write(toFile: path("rows.jsonl"), atomically: true, encoding: .utf8)
    var preparation = DatasetPreparation(sources: [path("rows.jsonl")], output: path("rows"))
    (preparation.shards, preparation.validationFraction) = (4, 0)
    _ = try preparation.run()
    let shards = try Corpus(path: path("rows")).parts[0].datasets
    #expect(shards.reduce(0) { $0 + $1.split(.train).documentCount } == 40)
  }

  @Test func `errors name a missing or damaged shard, and a folder without any`() throws {
    try prepare("corpus", String(repeating: "some text ", count: 100)) { $0.shards = 4 }
    let shard = path("corpus/" + Corpus.shardName(2, of: 4))
    let bytes = try Data(contentsOf: URL(filePath: shard))
    try FileManager.default.removeItem(atPath: shard)
    #expect(
      complaint { _ = try Corpus(path: path("corpus")) }
        == "corpus is not a dataset of ress: shard-00002-of-00004.h5 missing")
    try bytes.prefix(bytes.count / 2).write(to: URL(filePath: shard))
    #expect(
      complaint { _ = try Corpus(path: path("corpus")) }.hasPrefix("corpus/shard-00002-of-00004.h5 is not a dataset"))
    try bytes.write(to: URL(filePath: shard))
    try bytes.write(to: URL(filePath: path("corpus/" + Corpus.shardName(0, of: 9))))
    #expect(complaint { _ = try Corpus(path: path("corpus")) }.contains("several datasets (of 4 and of 9)"))
    try FileManager.default.createDirectory(atPath: path("empty"), withIntermediateDirectories: true)
    #expect(
      complaint { _ = try Corpus(path: path("empty")) }.contains("holds no shards, such as shard-00000-of-00002.h5"))
  }

  @Test func `shards replace a folder of older shards, but no other folder`() throws {
    try prepare("corpus", String(repeating: "older text ", count: 100)) { $0.shards = 4 }
    try prepare("corpus", String(repeating: "newer text ", count: 100)) { $0.shards = 2 }
    #expect(try FileManager.default.contentsOfDirectory(atPath: path("corpus")).count == 2)
    try FileManager.default.createDirectory(atPath: path("mine"), withIntermediateDirectories: true)
    try "keep".write(toFile: path("mine/notes"), atomically: true, encoding: .utf8)
    #expect(complaint { try prepare("mine", "text") { $0.shards = 2 } }.contains("holds no shards"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: path("mine")) == ["notes"])
  }

  @Test func `each part of a mixture has its share, and all are used for validation`() throws {
    let a = try prepare("a", String(repeating: "a", count: 4000)),
      b = try prepare("b", String(repeating: "b", count: 900))
    let configuration = configuration {
      $0.data.mixture = [WeightedPath(path: a, weight: 1), WeightedPath(path: b, weight: 3)]
    }
    let source = try TaskSource(Corpus(configuration.data), configuration)
    let train = try source.sequences(.train), order = train.order(seed: 7)
    let letters = try texts(train, (0..<2048).map { order.sequence(at: $0) }).map { Set($0) }
    #expect(letters.allSatisfy { $0.count == 1 })
    #expect(letters.count { $0 == ["b"] } == 1536)
    let held = try source.sequences(.validation)
    #expect(try Set(texts(held, 0..<held.questionCount).joined()) == ["a", "b"])
  }

  @Test func `a dataset is identified by its tokens, wherever it is and however it was made`() throws {
    let text = (0..<4000).map { "\($0) " }.joined()
    let one = try Corpus(path: prepare("one", text)).identity()
    #expect(one.dataset!.hasPrefix("sha256:"))
    #expect(try Corpus(path: prepare("two", text)).identity() == one)
    // Datasets that differ: one token in the middle, one token more, another border, other shards, other weights.
    var others = [one]
    others.append(try Corpus(path: prepare("token", text.replacing("2000", with: "2001"))).identity())
    others.append(try Corpus(path: prepare("border", text) { $0.validationFraction = 0.1 }).identity())
    others.append(try Corpus(path: prepare("shards", text) { $0.shards = 2 }).identity())
    others.append(try Corpus([(path("one"), 1), (path("token"), 2)]).identity())
    others.append(try Corpus([(path("one"), 1), (path("token"), 3)]).identity())
    #expect(Set(others.map(\.dataset)).count == others.count)
    #expect(Set(others.map(\.tokenizer)).count == 1)
    #expect(one.difference(from: others[1]) == "another dataset" && one.difference(from: one) == nil)
    try #"{"text": "x", "label": "one"}"#.write(toFile: path("rows.jsonl"), atomically: true, encoding: .utf8)
    for name in ["c", "d"] {
      var preparation = DatasetPreparation(sources: [path("rows.jsonl")], output: path(name))
      preparation.task = .classify
      _ = try preparation.run()
    }
    #expect(try Corpus(path: path("c")).identity() == Corpus(path: path("d")).identity())
  }

  @Test func `a dataset without a stored digest is identified by samples of its lists`() throws {
    func old(_ name: String, _ change: Int?) throws -> DataIdentity {
      do {
        let file = try HDF5File.create(path(name))
        try file.setAttribute("ress_dataset_format", 2)
        try file.setAttribute("tokenizer", "byte")
        try file.setAttribute("vocabulary", 257)
        try file.setAttribute("sources", "a")
        var tokens = (0..<300_000).map { Int32($0 % 251) }
        if let change { tokens[change] = 252 }
        for split in ["train", "validation"] {
          try file.createList(split + "/tokens", .bits16).append(tokens)
          try file.createList(split + "/documents", .bits64).append([UInt64(0)])
        }
        try file.flush()
      }
      return try Corpus(path: path(name)).identity()
    }
    let one = try old("a.h5", nil)
    #expect(one.dataset!.hasPrefix("sample:"))
    #expect(try old("b.h5", nil) == one)
    for change in [0, 299_999, 9_375] { #expect(try old("c\(change).h5", change) != one) }
  }

  @Test func `the error for parts that cannot be combined names what differs`() throws {
    let a = try prepare("a", String(repeating: "a b ", count: 1000))
    try #"{"text": "x", "label": "one"}"#.write(toFile: path("rows.jsonl"), atomically: true, encoding: .utf8)
    var preparation = DatasetPreparation(sources: [path("rows.jsonl")], output: path("c"))
    preparation.task = .classify
    _ = try preparation.run()
    #expect(
      complaint { _ = try Corpus([(a, 1), (path("c"), 1)]) }
        == "c and a cannot be read together: they differ in task (classify; lm)")
    let short = try prepare("short", "abc")
    let mixed = configuration {
      $0.data.mixture = [WeightedPath(path: a, weight: 1), WeightedPath(path: short, weight: 1)]
    }
    #expect(
      complaint { _ = try TaskSource(Corpus(mixed.data), mixed).sequences(.train) }.hasPrefix(
        "short: the train split holds 4 tokens, and one sequence needs 11"))
  }
}
