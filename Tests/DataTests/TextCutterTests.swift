// Cutting of long texts: no cut changes a token, in any script, and every text can be cut.

import CZstd
import Foundation
import Testing

import Data

@Suite struct `Cutting long texts` {
  private static let golden = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../Golden/tokenizer").standardized.path

  /// Spreads the values of a counter; the same in every run.
  private struct Draw {
    var state: UInt64
    mutating func next(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
  }

  private static let parts = [
    "word", " ", " ", "Größe", "мир", "日本語", "。", "हिन्दी", "ไทย", "한국어", "שלום", "🙂", "👩‍👩‍👧", "123", "4", "½", "\n", "\r\n",
    "\t",
    "  ", "'s", "'ll", "'", "don't", ".", "!?", "-", "\u{A0}", "\u{3000}", "e\u{301}", "_", "x=1", "ſ", "'ſ", "\u{85}",
    "\u{2028}",
  ]

  private func encode(_ encoder: inout BytePairEncoder, _ text: some Sequence<UInt8>) -> [Int32] {
    var tokens: [Int32] = []
    _ = Array(text).withUnsafeBufferPointer { encoder.encode($0, into: &tokens) }
    return tokens
  }

  @Test(arguments: ["gpt2", "gpt4", "added"])
  func `a cut changes no token`(name: String) throws {
    let table = try TokenizerFile.readPairs("\(Self.golden)/\(name).json")
    let cutter = TextCutter(.bytePairs(table))
    let added = table.added.map(\.text)
    var draw = Draw(state: 7), cuts = 0
    // One encoder for all texts, because making one takes longer than encoding with it.
    var encoder = BytePairEncoder(table)
    for _ in 0..<400 {
      let choice = name == "added" ? Self.parts + added : Self.parts
      var text = (0..<24).map { _ in choice[draw.next(choice.count)] }.joined().utf8.map { $0 }
      // Texts also contain bytes that are not UTF-8.
      if draw.next(3) == 0 { text.insert(UInt8(draw.next(256)), at: draw.next(text.count)) }
      let whole = encode(&encoder, text)
      var seen: Set<Int> = []
      // Every place that could be the last cut before the end of a buffer.
      for end in 1...text.count {
        guard let cut = text[..<end].withUnsafeBufferPointer({ cutter.lastCut($0) }) else { continue }
        cuts += 1
        #expect(cut > 0 && cut < end)
        guard seen.insert(cut).inserted else { continue }
        let halves = encode(&encoder, text[..<cut]) + encode(&encoder, text[cut...])
        #expect(halves == whole, "cut at \(cut) of \(String(decoding: text, as: UTF8.self).debugDescription)")
      }
    }
    #expect(cuts > 10_000)
  }

  @Test(arguments: [
    "Привет мир ", "日本語のテキスト。", "ภาษาไทย ", "ACGTTGCA\n", "9f86d081884c7d65", "हिन्दी पाठ ", "🙂 🙃 ", "----------- ",
    "\u{4E00}\u{3002}",
  ])
  func `text of any script, and bytes of none, are cut near the end of the buffer`(unit: String) {
    let text = Array(String(repeating: unit, count: 300_000 / unit.utf8.count).utf8)
    let cut = text.withUnsafeBufferPointer { TextCutter().lastCut($0) }
    #expect(cut.map { text.count - $0 < 64 } == true)
  }

  @Test func `a word without an end is cut into pieces of bounded size, between characters`() throws {
    let cutter = TextCutter()
    for unit in ["a", "ж", "語"] {
      let text = Array(String(repeating: unit, count: 5_000_000 / unit.utf8.count).utf8)
      var pieces: [[UInt8]] = []
      cutter.forEachPiece(text) { pieces.append($0) }
      #expect(pieces.count >= 3 && pieces.allSatisfy { $0.count <= 2 * TextCutter.longestWord })
      #expect(Array(pieces.joined()) == text)
      #expect(pieces.allSatisfy { String(validating: $0, as: UTF8.self) != nil })
    }
  }

  @Test func `a file of one endless word is read in pieces of bounded size`() throws {
    let path = NSTemporaryDirectory() + "ress-word-" + UUID().uuidString
    defer { try? FileManager.default.removeItem(atPath: path) }
    let text = [UInt8](repeating: UInt8(ascii: "a"), count: 7_000_001)
    try Data(text).write(to: URL(filePath: path))
    var pieces: [TextPiece] = []
    try DocumentReader().read(try #require(SourceList([path]).files.first)) { pieces.append($0) }
    #expect(pieces.map(\.beginsDocument) == [true] + Array(repeating: false, count: pieces.count - 1))
    #expect(pieces.allSatisfy { $0.bytes.count <= 2 * TextCutter.longestWord + 64 })
    #expect(Array(pieces.map(\.bytes).joined()) == text)
  }
}
