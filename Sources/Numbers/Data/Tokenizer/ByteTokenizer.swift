// The simplest tokenizer: every byte is a token. It can represent any text, in any encoding.

/// Tokens 0–255 are bytes; token 256 precedes each document.
package enum ByteTokenizer {
  package static let name = "byte"
  package static let separator: Int32 = 256
  package static let vocabulary = 257

  package static func encode(_ text: String) -> [Int32] { text.utf8.map { Int32($0) } }

  /// Bytes that are not valid UTF-8 become the replacement character; separators are left out.
  package static func decode(_ tokens: [Int32]) -> String {
    String(decoding: tokens.compactMap { UInt8(exactly: $0) }, as: UTF8.self)
  }
}
