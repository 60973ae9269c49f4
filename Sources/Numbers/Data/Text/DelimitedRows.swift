// Reads CSV and TSV files: rows of fields after a header with their names (RFC 4180). A field in quotes may contain
// delimiters, line ends and doubled quotes. A file of any size is read in the memory of one row.
//
// As in Python's `csv`, a quote inside a field that does not begin with one is an ordinary character.

import Configuration
import Foundation

struct DelimitedRows {
  /// Largest row in bytes. A quote that is not closed would otherwise take the rest of the file into memory.
  static let rowLimit = 64 << 20
  private static let readSize = 1 << 20

  private enum State {
    case fieldBegins, unquoted, quoted
    /// After a quote inside quotes: it ends the field, or is the first of two that mean one.
    case quoteInQuotes
    /// The rest of a line whose row is bad.
    case skipping
  }

  private let path: String
  private let delimiter: UInt8
  private let skipsBadRows: Bool
  private let tally: RowTally
  private let body: ([String: Any], String) throws -> Void
  private let checkHeader: ([String]) throws -> Void

  private var state = State.fieldBegins
  private var header: [String]?
  private var fields: [[UInt8]] = []
  private var field: [UInt8] = []
  /// Whether a field of the row was in quotes: a line with nothing but `""` is a row, and an empty line is not.
  private var hasQuotes = false
  private var byteCount = 0
  // Counted from 1; columns are characters.
  private var line = 1, column = 0
  private var rowLine = 1
  /// Where the quote of the current field opens.
  private var quoteLine = 0, quoteColumn = 0
  private var wasReturn = false

  private init(
    path: String, delimiter: UInt8, skipsBadRows: Bool, tally: RowTally,
    checkHeader: @escaping ([String]) throws -> Void,
    body: @escaping ([String: Any], String) throws -> Void
  ) {
    (self.path, self.delimiter, self.skipsBadRows, self.tally) = (path, delimiter, skipsBadRows, tally)
    (self.checkHeader, self.body) = (checkHeader, body)
  }

  /// Calls `body` with each row, its fields by name as texts, and its place, `FILE:LINE` (of its first line).
  /// `progress` is called with the number of the file's bytes read so far.
  /// - Parameter header: called with the names of the columns; throws where one is missing.
  static func read(
    _ file: inout PackedFile, named path: String, delimiter: UInt8, skipsBadRows: Bool, tally: RowTally,
    progress: (Int) -> Void = { _ in }, header: ([String]) throws -> Void = { _ in },
    body: ([String: Any], String) throws -> Void
  ) throws {
    try withoutActuallyEscaping(header) { header in
      try withoutActuallyEscaping(body) { body in
        var rows = DelimitedRows(
          path: path, delimiter: delimiter, skipsBadRows: skipsBadRows, tally: tally, checkHeader: header, body: body)
        var buffer = [UInt8](repeating: 0, count: readSize)
        var isFirst = true
        while true {
          let count = try buffer.withUnsafeMutableBufferPointer { bytes throws(DataError) in try file.read(into: bytes)
          }
          progress(file.position)
          if count == 0 { break }
          // Programs on Windows write a byte order mark before UTF-8.
          let mark = isFirst && count >= 3 && buffer[..<3].elementsEqual([0xEF, 0xBB, 0xBF]) ? 3 : 0
          isFirst = false
          for place in mark..<count { try rows.take(buffer[place]) }
        }
        try rows.finish()
      }
    }
  }

  private mutating func take(_ byte: UInt8) throws {
    if byte & 0xC0 != 0x80 { column += 1 }
    byteCount += 1
    guard byteCount <= Self.rowLimit else {
      let quote =
        state == .quoted ? "; the quote that opens in line \(quoteLine), column \(quoteColumn) may not be closed" : ""
      throw DataError.unreadable("\(path):\(rowLine): a row of more than \(Self.rowLimit >> 20) MiB\(quote)")
    }
    // CR LF is one line end.
    let isSecond = wasReturn && byte == 10
    wasReturn = byte == 13
    let isLineEnd = byte == 10 || byte == 13
    defer {
      if isLineEnd {
        if !isSecond { line += 1 }
        column = 0
      }
    }
    switch state {
    case .quoted:
      if byte == UInt8(ascii: "\"") { state = .quoteInQuotes } else { field.append(byte) }
    case .quoteInQuotes where byte == UInt8(ascii: "\""):
      field.append(byte)
      state = .quoted
    case .fieldBegins where byte == UInt8(ascii: "\""):
      (state, hasQuotes, quoteLine, quoteColumn) = (.quoted, true, line, column)
    case _ where isLineEnd:
      if isSecond {
        // The row has ended with the CR.
        (byteCount, rowLine) = (0, line)
        return
      }
      try endRow(nextLine: line + 1)
    case .skipping: break
    case _ where byte == delimiter: endField()
    case .quoteInQuotes:
      try refuse("text follows the closing quote (line \(line), column \(column)); a quote in a field is written twice")
      state = .skipping
    case .fieldBegins, .unquoted:
      field.append(byte)
      state = .unquoted
    }
  }

  private mutating func endField() {
    fields.append(field)
    field = []
    state = .fieldBegins
  }

  private mutating func endRow(nextLine: Int) throws {
    let isBad = state == .skipping
    if !isBad { endField() }
    let row = fields, place = "\(path):\(rowLine)"
    let isEmpty = row.count == 1 && row[0].isEmpty && !hasQuotes
    (fields, field, state, hasQuotes, byteCount) = ([], [], .fieldBegins, false, 0)
    defer { rowLine = nextLine }
    if isBad || isEmpty { return }
    guard let header else {
      header = try names(row)
      return try checkHeader(header!)
    }
    guard row.count == header.count else {
      let ends = line == rowLine ? "" : " (its last line is \(line))"
      return try refuse(
        "it has \(SpokenNumbers.count(row.count, "field")), and the header has \(header.count)\(ends)", at: place)
    }
    var object: [String: Any] = [:]
    for (name, bytes) in zip(header, row) {
      guard let text = String(validating: bytes, as: UTF8.self) else {
        return try refuse("field '\(name)' is not UTF-8", at: place)
      }
      object[name] = text
    }
    tally.rows += 1
    do { try body(object, place) } catch let error as DataError {
      guard skipsBadRows, case .badRow = error else { throw error }
      countBad("\(error)")
    }
  }

  private func names(_ row: [[UInt8]]) throws -> [String] {
    let names = row.map { String(decoding: $0, as: UTF8.self) }
    var seen: Set<String> = []
    if let twice = names.first(where: { !seen.insert($0).inserted }) {
      throw DataError.unreadable(
        "\(path):\(rowLine): two columns are named '\(twice)'; the first row must be the header")
    }
    return names
  }

  /// Counts a bad row of which no object was made, or throws.
  private func refuse(_ problem: String, at place: String? = nil) throws {
    let error = DataError.badRow(place: place ?? "\(path):\(rowLine)", problem: problem)
    guard skipsBadRows, header != nil else { throw error }
    tally.rows += 1
    countBad("\(error)")
  }

  private func countBad(_ error: String) {
    tally.bad += 1
    tally.firstBad = tally.firstBad ?? error
  }

  /// The last row needs no line end.
  private mutating func finish() throws {
    if state == .quoted {
      return try refuse("the quote that opens in line \(quoteLine), column \(quoteColumn) is not closed")
    }
    if !fields.isEmpty || !field.isEmpty || hasQuotes { try endRow(nextLine: line + 1) }
  }
}
