// Reads files of tokenizers (TokenizerFile+Writing.swift writes them): Hugging Face's `tokenizer.json` of byte pairs,
// GPT-2's `vocab.json` with `merges.txt`, and SentencePiece's `tokenizer.model`. A file with an option that would make
// this program's tokens differ from the original's is refused.

import Configuration
import Foundation

package enum TokenizerFile {
  package static let pairsName = "tokenizer.json", piecesName = "tokenizer.model"
  /// Names that T5, Gemma and other models have for a model of SentencePiece.
  private static let piecesNames = [piecesName, "spiece.model", "sentencepiece.bpe.model"]

  /// Reads a `tokenizer.json`, a model of SentencePiece, or a folder with one of them or with GPT-2's two files. Of
  /// several, SentencePiece's is taken: the `tokenizer.json` beside it was converted from it.
  package static func read(_ path: String) throws(TokenizerError) -> Tokenizer {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw .file(path: path, problem: "no such file or folder")
    }
    if !isFolder.boolValue { return try parse(Array(try contents(path)), path: path) }
    for name in piecesNames + [pairsName] where fileExists(path + "/" + name) { return try read(path + "/" + name) }
    guard fileExists(path + "/vocab.json"), fileExists(path + "/merges.txt") else {
      throw .file(
        path: path, problem: "it holds no tokenizer.json, no tokenizer.model, and not both vocab.json and merges.txt")
    }
    return .bytePairs(try readGPT2(path))
  }

  /// Reads a tokenizer of byte pairs.
  package static func readPairs(_ path: String) throws(TokenizerError) -> BytePairs {
    guard case .bytePairs(let table) = try read(path) else {
      throw .file(path: path, problem: "it is a model of SentencePiece, and not a tokenizer of byte pairs")
    }
    return table
  }

  /// Parses the bytes of a file; `path` is its name in errors. A JSON object begins with a bracket, and a model of
  /// SentencePiece with the number of its first field.
  package static func parse(_ bytes: [UInt8], path: String) throws(TokenizerError) -> Tokenizer {
    let isBinary = bytes.prefix(64).contains { $0 < 0x20 && ![0x09, 0x0A, 0x0D].contains($0) }
    if bytes.first != 0x0A || !isBinary { return .bytePairs(try parsePairs(Data(bytes), path: path)) }
    return .pieces(try SentencePieces(bytes, path: path))
  }

  /// Parses the text of a `tokenizer.json`.
  package static func parsePairs(_ text: Data, path: String) throws(TokenizerError) -> BytePairs {
    func refuse(_ problem: String) -> TokenizerError { .file(path: path, problem: problem) }
    let file: File
    do { file = try JSONDecoder().decode(File.self, from: text) } catch let error as DecodingError {
      throw refuse("it is not a tokenizer.json of byte pairs: \(error.sentence)")
    } catch { throw refuse("it is not a tokenizer.json of byte pairs: \(error)") }
    guard file.model.type ?? "BPE" == "BPE" else {
      throw refuse(
        "a model of type \(file.model.type!); ress reads BPE, and of SentencePiece the original, a tokenizer.model or spiece.model"
      )
    }
    if let normalizer = file.normalizer?.firstOfAll {
      throw refuse("a normalizer (\(normalizer)), which ress does not support")
    }
    if file.model.byte_fallback == true {
      throw refuse(
        "a fall-back to bytes, as tokenizers have that were converted from SentencePiece; give the original, a tokenizer.model"
      )
    }
    let pretokenizer = try pretokenizer(file.pre_tokenizer, refuse)
    let added = added(file.added_tokens ?? [])
    return try assemble(
      pretokenizer, vocabulary: file.model.vocab, merges: file.model.merges.map(\.pair), added: added,
      wholePieces: file.model.ignore_merges == true, path: path)
  }

  private static func added(_ given: [File.Added]) -> [AddedToken] {
    // The kinds differ only in the order of matching, which does not matter where all tokens are of one kind.
    let areAllNormalized = given.allSatisfy { $0.normalized == true }
    return given.map { one in
      var token = AddedToken(text: one.content, token: one.id)
      token.isSpecial = one.special ?? true
      token.takesSpaceBefore = one.lstrip ?? false
      token.takesSpaceAfter = one.rstrip ?? false
      token.isSingleWord = one.single_word ?? false
      token.isNormalized = one.normalized == true && !areAllNormalized
      return token
    }
  }

  private static func readGPT2(_ folder: String) throws(TokenizerError) -> BytePairs {
    let path = folder + "/vocab.json", merges = folder + "/merges.txt"
    let vocabulary: [String: Int32]
    do { vocabulary = try JSONDecoder().decode([String: Int32].self, from: try contents(path)) } catch {
      let reason = (error as? DecodingError).map(\.sentence) ?? "\(error)"
      throw .file(path: path, problem: "it is not a JSON object of tokens and numbers: \(reason)")
    }
    if fileExists(folder + "/added_tokens.json") {
      throw .file(
        path: folder + "/added_tokens.json",
        problem:
          "tokens that were added are read from a tokenizer.json, which describes how each is matched; transformers writes one: "
          + "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(NEW)")
    }
    let pairs = try pairs(of: Array(try contents(merges)), path: merges)
    let table = try assemble(.gpt2, vocabulary: vocabulary, merges: pairs, added: [], wholePieces: false, path: path)
    try checkMerges(table, path: merges)
    return table
  }

  /// The pairs of a merges.txt: two tokens per line, with any line ends.
  private static func pairs(of bytes: [UInt8], path: String) throws(TokenizerError) -> [(String, String)] {
    var pairs: [(String, String)] = []
    let bytes = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? bytes.dropFirst(3) : bytes[...]
    for (number, var line) in bytes.split(separator: 10, omittingEmptySubsequences: false).enumerated() {
      while line.last == 13 { line = line.dropLast() }
      if line.isEmpty || number == 0 && line.starts(with: Array("#version".utf8)) { continue }
      let words = line.split(separator: 32)
      guard words.count == 2, let left = String(validating: words[0], as: UTF8.self),
        let right = String(validating: words[1], as: UTF8.self)
      else {
        throw .file(path: "\(path):\(number + 1)", problem: "a line has two tokens, and this one has \(words.count)")
      }
      pairs.append((left, right))
    }
    return pairs
  }

  /// A token that no merge produces is taken to be special. A vocabulary has few of those; if there are many,
  /// merges are missing.
  private static func checkMerges(_ table: BytePairs, path: String) throws(TokenizerError) {
    func looksSpecial(_ text: String) -> Bool {
      text.hasPrefix("<") && text.hasSuffix(">") || text.hasPrefix("[") && text.hasSuffix("]")
    }
    let strange = table.added.filter { !looksSpecial($0.text) }
    guard table.merges.isEmpty ? !strange.isEmpty : strange.count > max(16, table.vocabulary / 10) else { return }
    throw .file(
      path: path,
      problem:
        "its \(table.merges.count) merges do not make \(strange.count) of the \(table.vocabulary) tokens of vocab.json, such "
        + "as '\(strange[0].text)'; the file was cut, or belongs to another vocabulary")
  }

  private static func assemble(
    _ pretokenizer: Pretokenizer, vocabulary: [String: Int32], merges: [(String, String)],
    added: [AddedToken], wholePieces: Bool, path: String
  ) throws(TokenizerError) -> BytePairs {
    let highest = max(vocabulary.values.max() ?? 0, added.map(\.token).max() ?? 0)
    guard highest < 1 << 24, vocabulary.values.allSatisfy({ $0 >= 0 }), added.allSatisfy({ $0.token >= 0 }) else {
      throw .file(path: path, problem: "its tokens have numbers beyond 16 million, or below 0")
    }
    var tokens = [[UInt8]](repeating: [], count: Int(highest) + 1)
    var all = added
    let addedTexts = Set(added.map(\.text))
    var made: Set<String> = []
    for (left, right) in merges { made.insert(left + right) }
    for (text, token) in vocabulary where !addedTexts.contains(text) {
      guard let bytes = ByteAlphabet.bytes(of: text), !bytes.isEmpty else {
        throw .file(
          path: path, problem: "token \(token) ('\(text)') is not written in bytes; the vocabulary is not byte-level")
      }
      tokens[Int(token)] = bytes
      // A token that no merge produces can only be matched as a whole, as GPT-2's <|endoftext|>.
      if bytes.count > 1, !made.contains(text), !wholePieces {
        all.append(AddedToken(text: text, token: token))
      }
    }
    for token in all { tokens[Int(token.token)] = Array(token.text.utf8) }
    var learned: [BytePairs.Merge] = []
    learned.reserveCapacity(merges.count)
    for (number, (left, right)) in merges.enumerated() {
      guard let a = vocabulary[left], let b = vocabulary[right], let both = vocabulary[left + right] else {
        throw .file(path: path, problem: "merge \(number + 1) ('\(left)' and '\(right)') is not in the vocabulary")
      }
      learned.append(BytePairs.Merge(left: a, right: b, joined: both))
    }
    all.sort { $0.token < $1.token }
    return try BytePairs(
      pretokenizer: pretokenizer, tokens: tokens, merges: learned, added: all, takesWholePieces: wholePieces)
  }

  private static func pretokenizer(
    _ given: File.PreTokenizer?, _ refuse: (String) -> TokenizerError
  ) throws(TokenizerError) -> Pretokenizer {
    let parts = given?.pretokenizers ?? [given].compactMap { $0 }
    var steps: [DivisionStep] = []
    for part in parts {
      switch part.type {
      case "ByteLevel":
        if part.add_prefix_space == true {
          throw refuse("a space put before every text (add_prefix_space), which ress does not do")
        }
        if part.use_regex ?? true { steps.append(DivisionStep(Pretokenizer.gpt2.pattern)) }
      case "Split":
        guard let pattern = part.pattern?.Regex ?? part.pattern?.String else {
          throw refuse("a Split without a pattern")
        }
        guard let behavior = DivisionStep.Behavior(rawValue: part.behavior ?? "Isolated") else {
          throw refuse("a Split of behavior \(part.behavior!), which ress does not know")
        }
        steps.append(
          DivisionStep(
            pattern, isLiteral: part.pattern?.Regex == nil, behavior: behavior, isInverted: part.invert ?? false))
      case "Digits":
        steps.append(DivisionStep(#"\p{N}"#, behavior: part.individual_digits == true ? .isolated : .contiguous))
      default: throw refuse("a pre-tokenizer of type \(part.type); ress reads ByteLevel, Digits and Split")
      }
    }
    guard !steps.isEmpty else { throw refuse("no pre-tokenizer; ress reads ByteLevel, Digits and Split") }
    // A pattern that matches everything is the same whatever becomes of the text between its matches.
    if steps.count == 1, !steps[0].isLiteral, steps[0].behavior == .isolated || steps[0].isInverted,
      let known = Pretokenizer.written.first(where: { $0.pattern == steps[0].pattern })
    {
      return known
    }
    do { return .patterns(try TextDivision(steps)) } catch { throw refuse("\(error)") }
  }

  private static func contents(_ path: String) throws(TokenizerError) -> Data {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw .file(path: path, problem: "cannot be read")
    }
    return data
  }

  // MARK: The structure of the file

  private struct File: Decodable {
    struct Added: Decodable {
      var id: Int32
      var content: String
      var special: Bool?
      var lstrip: Bool?
      var rstrip: Bool?
      var single_word: Bool?
      var normalized: Bool?
    }
    struct Normalizer: Decodable {
      var type: String
      var normalizers: [Normalizer]?

      /// The type of the first normalizer that does something; an empty sequence does nothing.
      var firstOfAll: String? {
        type == "Sequence" ? (normalizers ?? []).lazy.compactMap(\.firstOfAll).first : type
      }
    }
    struct Pattern: Decodable {
      var Regex: String?
      var String: String?
    }
    struct PreTokenizer: Decodable {
      var type: String
      var add_prefix_space: Bool?
      var use_regex: Bool?
      var pattern: Pattern?
      var behavior: String?
      var invert: Bool?
      var individual_digits: Bool?
      var pretokenizers: [PreTokenizer]?
    }
    /// `"a b"` or, since version 0.20, `["a", "b"]`.
    struct Merge: Decodable {
      var pair: (String, String)

      init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let words =
          try (try? container.decode([String].self))
          ?? container.decode(String.self).utf8.split(separator: 32).map { String($0) ?? "" }
        guard words.count == 2 else {
          throw DecodingError.dataCorruptedError(in: container, debugDescription: "a merge has two tokens")
        }
        pair = (words[0], words[1])
      }
    }
    struct Model: Decodable {
      var type: String?
      var vocab: [String: Int32]
      var merges: [Merge]
      var byte_fallback: Bool?
      var ignore_merges: Bool?
    }

    var added_tokens: [Added]?
    var normalizer: Normalizer?
    var pre_tokenizer: PreTokenizer?
    var model: Model
  }
}
