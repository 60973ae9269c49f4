// Damaged models of SentencePiece, tokenizer.json files with random patterns, and damaged tables.

import Data
import Foundation
import TestSupport
import Testing

extension ForgedFileTests {
  private static let tokenizers = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../Golden/tokenizer").standardized.path

  private static func golden(_ name: String) throws -> [UInt8] {
    Array(try #require(FileManager.default.contents(atPath: tokenizers + "/" + name)))
  }

  @Test func `no damaged model of SentencePiece crashes the library or its reader`() throws {
    let models = try ["llama-2.model", "gemma.model", "t5.model"].map { try Self.golden($0) }
    let text = Array("The licence of ｔhe work ﬁve 42\u{3000}東京 🙂\n\n  <table> e\u{301} ".utf8) + [0xFF, 0xC3, 0]
    let before = FuzzPlan.residentMiB
    var used = 0
    for seed in FuzzPlan.seeds {
      var numbers = Chance(seed: seed)
      let bytes = Forgery.mutated(numbers.pick(models), &numbers)
      guard let model = try? SentencePieces(bytes, path: "m") else { continue }
      used += 1
      let tokenizer = Tokenizer.pieces(model)
      var encoder = tokenizer.makeEncoder(), tokens: [Int32] = [], ends: [Int] = []
      encoder.encode(text, into: &tokens)
      encoder.encode(text, continues: true, into: &tokens)
      encoder.encode(text, by: tokenizer, into: &tokens, ends: &ends)
      #expect(tokens.allSatisfy { (0..<Int32(tokenizer.vocabulary)).contains($0) }, "RESS_SEED=\(seed) RESS_FUZZ=1")
      _ = tokenizer.decode(tokens)
      _ = model.wholeText(tokens)
    }
    print(
      "models of SentencePiece: seeds \(FuzzPlan.seeds), \(used) of \(FuzzPlan.count) were read, resident \(before) MiB before, "
        + "\(FuzzPlan.residentMiB) MiB after")
    #expect(!FuzzPlan.isAlone || FuzzPlan.residentMiB - before < 512)
  }

  @Test func `no pattern crashes its compiler or its search, and no byte is lost`() throws {
    let parts = [
      "a", "[a-z]", "[^\\s\\p{L}]", "\\s", "\\p{N}", "(?:", "(", ")", "|", "+", "*", "?", "{1,3}", "{,2}", "$", "^",
      "\\b", "(?=", "(?!",
      "(?<=", "(?i:", ".", "\\w", "\\R", "\\", "[", "]", "é", "++", "{2}", "\\p{Han}", "(?>",
    ]
    let text =
      Array("abc aaa  \n\n123 東京 éé!? AB\r\n".utf8) + [0xFF, 0xE2, 0x82] + [UInt8](repeating: 0x61, count: 3000)
    var used = 0
    for seed in FuzzPlan.seeds {
      var numbers = Chance(seed: seed)
      let pattern = (0..<Int.random(in: 1...12, using: &numbers)).map { _ in numbers.pick(parts) }.joined()
      guard let division = try? TextDivision([DivisionStep(pattern)]), let pieces = try? division.pieces(of: text)
      else {
        continue
      }
      used += 1
      #expect(pieces.reduce(0) { $0 + $1.count } == text.count, "RESS_SEED=\(seed) RESS_FUZZ=1: \(pattern)")
    }
    #expect(used > FuzzPlan.count / 50)
  }

  @Test func `no damaged table crashes its reader`() throws {
    let table = Array(
      (["id,text,b"] + (0..<50).map { "\($0),\"a \"\"\($0)\"\"\nb\",x" }).joined(separator: "\r\n").utf8)
    let folder = NSTemporaryDirectory() + "ress-forged-table-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    var refused = 0
    for seed in FuzzPlan.seeds {
      var numbers = Chance(seed: seed)
      try Data(Forgery.mutated(table, &numbers)).write(to: URL(filePath: folder + "/t.csv"))
      var preparation = DatasetPreparation(sources: [folder + "/t.csv"], output: folder + "/d.h5")
      preparation.options.skipsBadRows = numbers.chance(0.5)
      do { _ = try preparation.run() } catch { refused += 1 }
    }
    #expect(refused > 0 && refused < FuzzPlan.count)
  }
}
