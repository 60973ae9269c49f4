// Patterns of tokenizer.json, compared with Hugging Face's `tokenizers` (Benchmarks/golden_tokenizers.py wrote
// patterns.json), and the limits of the search for them.

import Data
import Foundation
import TestSupport
import Testing

@Suite struct PatternTests {
  private struct Golden: Decodable {
    struct Case: Decodable {
      var name: String
      var steps: [JSON]
      /// For each text the start and end of each piece.
      var pieces: [[Int]]
    }
    var texts: [String]
    var cases: [Case]
    var refused: [String]
  }
  /// Any JSON, to be written again.
  private struct JSON: Codable {
    let value: any Codable & Sendable

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let flag = try? container.decode(Bool.self) {
        value = flag
      } else if let text = try? container.decode(String.self) {
        value = text
      } else {
        value = try container.decode([String: JSON].self)
      }
    }

    func encode(to encoder: any Encoder) throws { try value.encode(to: encoder) }
  }

  private static let golden: Golden = {
    let path = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../Golden/tokenizer/patterns.json")
    return try! JSONDecoder().decode(Golden.self, from: Data(contentsOf: path))
  }()

  /// A tokenizer of bytes alone with a pre-tokenizer.
  private static func tokenizer(_ steps: String) throws -> BytePairs {
    let bytes = try TokenizerFile.json(
      BytePairs(pretokenizer: .gpt2, tokens: (0..<256).map { [UInt8($0)] }, merges: [], added: []))
    let old = #"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}"#
    let new = #""pre_tokenizer":{"type":"Sequence","pretokenizers":\#(steps)}"#
    let text = bytes.replacing("\"pre_tokenizer\":" + old, with: new)
    #expect(text != bytes)
    return try TokenizerFile.parsePairs(Data(text.utf8), path: "t.json")
  }

  private static func division(_ steps: [JSON]) throws -> TextDivision? {
    let table = try tokenizer(String(decoding: try JSONEncoder().encode(steps), as: UTF8.self))
    // What was written out is the same tokenizer.
    #expect(
      try TokenizerFile.parsePairs(Data(TokenizerFile.json(table).utf8), path: "again").pretokenizer
        == table.pretokenizer)
    guard case .patterns(let division) = table.pretokenizer else { return nil }
    return division
  }

  private static func regex(_ pattern: String, behavior: DivisionStep.Behavior = .isolated) throws -> TextDivision {
    try TextDivision([DivisionStep(pattern, behavior: behavior)])
  }

  @Test
  func
    `texts are divided as the tokenizers package divides them, by patterns of published models and every part of the syntax`()
    throws
  {
    let golden = Self.golden
    #expect(golden.cases.count > 25 && golden.texts.count > 50)
    for one in golden.cases {
      let division = try #require(try Self.division(one.steps), "\(one.name)")
      for (text, expected) in zip(golden.texts, one.pieces) {
        let pieces = try division.pieces(of: Array(text.utf8))
        #expect(
          pieces.flatMap { [$0.lowerBound, $0.upperBound] } == expected, "\(one.name): \(text.debugDescription)")
      }
    }
  }

  @Test func `the patterns that are written out as code give the same pieces as PCRE2`() throws {
    for known in Pretokenizer.written {
      let table = try BytePairs(pretokenizer: known, tokens: (0..<256).map { [UInt8($0)] }, merges: [], added: [])
      let pieces = try Self.golden.texts.map { try Self.regex(known.pattern).pieces(of: Array($0.utf8)) }
      for (text, found) in zip(Self.golden.texts, pieces) {
        var training = BytePairTraining()
        training.pretokenizer = known
        Array(text.utf8).withUnsafeBufferPointer { training.read($0) }
        #expect(
          training.pieceCount == Set(found.map { Array(text.utf8)[$0].map { $0 } }).count, "\(text.debugDescription)")
      }
      #expect(table.vocabulary == 256)
    }
  }

  @Test func `a pattern that PCRE2 would read differently is refused with the reason`() {
    for pattern in Self.golden.refused {
      #expect(throws: TokenizerError.self, "\(pattern)") { try Self.regex(pattern) }
    }
    do {
      _ = try Self.tokenizer(#"[{"type":"Split","pattern":{"Regex":"(a)\\1"},"behavior":"Isolated"}]"#)
      Issue.record("read")
    } catch { #expect("\(error)".hasSuffix(#"t.json: the pattern (a)\1 cannot be used: '\1'"#), "\(error)") }
  }

  @Test func `bytes that are not UTF-8 are pieces of their own, and no byte is lost`() throws {
    let division = try Self.regex(#"\w+|\s+"#)
    let text = Array("ab ".utf8) + [0xFF, 0xC3] + Array("é".utf8) + [0xE2, 0x82]
    #expect(try division.pieces(of: text) == [0..<2, 2..<3, 3..<4, 4..<5, 5..<7, 7..<8, 8..<9])
  }

  @Test(arguments: [#"\s+$"#, #"(?=.*b)a"#, #"(?:a|aa)+$"#, #"(?:\w+\s?)+!"#])
  func `a search whose work would grow faster than the text is given up`(pattern: String) throws {
    let size = 400_000
    let long: [UInt8] =
      switch pattern {
      case #"\s+$"#: [UInt8](repeating: 0x20, count: size) + [0x78]
      case #"(?=.*b)a"#: [UInt8](repeating: 0x61, count: size) + [0x62]
      default: [UInt8](repeating: 0x61, count: size) + [0x78, 0x2E]
      }
    let division = try Self.regex(pattern)
    #expect(throws: TokenizerError.patternTooSlow(pattern: pattern)) { try division.pieces(of: long) }
    // A short text is divided, and so is one after it.
    #expect(try division.pieces(of: Array(long.suffix(12))).count > 0)
    // An encoder reports it, and loses no byte.
    let table = try BytePairs(
      pretokenizer: .patterns(division), tokens: (0..<256).map { [UInt8($0)] }, merges: [], added: [])
    var encoder = BytePairEncoder(table), tokens: [Int32] = []
    long.withUnsafeBufferPointer { _ = encoder.encode($0, into: &tokens) }
    #expect(encoder.problem == .patternTooSlow(pattern: pattern) && tokens.count == long.count)
  }

  @Test func `long runs of letters, spaces and digits are divided by the patterns of published models`() throws {
    for one in Self.golden.cases where ["gpt-4o", "qwen-2", "deepseek-v3", "starcoder"].contains(one.name) {
      let division = try #require(try Self.division(one.steps))
      for byte in "a 7\n.".utf8 {
        let text = Array("x ".utf8) + [UInt8](repeating: byte, count: 300_000) + Array(" y".utf8)
        let pieces = try division.pieces(of: text)
        #expect(
          pieces.last!.upperBound == text.count
            && zip(pieces, pieces.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
      }
    }
  }

  @Test func `a cut at the border of a piece changes no piece`() throws {
    var chance = Chance("cuts of patterns"), cuts = 0
    for one in Self.golden.cases {
      let table = try Self.tokenizer(String(decoding: try JSONEncoder().encode(one.steps), as: UTF8.self))
      guard case .patterns(let division) = table.pretokenizer else { continue }
      let cutter = TextCutter(.bytePairs(table))
      for _ in 0..<25 {
        let text = Array(
          (0..<3).map { _ in Self.golden.texts.randomElement(using: &chance)! }.joined().utf8.prefix(300))
        let whole = try division.pieces(of: text)
        guard let cut = text.withUnsafeBufferPointer({ cutter.lastCut($0) }) else { continue }
        cuts += 1
        let halves =
          try division.pieces(of: Array(text[..<cut]))
          + division.pieces(of: Array(text[cut...])).map {
            $0.lowerBound + cut..<$0.upperBound + cut
          }
        #expect(
          halves == whole, "\(one.name), cut at \(cut) of \(String(decoding: text, as: UTF8.self).debugDescription)")
      }
    }
    #expect(cuts > 200)
  }
}
