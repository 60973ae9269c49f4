// Reads rows: one JSON object per line. A bad row ends the reading with an error that has its line, its column and
// the reason, unless bad rows are to be counted and left out.

import Foundation

/// Counts of the rows of some files.
final class RowTally {
  var rows = 0
  /// Rows whose text is null or empty.
  var empty = 0
  var bad = 0
  /// The error of the first bad row.
  var firstBad: String?

  /// Sentences about rows that were left out.
  var notes: [String] {
    var notes: [String] = []
    if empty > 0 { notes.append("\(empty) of \(rows) rows have no text (null or empty)") }
    if let firstBad { notes.append("\(bad) of \(rows) rows are bad and were left out; the first: \(firstBad)") }
    return notes
  }

  /// - Throws: where a field was named and there were no rows, or where no row could be read.
  func check(_ options: SourceOptions) throws(DataError) {
    if rows == 0, let field = options.field { throw SourceList.noRows(field) }
    if rows > 0, bad == rows, let firstBad {
      throw .unreadable(rows == 1 ? firstBad : "none of \(rows) rows can be read; the first: \(firstBad)")
    }
  }
}

enum RowLines {
  /// Longest line in bytes.
  private static let lineLimit = 1 << 30
  private static let readSize = 1 << 20
  private static let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]

  /// Calls `body` with each object and its place, `FILE:LINE`. `progress` is called with the number of the file's
  /// bytes read so far.
  static func read(
    _ file: inout PackedFile, named path: String, skipsBadRows: Bool, tally: RowTally,
    progress: (Int) -> Void = { _ in },
    body: ([String: Any], String) throws -> Void
  ) throws {
    func take(_ line: ArraySlice<UInt8>, _ number: Int) throws {
      // Programs on Windows write a byte order mark before UTF-8.
      let line = number == 1 && line.starts(with: byteOrderMark) ? line.dropFirst(3) : line
      if line.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) { return }
      tally.rows += 1
      let place = "\(path):\(number)"
      do { try body(parse(line, place), place) } catch let error as DataError {
        guard skipsBadRows, case .badRow = error else { throw error }
        tally.bad += 1
        tally.firstBad = tally.firstBad ?? "\(error)"
      }
    }
    var waiting: [UInt8] = [], number = 0, searched = 0
    var buffer = [UInt8](repeating: 0, count: Self.readSize)
    while true {
      let count = try buffer.withUnsafeMutableBufferPointer { bytes throws(DataError) in try file.read(into: bytes) }
      progress(file.position)
      waiting += buffer[..<count]
      var start = 0
      while let end = waiting[max(start, searched)...].firstIndex(of: 10) {
        number += 1
        try take(waiting[start..<end], number)
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
    if !waiting.isEmpty { try take(waiting[...], number + 1) }
  }

  private static func parse(_ line: ArraySlice<UInt8>, _ place: String) throws(DataError) -> [String: Any] {
    let said: String
    do {
      if let object = try JSONSerialization.jsonObject(with: Data(line)) as? [String: Any] { return object }
      said = ""
    } catch { said = "\((error as NSError).userInfo["NSDebugDescription"] ?? error.localizedDescription)" }
    let reason: String
    switch JSONFault.look(line) {
    case .fault(let fault): reason = "\(fault.reason) (column \(fault.column))"
    case .cut: reason = "the line ends inside the object; a row must be on one line (jq -c . FILE writes it so)"
    case .object: reason = said
    }
    throw .badRow(place: place, problem: "not a JSON object on one line: \(reason)")
  }
}
