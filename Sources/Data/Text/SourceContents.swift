// What a file holds, once it is unpacked: text, or rows. Rows are known by their content as well as by their names. What is neither is
// refused before anything is written, with what a user can do.

import Foundation

/// How files of text are read.
package struct SourceOptions: Sendable {
  package enum Format: String, CaseIterable, Sendable { case automatic = "auto", text, rows }

  package static let standardField = "text"
  /// Windows of zstd are of 128 MiB at most unless their writer was told otherwise.
  package static let standardMemory = 128 << 20

  /// The field of a row that is the text; nil: `text`.
  package var field: String?
  package var format = Format.automatic
  /// Bad rows are left out and counted; else the first one is an error.
  package var skipsBadRows = false
  /// Bytes of memory that unpacking a file may take.
  package var memory = SourceOptions.standardMemory

  package init() {}
}

package enum SourceContents: Equatable, Sendable {
  case text, rows

  /// Bytes that are looked at.
  private static let lookSize = 1 << 16

  /// `books/a.jsonl`, `a.ndjson.gz`
  private static func namesRows(_ path: String) -> Bool {
    [".jsonl", ".ndjson"].contains { bareName(path).hasSuffix($0) }
  }

  /// In lower case, without the ending of a packing.
  private static func bareName(_ path: String) -> String {
    var name = path.lowercased()
    for ending in Packing.allCases.flatMap(\.endings) where name.hasSuffix(ending) {
      name.removeLast(ending.count)
      break
    }
    return name
  }

  /// - Throws: what the file is, where it is neither.
  static func look(_ file: inout PackedFile, _ path: String, _ format: SourceOptions.Format) throws(DataError)
    -> SourceContents
  {
    let bytes = try file.peek(lookSize)
    if let foreign = ForeignKind.of(bytes) { throw .foreign(path: path, what: foreign.name, advice: foreign.advice) }
    if Packing(bytes) != nil {
      throw .foreign(
        path: path, what: "packed twice", advice: "unpack it once: gzip -dc, xz -dc or zstd -dc FILE > NEW")
    }
    switch format {
    case .text: return .text
    case .rows: return .rows
    case .automatic: break
    }
    if namesRows(path) { return .rows }
    let text = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? bytes.dropFirst(3) : bytes[...]
    guard let first = text.firstIndex(where: { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }) else { return .text }
    let end = text[first...].firstIndex(of: 10)
    let line = text[first..<(end ?? text.endIndex)]
    if line.first == UInt8(ascii: "{") {
      switch JSONFault.look(line) {
      case .object(let members) where members > 0: return .rows
      // A first line that is longer than what was looked at.
      case .cut where end == nil && bytes.count == lookSize: return .rows
      default: break
      }
    }
    let isList =
      line.first == UInt8(ascii: "[")
      && ((try? JSONSerialization.jsonObject(with: Data(line))) as? [[String: Any]])?.isEmpty == false
    let isNamedJSON = bareName(path).hasSuffix(".json") && [UInt8(ascii: "{"), UInt8(ascii: "[")].contains(line.first!)
    if isList || isNamedJSON {
      throw .foreign(
        path: path, what: "JSON, but not one object a line",
        advice: "make rows of it: jq -c '.[]' FILE > FILE.jsonl; --format text reads it as plain text")
    }
    return .text
  }
}
