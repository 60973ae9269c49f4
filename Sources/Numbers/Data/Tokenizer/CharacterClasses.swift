// Classifies characters as letters, numbers, white space and others, by Unicode's \p{L}, \p{N} and \s.
// Pretokenizers need nothing else.

enum CharacterClass: UInt8 { case other, letter, number, space }

/// Reads UTF-8 as classes. A byte that is not part of a valid character counts as a character of class `other`, so
/// that no byte is lost.
enum CharacterClasses {
  /// The class of the character at `place`, and its length in bytes.
  @inline(__always)
  static func read(_ text: UnsafeBufferPointer<UInt8>, at place: Int) -> (class: CharacterClass, length: Int) {
    let byte = text[place]
    return byte < 0x80 ? (ascii[Int(byte)], 1) : readMany(text, at: place)
  }

  /// The class of the character that ends before `place`; `other` at the beginning of the text, where a match of no
  /// characters can end.
  static func classBefore(_ text: UnsafeBufferPointer<UInt8>, _ place: Int) -> CharacterClass {
    guard place > 0 else { return .other }
    var first = place - 1
    while first > max(0, place - 4), text[first] & 0xC0 == 0x80 { first -= 1 }
    return read(text, at: first).class
  }

  /// Characters of several bytes, by RFC 3629; overlong forms and surrogates are invalid.
  private static func readMany(_ text: UnsafeBufferPointer<UInt8>, at place: Int) -> (CharacterClass, Int) {
    guard let (scalar, length) = scalar(text, at: place) else { return (.other, 1) }
    return (CharacterClass(rawValue: table[min(Int(scalar), tableSize - 1)])!, length)
  }

  /// The character at `place`; nil where the bytes there are not valid.
  static func scalar(_ text: UnsafeBufferPointer<UInt8>, at place: Int) -> (value: UInt32, length: Int)? {
    let first = UInt32(text[place])
    if first < 0x80 { return (first, 1) }
    let length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2
    guard first >= 0xC2, first <= 0xF4, place + length <= text.count else { return nil }
    var value = first & (0x7F >> UInt32(length))
    for offset in 1..<length {
      let byte = UInt32(text[place + offset])
      guard byte & 0xC0 == 0x80 else { return nil }
      value = value << 6 | byte & 0x3F
    }
    let least: UInt32 = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000
    guard value >= least, value <= 0x10FFFF, !(0xD800..<0xE000).contains(value) else { return nil }
    return (value, length)
  }

  nonisolated(unsafe) private static let ascii: UnsafePointer<CharacterClass> = {
    let classes = UnsafeMutablePointer<CharacterClass>.allocate(capacity: 128)
    for byte in 0..<128 { classes[byte] = of(Unicode.Scalar(UInt8(byte))) }
    return UnsafePointer(classes)
  }()

  /// No letter, number or space has a value beyond the CJK extensions of plane 3; the last entry is used for all
  /// larger values.
  private static let tableSize = 0x40000
  nonisolated(unsafe) private static let table: UnsafePointer<UInt8> = {
    let classes = UnsafeMutablePointer<UInt8>.allocate(capacity: tableSize)
    for value in 0..<tableSize - 1 { classes[value] = Unicode.Scalar(UInt32(value)).map { of($0).rawValue } ?? 0 }
    classes[tableSize - 1] = CharacterClass.other.rawValue
    return UnsafePointer(classes)
  }()

  private static func of(_ scalar: Unicode.Scalar) -> CharacterClass {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: .letter
    case .decimalNumber, .letterNumber, .otherNumber: .number
    default: scalar.properties.isWhitespace ? .space : .other
    }
  }
}
