// The tokenizers of datasets: bytes, or byte pairs.

import Foundation
import RunFolder

/// How text becomes tokens, and tokens text.
package enum Tokenizer: Sendable {
  case byte
  case bytePairs(BytePairs)

  /// `byte`, or a tokenizer read from a file or folder.
  package static func named(_ name: String) throws(TokenizerError) -> Tokenizer {
    name == ByteTokenizer.name ? .byte : .bytePairs(try TokenizerFile.read(name))
  }

  /// A tokenizer as datasets store it: `byte`, or the text of a `tokenizer.json`.
  package init(stored text: String, path: String) throws(TokenizerError) {
    self = text == ByteTokenizer.name ? .byte : .bytePairs(try TokenizerFile.parse(Data(text.utf8), path: path))
  }

  package var stored: String {
    switch self {
    case .byte: ByteTokenizer.name
    case .bytePairs(let table): TokenizerFile.json(table)
    }
  }

  /// SHA-256 of its stored text, in hexadecimal. Tokenizers with equal digests give equal tokens.
  package var digest: String { SHA256.of(Array(stored.utf8)) }

  /// A short description.
  package var summary: String {
    switch self {
    case .byte: "byte"
    case .bytePairs(let table): "byte pairs (\(table.merges.count) merges, pattern of \(table.pretokenizer.rawValue))"
    }
  }

  package var vocabulary: Int {
    switch self {
    case .byte: ByteTokenizer.vocabulary
    case .bytePairs(let table): table.vocabulary
    }
  }

  /// The token that precedes each document; nil where the vocabulary has none for it.
  package var separator: Int32? {
    switch self {
    case .byte: ByteTokenizer.separator
    case .bytePairs(let table):
      Tokenizer.separatorNames.lazy.compactMap { table.special($0) }.first ?? table.specials.first?.token
    }
  }

  private static let separatorNames = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<|begin_of_text|>", "<s>"]

  /// Tokens that represent no text.
  package var specials: Set<Int32> {
    switch self {
    case .byte: [ByteTokenizer.separator]
    case .bytePairs(let table): table.specialNumbers
    }
  }

  /// The tokens of a short text. For many texts, `makeEncoder` is faster, since its cache is kept.
  package func encode(_ text: String) -> [Int32] {
    switch self {
    case .byte: return ByteTokenizer.encode(text)
    case .bytePairs(let table):
      var encoder = BytePairEncoder(table)
      return encoder.encode(text)
    }
  }

  /// The bytes of tokens; special tokens are left out.
  package func decode(_ tokens: some Sequence<Int32>) -> [UInt8] {
    switch self {
    case .byte: tokens.compactMap { UInt8(exactly: $0) }
    case .bytePairs(let table): table.decode(tokens.filter { !table.specialNumbers.contains($0) })
    }
  }

  /// Number of bytes of text that a token represents; 0 for special tokens.
  package func byteCount(of token: Int32) -> Int {
    switch self {
    case .byte: UInt8(exactly: token) == nil ? 0 : 1
    case .bytePairs(let table):
      !table.tokens.indices.contains(Int(token)) || table.specialNumbers.contains(token)
        ? 0 : table.tokens[Int(token)].count
    }
  }

  /// A token as it is shown to people: its text, or the name of a special token. Where the bytes are not valid text
  /// by themselves: the bytes, or the number, in brackets.
  package func spoken(_ token: Int32) -> String {
    let bytes: [UInt8]
    switch self {
    case .byte:
      if token == ByteTokenizer.separator { return "⟨document⟩" }
      bytes = UInt8(exactly: token).map { [$0] } ?? []
    case .bytePairs(let table):
      if let special = table.specials.first(where: { $0.token == token }) { return special.text }
      bytes = table.tokens.indices.contains(Int(token)) ? table.tokens[Int(token)] : []
    }
    if bytes.isEmpty { return "⟨\(token)⟩" }
    return String(validating: bytes, as: UTF8.self)
      ?? "⟨" + bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ") + "⟩"
  }

  /// Makes an encoder for one thread.
  package func makeEncoder() -> TextEncoder {
    switch self {
    case .byte: TextEncoder(nil)
    case .bytePairs(let table): TextEncoder(table)
    }
  }
}

/// Encodes pieces of text, on one thread.
package struct TextEncoder: ~Copyable {
  /// Nil for bytes.
  private var pairs: BytePairEncoder?

  fileprivate init(_ table: BytePairs?) { pairs = table.map { BytePairEncoder($0) } }

  /// Appends the tokens of a piece of text.
  package mutating func encode(_ text: [UInt8], into tokens: inout [Int32]) {
    if pairs == nil { return tokens.append(contentsOf: text.lazy.map { Int32($0) }) }
    text.withUnsafeBufferPointer { bytes in pairs!.encode(bytes, into: &tokens) }
  }
}
