// Files as documents: a text file is one, a line of JSONL is one. Documents come in order, in pieces that a tokenizer may take each for
// itself, so that a file of any size is read in little memory.

import Foundation

/// A piece of a document's text.
struct TextPiece {
  var bytes: [UInt8]
  /// Whether a document begins with it.
  var beginsDocument: Bool
}

struct DocumentReader {
  /// The field of a JSON line that is the text.
  var field = "text"

  /// Bytes read at a time, and about the size of a piece of a long text.
  private static let readSize = 1 << 20
  /// Hands over all pieces of a file. `progress` is told how many of its bytes were read so far.
  func read(_ path: String, progress: (Int) -> Void = { _ in }, body: (TextPiece) throws -> Void) throws {
    if JSONLines.isNamed(path) { try readLines(path, progress, body) } else { try readText(path, progress, body) }
  }

  private func readText(_ path: String, _ progress: (Int) -> Void, _ body: (TextPiece) throws -> Void) throws {
    var file = try PackedFile(path)
    var waiting: [UInt8] = [], isFirst = true
    var buffer = [UInt8](repeating: 0, count: Self.readSize)
    while true {
      let count = try buffer.withUnsafeMutableBufferPointer { bytes throws(DataError) in try file.read(into: bytes) }
      if count == 0 { break }
      progress(file.position)
      waiting += buffer[..<count]
      // Cut where every tokenizer begins a piece; text without such a place is read on.
      guard let cut = Self.cut(waiting) else { continue }
      try body(TextPiece(bytes: Array(waiting[..<cut]), beginsDocument: isFirst))
      waiting.removeFirst(cut)
      isFirst = false
    }
    // An empty file is no document.
    if !waiting.isEmpty { try body(TextPiece(bytes: waiting, beginsDocument: isFirst)) }
  }

  /// The last place of one space between two ASCII letters, which no token and no pattern crosses.
  static func cut(_ text: [UInt8]) -> Int? {
    func isLetter(_ byte: UInt8) -> Bool { (65...90).contains(byte & ~0x20) }
    var place = text.count - 2
    while place > 0 {
      if text[place] == 0x20, isLetter(text[place - 1]), isLetter(text[place + 1]) { return place }
      place -= 1
    }
    return nil
  }

  private func readLines(_ path: String, _ progress: (Int) -> Void, _ body: (TextPiece) throws -> Void) throws {
    try JSONLines.read(path, progress: progress) { object, place in
      guard let text = object[field] as? String else {
        let texts = object.filter { $0.value is String }.keys.sorted()
        let hint = texts.isEmpty ? "" : "; it has \(texts.joined(separator: ", ")): name one with --field"
        throw DataError.unreadable("\(place): no text in field '\(field)'\(hint)")
      }
      if !text.isEmpty { try body(TextPiece(bytes: Array(text.utf8), beginsDocument: true)) }
    }
  }
}
