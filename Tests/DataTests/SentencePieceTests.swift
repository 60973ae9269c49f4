// Models of SentencePiece, compared with Google's Python package (Benchmarks/golden_tokenizers.py wrote the models and
// pieces.json). Llama 2's, Gemma's and T5's have the options of those tokenizers, at a small size.

import Data
import Foundation
import TestSupport
import Testing

@Suite struct SentencePieceTests {
  private struct Golden: Decodable {
    struct Model: Decodable {
      var tokens: [[Int32]]
      var decoded: [String]
      var bos: Int32
      var eos: Int32
      var vocabulary: Int
    }
    var texts: [String]
    var models: [String: Model]
  }

  private static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../Golden/tokenizer").standardized.path
  private static let golden = try! JSONDecoder().decode(
    Golden.self, from: Data(contentsOf: URL(filePath: folder + "/pieces.json")))
  private static let names = ["llama-2", "gemma", "t5"]

  private static func bytes(_ name: String) throws -> [UInt8] {
    Array(try #require(FileManager.default.contents(atPath: "\(folder)/\(name).model")))
  }

  private static func model(_ name: String) throws -> SentencePieces {
    guard case .pieces(let model) = try Tokenizer.named("\(folder)/\(name).model") else { throw TokenizerError.noText }
    return model
  }

  @Test(arguments: names) func `texts get the tokens of the Python package, and the same text again`(name: String)
    throws
  {
    let golden = try #require(Self.golden.models[name])
    let tokenizer = Tokenizer.pieces(try Self.model(name))
    #expect(tokenizer.vocabulary == golden.vocabulary && Self.golden.texts.count > 50)
    #expect(tokenizer.separator == (golden.bos >= 0 ? golden.bos : golden.eos))
    for (place, text) in Self.golden.texts.enumerated() {
      #expect(tokenizer.encode(text) == golden.tokens[place], "\(text.debugDescription)")
      let decoded = String(decoding: try Self.model(name).wholeText(golden.tokens[place]), as: UTF8.self)
      #expect(decoded == golden.decoded[place], "\(text.debugDescription)")
    }
  }

  @Test func `every token has its place in the text`() throws {
    let tokenizer = Tokenizer.pieces(try Self.model("llama-2"))
    for text in Self.golden.texts {
      let bytes = Array(text.utf8)
      var encoder = tokenizer.makeEncoder(), tokens: [Int32] = [], ends: [Int] = []
      encoder.encode(bytes, by: tokenizer, into: &tokens, ends: &ends)
      #expect(tokens == tokenizer.encode(text) && ends.count == tokens.count && encoder.problem == nil)
      #expect(ends.last ?? 0 == bytes.count)
      // The model puts a space before the text, and changes nothing else. A character of several bytes ends with its
      // last one.
      var end = -1
      for (token, place) in zip(tokens, ends) {
        end += tokenizer.byteCount(of: token)
        #expect(
          place == end
            || place < end + 4 && tokenizer.byteCount(of: token) == 1 && tokenizer.spoken(token).hasPrefix("⟨"))
      }
    }
  }

  @Test(arguments: names) func `a cut at a space changes no token, if the second part is encoded as one`(name: String)
    throws
  {
    let tokenizer = Tokenizer.pieces(try Self.model(name)), cutter = TextCutter(tokenizer)
    var chance = Chance("cuts of pieces"), cuts = 0
    let words = [
      "the", "License", "a", "7", "1984", "Éa", "co-operate", "(x)", "  ", "of", "work.", "\n", "東京", "e\u{301}",
    ]
    for _ in 0..<200 {
      let text = Array((0..<20).map { _ in words.randomElement(using: &chance)! }.joined(separator: " ").utf8)
      guard let cut = text.withUnsafeBufferPointer({ cutter.lastCut($0) }) else { continue }
      cuts += 1
      var encoder = tokenizer.makeEncoder(), tokens: [Int32] = []
      encoder.encode(Array(text[..<cut]), into: &tokens)
      encoder.encode(Array(text[cut...]), continues: true, into: &tokens)
      #expect(tokens == tokenizer.encode(String(decoding: text, as: UTF8.self)), "\(name): cut at \(cut)")
    }
    #expect(cuts > 150)
  }

  @Test(arguments: names) func `a dataset keeps the model, and its text is decoded`(name: String) throws {
    let folder = NSTemporaryDirectory() + "ress-pieces-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let text = String(repeating: "The licence of the work 42 is free. ", count: 60)
    try text.write(toFile: folder + "/a.txt", atomically: true, encoding: .utf8)
    var preparation = DatasetPreparation(sources: [folder + "/a.txt"], output: folder + "/d.h5")
    preparation.tokenizer = .pieces(try Self.model(name))
    preparation.validationFraction = 0
    _ = try preparation.run()
    let dataset = try Dataset(path: folder + "/d.h5")
    #expect(dataset.tokenizer.digest == preparation.tokenizer.digest && dataset.tokenizer.fileName == "tokenizer.model")
    var tokens: [Int32] = []
    try dataset.split(.train).read(from: 0, count: dataset.split(.train).tokenCount, into: &tokens)
    #expect(tokens.first == preparation.tokenizer.separator)
    let decoded = String(decoding: try Self.model(name).wholeText(tokens.dropFirst()), as: UTF8.self)
    #expect(decoded.trimmingCharacters(in: .whitespaces) == text.trimmingCharacters(in: .whitespaces))
  }

  @Test func `tokens are shown as their text, and represent its bytes`() throws {
    let llama = Tokenizer.pieces(try Self.model("llama-2"))
    #expect(llama.specials.contains(0) && llama.spoken(1) == "<s>" && llama.byteCount(of: 1) == 0)
    let tokens = llama.encode("the")
    #expect(String(decoding: llama.decode(tokens), as: UTF8.self) == " the")
    #expect(tokens.reduce(0) { $0 + llama.byteCount(of: $1) } == 4)
  }

  @Test func `a damaged model is refused with the reason before the library reads it`() throws {
    func problem(_ bytes: [UInt8]) -> String {
      do { _ = try SentencePieces(bytes, path: "m") } catch { return "\(error)" }
      return "read"
    }
    let model = try Self.bytes("t5")
    #expect(problem(model) == "read")
    #expect(problem(Array(model.dropLast(1))) == "m: it is not a model of SentencePiece, or it is damaged")
    #expect(problem([]) == "m: it has 0 pieces")
    #expect(problem([0x0A, 0x03, 0x0A, 0x01, 0x61]) == "m: it must have exactly one piece for unknown characters")
    #expect(problem([0x0A, 0x04, 0x0A, 0x02, 0xC3, 0x28]) == "m: piece 0 is not text")
    #expect(
      problem([0x0A, 0x08, 0x0A, 0x01, 0x61, 0x15, 0, 0, 0xC0, 0x7F]) == "m: piece 0 has a score that is not finite")
    // The table of replacements begins with the size of its double array; a unit that leads outside is refused.
    let unknown: [UInt8] = [0x0A, 0x05, 0x0A, 0x01, 0x3F, 0x18, 0x02]
    func sized(_ tag: UInt8, _ bytes: [UInt8]) -> [UInt8] {
      [tag, UInt8(bytes.count & 0x7F) | 0x80, UInt8(bytes.count >> 7)] + bytes
    }
    func table(_ first: UInt32) -> [UInt8] {
      var units = [UInt32](repeating: 0, count: 257)
      (units[0], units[1]) = (1024, first)
      var bytes: [UInt8] = []
      for unit in units {
        for shift: UInt32 in [0, 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: unit >> shift)) }
      }
      return unknown + sized(0x1A, sized(0x12, bytes + [0x61, 0]))
    }
    // This one is passed on to the library, which misses something else.
    #expect(problem(table(0)).contains("SentencePiece's library refuses it"))
    for unit: UInt32 in [1 << 20, 1 << 9 | 1 << 12, 0x7FFF_FC00] {
      #expect(problem(table(unit)) == "m: its table of character replacements is damaged")
    }
    #expect(throws: TokenizerError.self) { try TokenizerFile.readPairs(Self.folder + "/t5.model") }
  }
}
