// Reads files as documents: a text file is one document, and so is each row of a file of rows. Documents are passed
// on in order, in pieces that can be tokenized independently, so that files of any size, in any script, are read in
// little memory.

import Foundation

/// A piece of a document's text.
package struct TextPiece {
  package var bytes: [UInt8]
  /// Whether a document begins with it.
  package var beginsDocument: Bool
}

package struct DocumentReader {
  private let options: SourceOptions
  private let cutter: TextCutter
  let tally = RowTally()

  package init(options: SourceOptions = SourceOptions(), cutter: TextCutter = TextCutter()) {
    self.options = options
    self.cutter = cutter
  }

  /// Bytes per read, and approximate size of the pieces of a long text.
  private static let readSize = 1 << 20

  /// Passes on all pieces of a file. `progress` is called with the number of the file's bytes that have been read.
  package func read(_ source: SourceFile, progress: (Int) -> Void = { _ in }, body: (TextPiece) throws -> Void) throws {
    var file = try PackedFile(source.path, memory: options.memory)
    switch try source.contents ?? SourceContents.look(&file, source.path, options.format) {
    case .rows: try readRows(&file, source.path, delimiter: nil, progress, body)
    case .table(let delimiter): try readRows(&file, source.path, delimiter: delimiter, progress, body)
    case .text: try readText(&file, progress, body)
    }
  }

  private func readText(_ file: inout PackedFile, _ progress: (Int) -> Void, _ body: (TextPiece) throws -> Void) throws
  {
    var waiting: [UInt8] = [], isFirst = true, examined = 0
    var buffer = [UInt8](repeating: 0, count: Self.readSize)
    while true {
      let count = try buffer.withUnsafeMutableBufferPointer { bytes throws(DataError) in try file.read(into: bytes) }
      if count == 0 { break }
      progress(file.position)
      waiting += buffer[..<count]
      let cut = waiting.withUnsafeBufferPointer { text in
        cutter.lastCut(text, after: examined)
          ?? (text.count > TextCutter.longestWord + cutter.margin ? cutter.forcedCut(text) : nil)
      }
      if let cut {
        try body(TextPiece(bytes: Array(waiting[..<cut]), beginsDocument: isFirst))
        waiting.removeFirst(cut)
        isFirst = false
      }
      // Text up to there contains no place to cut and need not be examined again.
      examined = max(0, waiting.count - cutter.margin)
    }
    // An empty file is not a document.
    if !waiting.isEmpty { try body(TextPiece(bytes: waiting, beginsDocument: isFirst)) }
  }

  /// - Parameter delimiter: that of a table; nil for rows of JSON.
  private func readRows(
    _ file: inout PackedFile, _ path: String, delimiter: UInt8?, _ progress: (Int) -> Void,
    _ body: (TextPiece) throws -> Void
  ) throws {
    let field = options.field ?? SourceOptions.standardField
    func take(_ object: [String: Any], _ place: String) throws {
      guard let text = object[field] as? String else {
        // Collections of text contain null for pages without text.
        if object[field] is NSNull {
          tally.empty += 1
          return
        }
        let texts = object.filter { $0.value is String }.keys.sorted()
        let hint = texts.isEmpty ? "" : "; it has \(texts.joined(separator: ", ")): name one with --field"
        throw DataError.badRow(place: place, problem: "no text in field '\(field)'\(hint)")
      }
      if text.isEmpty {
        tally.empty += 1
        return
      }
      var isFirst = true
      try cutter.forEachPiece(Array(text.utf8)) { bytes in
        try body(TextPiece(bytes: bytes, beginsDocument: isFirst))
        isFirst = false
      }
    }
    guard let delimiter else {
      return try RowLines.read(
        &file, named: path, skipsBadRows: options.skipsBadRows, tally: tally, progress: progress, body: take)
    }
    try DelimitedRows.read(
      &file, named: path, delimiter: delimiter, skipsBadRows: options.skipsBadRows, tally: tally, progress: progress
    ) { names in
      guard !names.contains(field) else { return }
      throw DataError.unreadable(
        "\(path): no column '\(field)'; it has \(names.joined(separator: ", ")): name one with --field, or read the file as "
          + "plain text with --format text")
    } body: {
      try take($0, $1)
    }
  }
}
