// A wrapper of SQLite: handles with a single owner, and errors as sentences.

import CSQLite

#if canImport(Glibc)
  import Glibc
#endif

enum SQLValue {
  case text(String), number(Int), bytes([UInt8])
}

/// The current row of a statement.
struct SQLRow {
  fileprivate let statement: OpaquePointer

  func number(_ column: Int32) -> Int { Int(sqlite3_column_int64(statement, column)) }

  func bytes(_ column: Int32) -> [UInt8] {
    guard let start = sqlite3_column_blob(statement, column) else { return [] }
    return Array(UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(statement, column))))
  }
}

/// An open database. It must not be used by two threads at once (SQLITE_OPEN_NOMUTEX). Statements are compiled once
/// and kept.
final class Database {
  private let path: String
  private let place: ShortPath
  private var handle: OpaquePointer?
  /// Compiled statements, by their text.
  private var statements: [String: OpaquePointer] = [:]

  init(_ path: String) throws(StoreError) {
    self.path = path
    place = try ShortPath(path)
    var handle: OpaquePointer?
    let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX
    guard sqlite3_open_v2(place.text, &handle, flags, nil) == SQLITE_OK, let handle else {
      let reason = handle.map { String(cString: sqlite3_errmsg($0)) } ?? "no memory"
      sqlite3_close_v2(handle)
      throw .failed(path: path, action: "open", reason: reason)
    }
    self.handle = handle
    sqlite3_busy_timeout(handle, 2000)
  }

  deinit { close() }

  /// Closes the database. Later statements fail.
  func close() {
    for statement in statements.values { sqlite3_finalize(statement) }
    statements = [:]
    sqlite3_close_v2(handle)
    handle = nil
  }

  /// The last error as a sentence. Errors of writing that may go away (a full disk, a lock) are `.unwritable`, all
  /// others `.failed`.
  private func failure(_ action: String) -> StoreError {
    let code = sqlite3_errcode(handle) & 0xff, system = sqlite3_system_errno(handle)
    var reason = String(cString: sqlite3_errmsg(handle))
    // SQLite's message does not contain the system's reason.
    if code == SQLITE_IOERR || code == SQLITE_CANTOPEN, system != 0 {
      reason += ": " + String(cString: strerror(system))
    }
    let passing = [
      SQLITE_FULL, SQLITE_IOERR, SQLITE_BUSY, SQLITE_LOCKED, SQLITE_CANTOPEN, SQLITE_READONLY, SQLITE_NOMEM,
    ]
    return action == "write to" && passing.contains(code)
      ? .unwritable(path: path, reason: reason) : .failed(path: path, action: action, reason: reason)
  }

  /// Executes statements without results.
  func run(_ text: String) throws(StoreError) {
    guard sqlite3_exec(handle, text, nil, nil, nil) == SQLITE_OK else { throw failure("write to") }
  }

  /// The first column of the first row; 0 where there is no row.
  func number(_ text: String) throws(StoreError) -> Int { try rows(text) { $0.number(0) }.first ?? 0 }

  /// Executes a statement with values for its placeholders, without results.
  func execute(_ text: String, _ values: SQLValue...) throws(StoreError) {
    let statement = try prepared(text, values)
    defer { sqlite3_reset(statement) }
    guard sqlite3_step(statement) == SQLITE_DONE else { throw failure("write to") }
  }

  /// Executes a query and returns what `read` makes of each row.
  func rows<Row>(_ text: String, _ values: SQLValue..., read: (SQLRow) -> Row) throws(StoreError) -> [Row] {
    let statement = try prepared(text, values)
    defer { sqlite3_reset(statement) }
    var rows: [Row] = []
    while true {
      switch sqlite3_step(statement) {
      case SQLITE_ROW: rows.append(read(SQLRow(statement: statement)))
      case SQLITE_DONE: return rows
      default: throw failure("read")
      }
    }
  }

  /// The compiled statement, with its placeholders set.
  private func prepared(_ text: String, _ values: [SQLValue]) throws(StoreError) -> OpaquePointer {
    var statement = statements[text]
    if statement == nil {
      guard sqlite3_prepare_v2(handle, text, -1, &statement, nil) == SQLITE_OK else { throw failure("read") }
      statements[text] = statement
    }
    for (index, value) in values.enumerated() {
      let place = Int32(index + 1)
      let status =
        switch value {
        case .text(let text): ress_sqlite_bind_text_copy(statement, place, text)
        case .number(let number): sqlite3_bind_int64(statement, place, Int64(number))
        case .bytes(let bytes): ress_sqlite_bind_copy(statement, place, bytes, Int32(bytes.count))
        }
      guard status == SQLITE_OK else { throw failure("write to") }
    }
    return statement!
  }
}
