// Reads what ress needs to know of a SentencePiece model (`tokenizer.model`, `spiece.model`), and checks it.
//
// The file is a protocol buffer (sentencepiece_model.proto). SentencePiece's library reads it as well, and does the
// encoding; but it trusts the file: with a table of character replacements that was forged, it reads beyond its
// memory. So everything that it trusts is checked here before the library sees the file.

import Foundation

/// The contents of a model that decoding and cutting depend on.
struct SentencePieceFile: Equatable {
  /// Types of `ModelProto.SentencePiece`.
  enum Kind: Int, Sendable { case normal = 1, unknown, control, userDefined, unused, byte }

  struct Piece: Equatable {
    var text: [UInt8] = []
    var score: Float = 0
    var kind = Kind.normal
  }

  var pieces: [Piece] = []
  var addsDummyPrefix = true
  var removesExtraSpaces = true
  var escapesSpaces = true
  var spaceIsSuffix = false
  var replacements = CharacterReplacements()
  var firstPiece = Array("<s>".utf8)
  var lastPiece = Array("</s>".utf8)
  var unknownText = Array(" \u{2047} ".utf8)

  /// U+2581, which stands for a space in pieces.
  static let space: [UInt8] = [0xE2, 0x96, 0x81]
  private static let longestPiece = 4096

  /// - Throws: the problem, as the end of a sentence that begins with the file's name.
  init(_ bytes: [UInt8]) throws(Problem) {
    var fields = ProtocolBuffer(bytes[...])
    while let (number, value) = try fields.next() {
      switch (number, value) {
      case (1, .bytes(let piece)): pieces.append(try Self.piece(piece))
      case (2, .bytes(let trainer)): try readTrainer(trainer)
      case (3, .bytes(let normalizer)): try readNormalizer(normalizer)
      // Replacements when tokens are decoded. The library reads them too.
      case (5, .bytes(let denormalizer)):
        var ignored = self
        try ignored.readNormalizer(denormalizer)
      default: break
      }
    }
    try check()
  }

  struct Problem: Error, Equatable { let text: String }

  private static func piece(_ bytes: ArraySlice<UInt8>) throws(Problem) -> Piece {
    var piece = Piece(), fields = ProtocolBuffer(bytes)
    while let (number, value) = try fields.next() {
      switch (number, value) {
      case (1, .bytes(let text)): piece.text = Array(text)
      case (2, .fixed32(let bits)): piece.score = Float(bitPattern: bits)
      case (3, .number(let type)):
        guard let kind = Kind(rawValue: Int(truncatingIfNeeded: type)) else {
          throw Problem(text: "a piece has type \(type)")
        }
        piece.kind = kind
      default: break
      }
    }
    return piece
  }

  private mutating func readTrainer(_ bytes: ArraySlice<UInt8>) throws(Problem) {
    var fields = ProtocolBuffer(bytes)
    while let (number, value) = try fields.next() {
      switch (number, value) {
      case (24, .number(let flag)): spaceIsSuffix = flag != 0
      case (44, .bytes(let text)): unknownText = Array(text)
      case (46, .bytes(let text)): firstPiece = Array(text)
      case (47, .bytes(let text)): lastPiece = Array(text)
      default: break
      }
    }
  }

  private mutating func readNormalizer(_ bytes: ArraySlice<UInt8>) throws(Problem) {
    var fields = ProtocolBuffer(bytes)
    while let (number, value) = try fields.next() {
      switch (number, value) {
      case (2, .bytes(let table)): replacements = try CharacterReplacements(Array(table))
      case (3, .number(let flag)): addsDummyPrefix = flag != 0
      case (4, .number(let flag)): removesExtraSpaces = flag != 0
      case (5, .number(let flag)): escapesSpaces = flag != 0
      default: break
      }
    }
  }

  private func check() throws(Problem) {
    guard (1...1 << 24).contains(pieces.count) else { throw Problem(text: "it has \(pieces.count) pieces") }
    for (number, piece) in pieces.enumerated() {
      func refuse(_ what: String) -> Problem { Problem(text: "piece \(number) \(what)") }
      guard (1...Self.longestPiece).contains(piece.text.count) else { throw refuse("has \(piece.text.count) bytes") }
      guard !piece.text.contains(0), String(validating: piece.text, as: UTF8.self) != nil else {
        throw refuse("is not text")
      }
      guard piece.score.isFinite else { throw refuse("has a score that is not finite") }
      if piece.kind == .byte, Self.byte(piece.text) == nil {
        throw refuse("is of type byte and is not <0x00> to <0xFF>")
      }
    }
    guard pieces.count(where: { $0.kind == .unknown }) == 1 else {
      throw Problem(text: "it must have exactly one piece for unknown characters")
    }
  }

  /// The value of a piece such as `<0x0A>`.
  static func byte(_ text: [UInt8]) -> UInt8? {
    guard text.count == 6, text.starts(with: Array("<0x".utf8)), text[5] == UInt8(ascii: ">") else { return nil }
    return UInt8(String(decoding: text[3..<5], as: UTF8.self), radix: 16)
  }
}

/// The table of character replacements of a normalizer: a double array (darts-clone) whose values are offsets of texts
/// that end with a zero byte.
struct CharacterReplacements: Equatable {
  private var units: [UInt32] = []

  init() {}

  /// - Throws: where following the table could lead outside of it.
  init(_ bytes: [UInt8]) throws(SentencePieceFile.Problem) {
    if bytes.isEmpty { return }
    func refuse() -> SentencePieceFile.Problem { .init(text: "its table of character replacements is damaged") }
    guard bytes.count > 4 else { throw refuse() }
    let size = Self.word(bytes, 0)
    guard size < bytes.count - 4, size % 1024 == 0, size > 0, bytes.last == 0 else { throw refuse() }
    let texts = bytes.count - 4 - Int(size)
    units = (0..<Int(size) / 4).map { Self.word(bytes, 4 + 4 * $0) }
    for (place, unit) in units.enumerated() where unit >> 31 == 0 {
      // The unit of each byte that may follow is in one block of 256.
      let next = place ^ Self.offset(unit)
      guard next | 0xFF < units.count else { throw refuse() }
      if Self.hasValue(unit), Int(units[next] & 0x7FFF_FFFF) >= texts { throw refuse() }
    }
  }

  private static func word(_ bytes: [UInt8], _ place: Int) -> UInt32 {
    (0..<4).reduce(0) { $0 | UInt32(bytes[place + $1]) << UInt32(8 * $1) }
  }

  private static func offset(_ unit: UInt32) -> Int { Int(unit >> 10) << Int((unit & 1 << 9) >> 6) }
  private static func hasValue(_ unit: UInt32) -> Bool { unit >> 8 & 1 == 1 }

  /// Whether some text that is replaced begins so.
  func begins(with text: [UInt8]) -> Bool {
    guard let root = units.first else { return false }
    var place = Self.offset(root)
    for byte in text {
      place ^= Int(byte)
      guard units[place] & 0x8000_00FF == UInt32(byte) else { return false }
      place ^= Self.offset(units[place])
    }
    return true
  }
}

/// The fields of a message of a protocol buffer, in order.
private struct ProtocolBuffer {
  enum Value {
    case number(UInt64), fixed32(UInt32), fixed64
    case bytes(ArraySlice<UInt8>)
  }

  private var rest: ArraySlice<UInt8>

  init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

  /// - Throws: where the message is damaged.
  mutating func next() throws(SentencePieceFile.Problem) -> (Int, Value)? {
    if rest.isEmpty { return nil }
    let key = try variable()
    guard key >> 3 > 0, key >> 3 < 1 << 29 else { throw Self.damaged }
    let number = Int(key >> 3)
    switch key & 7 {
    case 0: return (number, .number(try variable()))
    case 1:
      _ = try take(8)
      return (number, .fixed64)
    case 2: return (number, .bytes(try take(variable())))
    case 5: return (number, .fixed32(try take(4).reversed().reduce(0) { $0 << 8 | UInt32($1) }))
    default: throw Self.damaged
    }
  }

  private static let damaged = SentencePieceFile.Problem(text: "it is not a model of SentencePiece, or it is damaged")

  private mutating func take(_ count: UInt64) throws(SentencePieceFile.Problem) -> ArraySlice<UInt8> {
    guard count <= UInt64(rest.count) else { throw Self.damaged }
    defer { rest = rest.dropFirst(Int(count)) }
    return rest.prefix(Int(count))
  }

  private mutating func variable() throws(SentencePieceFile.Problem) -> UInt64 {
    var value: UInt64 = 0, shift: UInt64 = 0
    while let byte = rest.popFirst() {
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 { return value }
      shift += 7
      if shift > 63 { break }
    }
    throw Self.damaged
  }
}
