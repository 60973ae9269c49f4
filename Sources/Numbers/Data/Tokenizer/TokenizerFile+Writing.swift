// Writes files of tokenizers: a `tokenizer.json`, or GPT-2's `vocab.json` and `merges.txt`.

import Configuration
import Foundation

extension TokenizerFile {
  /// The tokenizer as a file for other programs. Bytes become a `tokenizer.json` of 256 tokens without merges, which
  /// gives the same tokens.
  package static func exported(_ tokenizer: Tokenizer) -> (name: String, bytes: [UInt8]) {
    tokenizer.fileName.map { ($0, tokenizer.stored) } ?? (pairsName, Array(json(bytesAlone).utf8))
  }

  private static var bytesAlone: BytePairs {
    let separator = AddedToken(text: "<|endoftext|>", token: ByteTokenizer.separator)
    let tokens = (0..<256).map { [UInt8($0)] } + [Array(separator.text.utf8)]
    do { return try BytePairs(pretokenizer: .gpt2, tokens: tokens, merges: [], added: [separator]) } catch {
      preconditionFailure("a vocabulary of all bytes: \(error)")
    }
  }

  /// The text of a `tokenizer.json`. Equal tokenizers give equal texts.
  package static func json(_ table: BytePairs) -> String {
    func quoted(_ text: String) -> String { JSON.text(text).compact }
    let names = names(table)
    let byteLevel = { (usesPattern: Bool) in
      #"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":\#(usesPattern)}"#
    }
    let pretokenizer =
      switch table.pretokenizer {
      case .gpt2: byteLevel(true)
      case .gpt4:
        #"{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":\#(quoted(table.pretokenizer.pattern))},"#
          + #""behavior":"Isolated","invert":false},\#(byteLevel(false))]}"#
      case .patterns(let division):
        #"{"type":"Sequence","pretokenizers":["#
          + division.steps.map { step in
            #"{"type":"Split","pattern":{"\#(step.isLiteral ? "String" : "Regex")":\#(quoted(step.pattern))},"#
              + #""behavior":"\#(step.behavior.rawValue)","invert":\#(step.isInverted)},"#
          }.joined() + byteLevel(false) + "]}"
      }
    let added = table.added.map { token in
      #"    {"id":\#(token.token),"content":\#(quoted(token.text)),"single_word":\#(token.isSingleWord),"#
        + #""lstrip":\#(token.takesSpaceBefore),"rstrip":\#(token.takesSpaceAfter),"normalized":\#(token.isNormalized),"#
        + #""special":\#(token.isSpecial)}"#
    }
    let vocabulary = names.enumerated().filter { !$0.element.isEmpty }.map {
      "      \(quoted($0.element)):\($0.offset)"
    }
    let merges = table.merges.map { "      [\(quoted(names[Int($0.left)])),\(quoted(names[Int($0.right)]))]" }
    return """
      {
        "version":"1.0",
        "truncation":null,
        "padding":null,
        "added_tokens":[
      \(added.joined(separator: ",\n"))
        ],
        "normalizer":null,
        "pre_tokenizer":\(pretokenizer),
        "post_processor":null,
        "decoder":\(byteLevel(true)),
        "model":{
          "type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,
          "fuse_unk":false,"byte_fallback":false,"ignore_merges":\(table.takesWholePieces),
          "vocab":{
      \(vocabulary.joined(separator: ",\n"))
          },
          "merges":[
      \(merges.joined(separator: ",\n"))
          ]
        }
      }

      """
  }

  /// The texts of GPT-2's `vocab.json` and `merges.txt`. These files cannot name a pattern; GPT-2's is implied.
  package static func gpt2(_ table: BytePairs) throws(TokenizerError) -> (vocabulary: String, merges: String) {
    guard table.pretokenizer == .gpt2, !table.takesWholePieces else {
      throw .file(path: "vocab.json", problem: "these files imply GPT-2's pattern; write tokenizer.json instead")
    }
    if let token = table.added.first(where: { !$0.isSpecial }) {
      throw .file(
        path: "vocab.json",
        problem: "these files cannot express how '\(token.text)' is matched; write tokenizer.json instead")
    }
    let names = names(table)
    var vocabulary: [String: Int] = [:]
    for (token, name) in names.enumerated() where !name.isEmpty {
      if let other = vocabulary.updateValue(token, forKey: name) {
        throw .file(path: "vocab.json", problem: "tokens \(other) and \(token) have one name, '\(name)'")
      }
    }
    guard let text = try? JSON.encode(vocabulary) else {
      throw .file(path: "vocab.json", problem: "cannot be encoded")
    }
    let lines = table.merges.map { "\(names[Int($0.left)]) \(names[Int($0.right)])\n" }
    return (String(decoding: text, as: UTF8.self), "#version: 0.2\n" + lines.joined())
  }

  private static func names(_ table: BytePairs) -> [String] {
    let added = Dictionary(table.added.map { ($0.token, $0.text) }) { first, _ in first }
    return table.tokens.enumerated().map { added[Int32($0.offset)] ?? ByteAlphabet.text(of: $0.element) }
  }
}
