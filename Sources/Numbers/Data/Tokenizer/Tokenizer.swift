// The tokenizers of datasets: bytes, byte pairs, or SentencePiece's pieces.

import Foundation
import RunFolder

/// How text becomes tokens, and tokens text.
package enum Tokenizer: Sendable {
  case byte
  case bytePairs(BytePairs)
  case pieces(SentencePieces)

  /// `byte`, or a tokenizer read from a file or folder.
  package static func named(_ name: String) throws(TokenizerError) -> Tokenizer {
    name == ByteTokenizer.name ? .byte : try TokenizerFile.read(name)
  }

  /// A tokenizer as datasets store it: `byte`, or the bytes of a `tokenizer.json` or of a model of SentencePiece.
  package init(stored bytes: [UInt8], path: String) throws(TokenizerError) {
    self = bytes == Array(ByteTokenizer.name.utf8) ? .byte : try TokenizerFile.parse(bytes, path: path)
  }

  package var stored: [UInt8] {
    switch self {
    case .byte: Array(ByteTokenizer.name.utf8)
    case .bytePairs(let table): Array(TokenizerFile.json(table).utf8)
    case .pieces(let model): model.file
    }
  }

  /// The name of its file in a folder; nil for bytes, which need none.
  package var fileName: String? {
    switch self {
    case .byte: nil
    case .bytePairs: TokenizerFile.pairsName
    case .pieces: TokenizerFile.piecesName
    }
  }

  /// SHA-256 of what is stored, in hexadecimal. Tokenizers with equal digests give equal tokens.
  package var digest: String { SHA256.of(stored) }

  var isByte: Bool { if case .byte = self { true } else { false } }

  /// A short description.
  package var summary: String {
    switch self {
    case .byte: "byte"
    case .bytePairs(let table): "byte pairs (\(table.merges.count) merges, pattern of \(table.pretokenizer.name))"
    case .pieces(let model): "SentencePiece (\(model.vocabulary) pieces)"
    }
  }

  package var vocabulary: Int {
    switch self {
    case .byte: ByteTokenizer.vocabulary
    case .bytePairs(let table): table.vocabulary
    case .pieces(let model): model.vocabulary
    }
  }

  /// The token that precedes each document; nil where the vocabulary has none for it.
  package var separator: Int32? {
    switch self {
    case .byte: ByteTokenizer.separator
    case .bytePairs(let table):
      Tokenizer.separatorNames.lazy.compactMap { table.special($0) }.first ?? table.specials.first?.token
    case .pieces(let model): model.separator
    }
  }

  private static let separatorNames = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<|begin_of_text|>", "<s>"]

  /// Tokens that represent no text.
  package var specials: Set<Int32> {
    switch self {
    case .byte: [ByteTokenizer.separator]
    case .bytePairs(let table): table.specialNumbers
    case .pieces(let model): Set(model.specials.map(\.token))
    }
  }

  /// The tokens of a short text. For many texts, `makeEncoder` is faster, since its cache is kept.
  package func encode(_ text: String) -> [Int32] {
    var encoder = makeEncoder(), tokens: [Int32] = []
    encoder.encode(Array(text.utf8), into: &tokens)
    return tokens
  }

  /// The bytes of tokens, as they continue a text; special tokens are left out. A tokenizer that puts a space before
  /// a text has it here as well.
  package func decode(_ tokens: some Sequence<Int32>) -> [UInt8] {
    switch self {
    case .byte: tokens.compactMap { UInt8(exactly: $0) }
    case .pieces(let model): tokens.flatMap { model.bytes(of: $0) }
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
    case .pieces(let model): specials.contains(token) ? 0 : model.bytes(of: token).count
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
    case .pieces(let model):
      if let special = model.specials.first(where: { $0.token == token }) { return special.text }
      bytes = model.bytes(of: token)
    }
    if bytes.isEmpty { return "⟨\(token)⟩" }
    return String(validating: bytes, as: UTF8.self)
      ?? "⟨" + bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ") + "⟩"
  }

  /// Makes an encoder for one thread.
  package func makeEncoder() -> TextEncoder {
    switch self {
    case .byte: TextEncoder(pairs: nil, model: nil)
    case .bytePairs(let table): TextEncoder(pairs: BytePairEncoder(table), model: nil)
    case .pieces(let model): TextEncoder(pairs: nil, model: model)
    }
  }
}

/// Encodes pieces of text, on one thread.
package struct TextEncoder: ~Copyable {
  // Both are nil for bytes.
  private var pairs: BytePairEncoder?
  private let model: SentencePieces?
  /// Why some of the texts so far have other tokens than their tokenizer gives; nil where all are right.
  package private(set) var problem: TokenizerError?

  fileprivate init(pairs: consuming BytePairEncoder?, model: SentencePieces?) {
    self.pairs = pairs
    self.model = model
  }

  /// Appends the tokens of a piece of text.
  /// - Parameter continues: whether it follows another piece of the same text.
  package mutating func encode(_ text: [UInt8], continues: Bool = false, into tokens: inout [Int32]) {
    if let model {
      let isDone = text.withUnsafeBufferPointer { model.encode($0, continues: continues, into: &tokens) }
      if !isDone { problem = .notEncoded }
    } else if pairs == nil {
      tokens.append(contentsOf: text.lazy.map { Int32($0) })
    } else {
      let found = text.withUnsafeBufferPointer { bytes in pairs!.encode(bytes, into: &tokens) }
      if found != nil { problem = found }
    }
  }

  /// Appends the tokens of a whole text, and for each the offset in the text at which it ends.
  package mutating func encode(_ text: [UInt8], by tokenizer: Tokenizer, into tokens: inout [Int32], ends: inout [Int])
  {
    if let model {
      let isDone = text.withUnsafeBufferPointer { model.encode($0, into: &tokens, ends: &ends) }
      if !isDone { problem = .notEncoded }
      return
    }
    let first = tokens.count
    encode(text, into: &tokens)
    var end = 0
    for token in tokens[first...] {
      end += tokenizer.byteCount(of: token)
      ends.append(end)
    }
  }
}
