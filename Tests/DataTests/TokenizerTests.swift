// Byte-pair tokenizers, compared with the results of Hugging Face's `tokenizers` and of `tiktoken`
// (Benchmarks/compare_tokenizers.py --save wrote Tests/Golden/tokenizer), and with a merging algorithm that is too
// simple to be wrong.

import Data
import Foundation
import TestSupport
import Testing

@Suite struct TokenizerTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../Golden/tokenizer").standardized.path

  private static func text() throws -> [UInt8] {
    Array(try #require(FileManager.default.contents(atPath: folder + "/text.txt")))
  }

  private static func encode(_ table: BytePairs, _ text: [UInt8], specials: Bool = false) -> [Int32] {
    var encoder = BytePairEncoder(table), tokens: [Int32] = []
    _ = text.withUnsafeBufferPointer { encoder.encode($0, withSpecials: specials, into: &tokens) }
    return tokens
  }

  @Test(arguments: Pretokenizer.written)
  func `mixed-language text gets the tokens of tokenizers and tiktoken, and is decoded again`(pattern: Pretokenizer)
    throws
  {
    let table = try TokenizerFile.readPairs("\(Self.folder)/\(pattern.name).json")
    #expect(table.pretokenizer == pattern && table.vocabulary == 700)
    let text = try Self.text()
    let golden = try String(contentsOfFile: "\(Self.folder)/\(pattern.name).tokens", encoding: .utf8)
    let tokens = Self.encode(table, text)
    #expect(tokens == golden.split(whereSeparator: \.isWhitespace).map { Int32($0)! })
    #expect(table.decode(tokens) == text)
    // The cache of pieces must not change anything.
    var encoder = BytePairEncoder(table), again: [Int32] = []
    text.withUnsafeBufferPointer { bytes in for _ in 1...2 { encoder.encode(bytes, into: &again) } }
    #expect(again == tokens + tokens)
  }

  @Test(arguments: Pretokenizer.written)
  func `training learns the merges that tokenizers learns, with any number of threads`(pattern: Pretokenizer) throws {
    let theirs = try TokenizerFile.readPairs("\(Self.folder)/\(pattern.name).json")
    for threads in [1, 3] {
      var training = BytePairTraining()
      training.pretokenizer = pattern
      training.vocabulary = 700
      try training.read([Self.folder + "/text.txt"], threads: threads)
      let mine = try training.learn()
      #expect(mine.merges == theirs.merges && mine.tokens == theirs.tokens && mine.specials == theirs.specials)
    }
  }

  /// Joins the earliest learned pair, leftmost first, searched from the start each time.
  private func slowly(_ table: BytePairs, _ piece: [UInt8]) -> [Int32] {
    let byteTokens = Dictionary(
      uniqueKeysWithValues: table.tokens.enumerated().filter { $0.element.count == 1 }.map {
        ($0.element[0], Int32($0.offset))
      })
    var parts = piece.map { byteTokens[$0]! }
    for merge in table.merges {
      var place = 0
      while place + 1 < parts.count {
        if parts[place] == merge.left, parts[place + 1] == merge.right {
          parts.replaceSubrange(place...place + 1, with: [merge.joined])
        }
        place += 1
      }
    }
    return parts
  }

  @Test func `a token is shown so that it can be distinguished from others, also if it is not valid text`() {
    let byte = Tokenizer.byte
    #expect([104, 32, 10, 0xC3, 256, 300].map { byte.spoken($0) } == ["h", " ", "\n", "⟨c3⟩", "⟨document⟩", "⟨300⟩"])
  }

  @Test func `pieces of any length are merged in the learned order`() throws {
    let table = try TokenizerFile.readPairs(Self.folder + "/gpt2.json")
    var generator = Chance("pieces of any length")
    for length in [1, 2, 3, 23, 24, 25, 47, 48, 49, 50, 200, 1500] {
      for _ in 0..<20 {
        // Letters form one piece; few different ones lead to many merges.
        let piece = (0..<length).map { _ in "abcorehtn".utf8.randomElement(using: &generator)! }
        #expect(Self.encode(table, piece) == slowly(table, piece), "\(String(decoding: piece, as: UTF8.self))")
      }
    }
  }

  @Test func `bytes that are not UTF-8 are kept, and do not divide other characters`() throws {
    let table = try TokenizerFile.readPairs(Self.folder + "/gpt2.json")
    var generator = Chance("bytes that are no UTF-8")
    let cases: [[UInt8]] =
      [
        [0xFF], [0xC3], [0xE2, 0x82], [0xF0, 0x9F, 0x99], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF5, 0x80, 0x80, 0x80],
        [],
      ]
      + (0..<300).map { _ in
        (0..<Int.random(in: 1...80, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator) }
      }
    for bytes in cases {
      let text = Array("grüße ".utf8) + bytes + Array(" Ende".utf8)
      let tokens = Self.encode(table, text)
      #expect(table.decode(tokens) == text)
    }
  }

  @Test func `special tokens are recognised only on request, the longest first`() throws {
    let table = try BytePairs(
      pretokenizer: .gpt2, tokens: (0..<256).map { [UInt8($0)] } + [Array("<a>".utf8), Array("<a><b>".utf8)],
      merges: [],
      added: [.init(text: "<a>", token: 256), .init(text: "<a><b>", token: 257)])
    let text = Array("x<a>y<a><b>".utf8)
    #expect(Self.encode(table, text) == text.map { Int32($0) })
    #expect(Self.encode(table, text, specials: true) == [120, 256, 121, 257])
    #expect(table.decode([120, 256, 121, 257]) == text)
    #expect(Tokenizer.bytePairs(table).decode([120, 256, 121, 257]) == Array("xy".utf8))
  }

  @Test func `both kinds of files read back as they were written`() throws {
    let folder = NSTemporaryDirectory() + "ress-tokenizer-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for pattern in Pretokenizer.written {
      let table = try TokenizerFile.readPairs("\(Self.folder)/\(pattern.name).json")
      let path = "\(folder)/\(pattern.name).json"
      try TokenizerFile.json(table).write(toFile: path, atomically: true, encoding: .utf8)
      let again = try TokenizerFile.readPairs(path)
      #expect(again.tokens == table.tokens && again.merges == table.merges && again.specials == table.specials)
      #expect(again.pretokenizer == pattern && TokenizerFile.json(again) == TokenizerFile.json(table))
    }
    let table = try TokenizerFile.readPairs(Self.folder + "/gpt2.json")
    let (vocabulary, merges) = try TokenizerFile.gpt2(table)
    try vocabulary.write(toFile: folder + "/vocab.json", atomically: true, encoding: .utf8)
    try merges.write(toFile: folder + "/merges.txt", atomically: true, encoding: .utf8)
    let again = try TokenizerFile.readPairs(folder)
    #expect(again.tokens == table.tokens && again.merges == table.merges && again.specials == table.specials)
    #expect(throws: TokenizerError.self) {
      try TokenizerFile.gpt2(TokenizerFile.readPairs(Self.folder + "/gpt4.json"))
    }
  }

  @Test(arguments: [
    (#"{"model":{"type":"WordPiece","vocab":{},"merges":[]}}"#, "type WordPiece"),
    (#"{"normalizer":{"type":"NFC"},"model":{"type":"BPE","vocab":{},"merges":[]}}"#, "normalizer (NFC)"),
    (#"{"pre_tokenizer":{"type":"Whitespace"},"model":{"type":"BPE","vocab":{},"merges":[]}}"#, "type Whitespace"),
    (
      #"{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true},"model":{"type":"BPE","vocab":{},"merges":[]}}"#,
      "add_prefix_space"
    ),
    (
      #"{"pre_tokenizer":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}"#,
      "no token for byte 0"
    ),
    (#"{"pre_tokenizer":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}"#, "merge 1"),
    (#"{"pre_tokenizer":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":-5},"merges":[]}}"#, "below 0"),
    (#"{"model":{"type":"BPE"}}"#, "vocab"), ("[", "not a tokenizer.json"),
  ])
  func `a file that would be encoded differently is refused with the reason`(json: String, reason: String) {
    do {
      _ = try TokenizerFile.parsePairs(Data(json.utf8), path: "t.json")
      Issue.record("read")
    } catch { #expect("\(error)".contains(reason), "\(error)") }
  }

  @Test(arguments: [("added.tokens", false), ("added-specials.tokens", true)])
  func `added tokens are found where the tokenizers package finds them`(name: String, specials: Bool) throws {
    let table = try TokenizerFile.readPairs(Self.folder + "/added.json")
    let text = try #require(FileManager.default.contents(atPath: Self.folder + "/added.txt"))
    let golden = try String(contentsOfFile: "\(Self.folder)/\(name)", encoding: .utf8)
    let tokens = Self.encode(table, Array(text), specials: specials)
    #expect(tokens == golden.split(whereSeparator: \.isWhitespace).map { Int32($0)! })
    // Added tokens are text; only special ones are left out when tokens are decoded.
    let tool = try #require(table.special("<tool>"))
    #expect(Tokenizer.bytePairs(table).decode([tool]) == Array("<tool>".utf8))
    #expect(Tokenizer.bytePairs(table).byteCount(of: tool) == 6 && table.specials.count == 2)
    let again = try TokenizerFile.parsePairs(Data(TokenizerFile.json(table).utf8), path: "again")
    #expect(again.added == table.added && Self.encode(again, Array(text), specials: specials) == tokens)
    #expect(throws: TokenizerError.self) { try TokenizerFile.gpt2(table) }
  }

  @Test(arguments: [
    "null", #"{"type":"Sequence","normalizers":[]}"#,
    #"{"type":"Sequence","normalizers":[{"type":"Sequence","normalizers":[]}]}"#,
  ])
  func `a normalizer that does nothing is accepted`(normalizer: String) throws {
    let text = String(
      decoding: try #require(FileManager.default.contents(atPath: Self.folder + "/gpt2.json")), as: UTF8.self)
    let changed = text.replacing(#""normalizer":null"#, with: "\"normalizer\":" + normalizer)
    #expect(changed != text || normalizer == "null")
    #expect(try TokenizerFile.parsePairs(Data(changed.utf8), path: "t").vocabulary == 700)
  }

  @Test(arguments: ["\r\n", "\n", "\r\r\n"])
  func `merges are read with any line ends`(ending: String) throws {
    let folder = NSTemporaryDirectory() + "ress-merges-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let table = try TokenizerFile.readPairs(Self.folder + "/gpt2.json")
    let (vocabulary, merges) = try TokenizerFile.gpt2(table)
    try vocabulary.write(toFile: folder + "/vocab.json", atomically: true, encoding: .utf8)
    func write(_ text: String) throws { try Data(text.utf8).write(to: URL(filePath: folder + "/merges.txt")) }
    try write("\u{FEFF}" + merges.replacing("\n", with: ending))
    let again = try TokenizerFile.readPairs(folder)
    #expect(again.merges == table.merges && again.tokens == table.tokens && again.added == table.added)
    // A file without merges, and one that was truncated.
    for lines in [0, 100] {
      try write(merges.split(separator: "\n").prefix(1 + lines).joined(separator: "\n"))
      do {
        _ = try TokenizerFile.readPairs(folder)
        Issue.record("read")
      } catch {
        #expect(
          "\(error)".contains("merges.txt: its \(lines) merges do not make \(443 - lines) of the 700 tokens"),
          "\(error)")
      }
    }
    // These files cannot express how added tokens are matched.
    try write(merges)
    try "{}".write(toFile: folder + "/added_tokens.json", atomically: true, encoding: .utf8)
    #expect(throws: TokenizerError.self) { try TokenizerFile.readPairs(folder) }
  }

  @Test(arguments: [
    (["<a>", "<a>"], "is named twice"), (["a"], "is the name of a byte"), (["\u{120}"], "is the name of a byte"),
    ([""], "is empty"),
  ])
  func `invalid special tokens are refused before any text is read`(specials: [String], reason: String) {
    var training = BytePairTraining()
    training.specials = specials
    do {
      try training.read(["/nonexistent"], threads: 1)
      Issue.record("read")
    } catch { #expect("\(error)".contains(reason), "\(error)") }
  }

  @Test func `a special token that looks like a piece of text is never the result of a merge`() throws {
    var training = BytePairTraining()
    (training.specials, training.vocabulary) = (["th", "\u{120}q"], 270)
    let text = Array(String(repeating: "the that this q q q", count: 50).utf8)
    text.withUnsafeBufferPointer { training.read($0) }
    let table = try training.learn()
    #expect(table.specials.map(\.text) == ["th", "\u{120}q"])
    #expect(table.decode(Self.encode(table, text)) == text)
    #expect(Tokenizer.bytePairs(table).decode(Self.encode(table, text)) == text)
    _ = try TokenizerFile.gpt2(table)
  }

  @Test func `a file truncated anywhere is refused or read, without a crash`() throws {
    let whole = try #require(FileManager.default.contents(atPath: Self.folder + "/gpt2.json"))
    for end in stride(from: 0, to: whole.count, by: 997) {
      #expect(throws: TokenizerError.self) { try TokenizerFile.parsePairs(whole.prefix(end), path: "cut.json") }
    }
  }
}
