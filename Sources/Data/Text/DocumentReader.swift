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
  /// A JSON line may be as long as this.
  private static let lineLimit = 1 << 30

  /// `books/a.jsonl`, `a.jsonl.gz`
  static func isJSONL(_ path: String) -> Bool {
    var name = path.lowercased()
    for ending in [".gz", ".zst"] where name.hasSuffix(ending) { name.removeLast(ending.count) }
    return name.hasSuffix(".jsonl") || name.hasSuffix(".ndjson")
  }

  /// Hands over all pieces of a file. `progress` is told how many of its bytes were read so far.
  func read(_ path: String, progress: (Int) -> Void = { _ in }, body: (TextPiece) throws -> Void) throws {
    if Self.isJSONL(path) { try readLines(path, progress, body) } else { try readText(path, progress, body) }
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
    var file = try PackedFile(path)
    var waiting: [UInt8] = [], number = 0, searched = 0
    var buffer = [UInt8](repeating: 0, count: Self.readSize)
    while true {
      let count = try buffer.withUnsafeMutableBufferPointer { bytes throws(DataError) in try file.read(into: bytes) }
      progress(file.position)
      waiting += buffer[..<count]
      var start = 0
      while let end = waiting[max(start, searched)...].firstIndex(of: 10) {
        number += 1
        try readLine(waiting[start..<end], "\(path):\(number)", body)
        start = end + 1
        searched = start
      }
      waiting.removeFirst(start)
      searched = waiting.count
      if count == 0 { break }
      guard waiting.count < Self.lineLimit else {
        throw DataError.unreadable("\(path):\(number + 1): a line of more than \(Self.lineLimit >> 20) MiB")
      }
    }
    if !waiting.isEmpty { try readLine(waiting[...], "\(path):\(number + 1)", body) }
  }

  private func readLine(_ line: ArraySlice<UInt8>, _ place: String, _ body: (TextPiece) throws -> Void) throws {
    if line.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) { return }
    guard let object = try? JSONSerialization.jsonObject(with: Data(line)) as? [String: Any] else {
      throw DataError.unreadable("\(place): not a JSON object on one line")
    }
    guard let text = object[field] as? String else {
      let texts = object.filter { $0.value is String }.keys.sorted()
      let hint = texts.isEmpty ? "" : "; it has \(texts.joined(separator: ", ")): name one with --field"
      throw DataError.unreadable("\(place): no text in field '\(field)'\(hint)")
    }
    if !text.isEmpty { try body(TextPiece(bytes: Array(text.utf8), beginsDocument: true)) }
  }
}
