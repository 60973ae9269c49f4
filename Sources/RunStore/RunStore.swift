// What a coordinator must not forget, in one SQLite file: a record a run, its events, and a few values. Every turn of the
// coordinator is one transaction, on disk (WAL, synchronous FULL) before anything is answered.

import CSQLite
import Wire

#if canImport(Glibc)
  import Glibc
#endif

package enum StoreError: Error, Equatable, CustomStringConvertible {
  case inUse(path: String, holder: String)
  case newer(path: String, version: Int, known: Int)
  case foreign(path: String)
  case failed(path: String, action: String, reason: String)

  package var description: String {
    switch self {
    case .inUse(let path, let holder):
      "\(path) belongs to another coordinator\(holder.isEmpty ? "" : ", \(holder)")"
    case .newer(let path, let version, let known):
      "\(path) was written by a newer ress (schema \(version), this program knows \(known)); use that one"
    case .foreign(let path): "\(path) is a database of another program"
    case .failed(let path, let action, let reason): "cannot \(action) \(path): \(reason)"
    }
  }

  /// The error with what its reader can do where the store belongs to another coordinator or program: that depends on the command.
  package func advised(inUse: String, foreign: String) -> String {
    switch self {
    case .inUse: "\(self); \(inUse)"
    case .foreign: "\(self); \(foreign)"
    case .newer, .failed: description
    }
  }
}

/// Used by one thread.
package final class RunStore {
  package let path: String
  private let database: Database
  private var lock: StoreLock?

  /// "RESS", so that `file` and we know our own.
  private static let applicationID = 0x5245_5353
  /// Each entry brings the schema from its index to the next.
  private static let migrations = [
    """
    CREATE TABLE runs (place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, record BLOB NOT NULL);
    CREATE TABLE events (run TEXT NOT NULL, number INTEGER NOT NULL, event BLOB NOT NULL, PRIMARY KEY (run, number))
      WITHOUT ROWID;
    CREATE TABLE named_values (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    """
  ]

  /// Opens the store, or makes it; `:memory:` is one that ends with the process.
  /// - Parameter holder: who we are, for the error of whoever comes second.
  package init(path: String, holder: String) throws(StoreError) {
    self.path = path
    lock = path == ":memory:" ? nil : try StoreLock(path, holder: holder)
    database = try Database(path)
    try database.run("PRAGMA journal_mode = WAL")
    try database.run("PRAGMA synchronous = FULL")
    try prepareSchema()
  }

  /// Lets go of the store, so that another coordinator can have it as soon as this returns. Nothing more may be asked of this one.
  package func close() {
    database.close()
    lock = nil
  }

  private func prepareSchema() throws(StoreError) {
    let version = try database.number("PRAGMA user_version")
    let application = try database.number("PRAGMA application_id")
    let tables = try database.number("SELECT count(*) FROM sqlite_schema")
    guard application == RunStore.applicationID || tables == 0 else { throw .foreign(path: path) }
    guard version <= RunStore.migrations.count else {
      throw .newer(path: path, version: version, known: RunStore.migrations.count)
    }
    for next in version..<RunStore.migrations.count {
      try database.run(
        """
        BEGIN IMMEDIATE;
        \(RunStore.migrations[next])
        PRAGMA application_id = \(RunStore.applicationID);
        PRAGMA user_version = \(next + 1);
        COMMIT
        """)
    }
  }

  /// All changes, or none; on disk when it returns.
  package func commit(_ changes: [StoreChange]) throws(StoreError) {
    try database.run("BEGIN IMMEDIATE")
    do throws(StoreError) {
      for change in changes { try apply(change) }
      try database.run("COMMIT")
    } catch {
      try? database.run("ROLLBACK")
      throw error
    }
  }

  private func apply(_ change: StoreChange) throws(StoreError) {
    switch change {
    case .run(let id, let record):
      try database.execute(
        "INSERT INTO runs (id, record) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record",
        .text(id.description), .bytes(record))
    case .forget(let id):
      try database.execute("DELETE FROM runs WHERE id = ?", .text(id.description))
      try database.execute("DELETE FROM events WHERE run = ?", .text(id.description))
    case .event(let id, let number, let event):
      try database.execute(
        "INSERT OR REPLACE INTO events (run, number, event) VALUES (?, ?, ?)", .text(id.description), .number(number),
        .bytes(event))
    case .value(let name, let value):
      try database.execute(
        "INSERT OR REPLACE INTO named_values (name, value) VALUES (?, ?)", .text(name), .bytes(value))
    }
  }

  /// Records of all runs, in order of their first submission.
  package func runs() throws(StoreError) -> [[UInt8]] {
    try database.rows("SELECT record FROM runs ORDER BY place") { $0.bytes(0) }
  }

  /// Events of a run after the `after`-th, at most `limit`.
  package func events(of run: RunID, after: Int, limit: Int) throws(StoreError) -> [(number: Int, event: [UInt8])] {
    try Self.events(in: database, of: run, after: after, limit: limit)
  }

  static func events(
    in database: Database, of run: RunID, after: Int, limit: Int
  ) throws(StoreError) -> [(number: Int, event: [UInt8])] {
    try database.rows(
      "SELECT number, event FROM events WHERE run = ? AND number > ? ORDER BY number LIMIT ?", .text(run.description),
      .number(after), .number(limit)
    ) { (number: $0.number(0), event: $0.bytes(1)) }
  }

  package func value(_ name: String) throws(StoreError) -> [UInt8]? {
    try database.rows("SELECT value FROM named_values WHERE name = ?", .text(name)) { $0.bytes(0) }.first
  }
}

/// One coordinator a store: a lock that goes with its process, however that ends.
private struct StoreLock: ~Copyable {
  private let descriptor: Int32

  init(_ path: String, holder: String) throws(StoreError) {
    let place = path + ".lock"
    descriptor = open(place, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      throw .failed(path: place, action: "create", reason: String(cString: strerror(errno)))
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      var text = [UInt8](repeating: 0, count: 200)
      let count = max(0, read(descriptor, &text, text.count))
      close(descriptor)
      throw .inUse(path: path, holder: String(decoding: text.prefix(count), as: UTF8.self))
    }
    let bytes = Array(holder.utf8)
    _ = ftruncate(descriptor, 0)
    _ = write(descriptor, bytes, bytes.count)
  }

  deinit { close(descriptor) }
}
