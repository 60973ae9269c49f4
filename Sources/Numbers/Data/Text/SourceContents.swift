// Determines what a file contains when decompressed: text, rows, or a table with a header (CSV, TSV). Rows are
// recognised by their content as well as by the file's name, tables by the name alone. A file that is neither is
// refused before anything is written, with advice for the user.

import Foundation

/// Options for reading source files.
package struct SourceOptions: Sendable {
  package enum Format: String, CaseIterable, Sendable { case automatic = "auto", text, rows, csv, tsv }

  package static let standardField = "text"
  /// Windows of zstd are at most 128 MiB unless the writer has chosen otherwise.
  package static let standardMemory = 128 << 20

  /// The field of a row with the text; nil means `text`.
  package var field: String?
  package var format = Format.automatic
  /// Whether bad rows are counted and left out; otherwise the first one is an error.
  package var skipsBadRows = false
  /// Most bytes of memory for decompressing a file.
  package var memory = SourceOptions.standardMemory

  package init() {}
}

package enum SourceContents: Equatable, Sendable {
  case text, rows
  /// Rows of fields after a header, with the byte between fields.
  case table(delimiter: UInt8)

  static let csv = SourceContents.table(delimiter: UInt8(ascii: ","))
  static let tsv = SourceContents.table(delimiter: UInt8(ascii: "\t"))

  /// Number of bytes that are examined.
  private static let lookSize = 1 << 16

  /// Whether the name is that of a file of rows: `books/a.jsonl`, `a.ndjson.gz`.
  private static func namesRows(_ path: String) -> Bool {
    [".jsonl", ".ndjson"].contains { bareName(path).hasSuffix($0) }
  }

  /// The name in lower case, without the extension of a compression.
  private static func bareName(_ path: String) -> String {
    var name = path.lowercased()
    for ending in Packing.allCases.flatMap(\.endings) where name.hasSuffix(ending) {
      name.removeLast(ending.count)
      break
    }
    return name
  }

  /// - Throws: `.foreign` where the file is neither text nor rows.
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
    case .csv: return .csv
    case .tsv: return .tsv
    case .automatic: break
    }
    if bareName(path).hasSuffix(".csv") { return .csv }
    if bareName(path).hasSuffix(".tsv") { return .tsv }
    if namesRows(path) { return .rows }
    let text = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? bytes.dropFirst(3) : bytes[...]
    guard let first = text.firstIndex(where: { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }) else { return .text }
    let end = text[first...].firstIndex(of: 10)
    let line = text[first..<(end ?? text.endIndex)]
    if line.first == UInt8(ascii: "{") {
      switch JSONFault.look(line) {
      case .object(let members) where members > 0: return .rows
      // The first line is longer than what was examined.
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
