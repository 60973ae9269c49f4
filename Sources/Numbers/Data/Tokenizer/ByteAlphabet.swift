// GPT-2's names of bytes. Vocabulary files are text, so each byte is written as a visible character: printable
// bytes of Latin-1 as themselves, the others as the characters from U+0100 on, in order.

enum ByteAlphabet {
  /// The character of each byte.
  static let characters: [Unicode.Scalar] = {
    var characters = (0..<256).map { Unicode.Scalar(UInt8($0)) }
    var next: UInt32 = 256
    for byte in 0..<256 where !isVisible(byte) {
      characters[byte] = Unicode.Scalar(next)!
      next += 1
    }
    return characters
  }()

  private static let bytes: [Unicode.Scalar: UInt8] = Dictionary(
    uniqueKeysWithValues: characters.enumerated().map { ($0.element, UInt8($0.offset)) })

  /// All bytes, in the order of their characters, which is the order at the beginning of vocabularies.
  static let inOrder = (0..<256).map { UInt8($0) }.sorted { characters[Int($0)].value < characters[Int($1)].value }

  private static func isVisible(_ byte: Int) -> Bool {
    (33...126).contains(byte) || (161...172).contains(byte) || (174...255).contains(byte)
  }

  static func text(of bytes: some Sequence<UInt8>) -> String {
    var text = String.UnicodeScalarView()
    for byte in bytes { text.append(characters[Int(byte)]) }
    return String(text)
  }

  /// The bytes that a name stands for; nil where a character is not the name of a byte.
  static func bytes(of text: String) -> [UInt8]? {
    var result: [UInt8] = []
    for scalar in text.unicodeScalars {
      guard let byte = bytes[scalar] else { return nil }
      result.append(byte)
    }
    return result
  }
}
