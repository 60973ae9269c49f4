// The persistent state of a coordinator, in one SQLite file: a record and the events of each run, and some named
// values.
//
// The coordinator's changes of one turn are one transaction, which is on disk (write-ahead log, synchronous FULL)
// before any reply that depends on them is sent. A coordinator that is killed at any point therefore never has told
// a client something that it does not remember.

import CSQLite
import RunFolder
import Wire

#if canImport(Glibc)
  import Glibc
#endif

package enum StoreError: Error, Equatable, CustomStringConvertible {
  case inUse(path: String, holder: String)
  case newer(path: String, version: Int, known: Int)
  case foreign(path: String)
  case failed(path: String, action: String, reason: String)
  /// The cause may be temporary: no room on the disk, no descriptors, no memory, or a read-only file system.
  case unwritable(path: String, reason: String)

  package var description: String {
    switch self {
    case .inUse(let path, let holder):
      "\(path) belongs to another coordinator\(holder.isEmpty ? "" : ", \(holder)")"
    case .newer(let path, let version, let known):
      "\(path) was written by a newer ress (schema \(version), this program knows \(known)); use that one"
    case .foreign(let path): "\(path) is a database of another program"
    case .failed(let path, let action, let reason): "cannot \(action) \(path): \(reason)"
    case .unwritable(let path, let reason): "cannot write to \(path): \(reason)"
    }
  }

  /// The error with advice for the case that the store belongs to another coordinator or program, which depends on
  /// the command.
  package func advised(inUse: String, foreign: String) -> String {
    switch self {
    case .inUse: "\(self); \(inUse)"
    case .foreign: "\(self); \(foreign)"
    case .newer, .failed, .unwritable: description
    }
  }

  /// Whether the operation may succeed later.
  package var isPassing: Bool {
    if case .unwritable = self { true } else { false }
  }
}

/// A store is used by one thread.
package final class RunStore {
  package let path: String
  private let database: Database
  private var lock: FileLock?

  /// "RESS" as SQLite's application ID, by which `file` and this program recognise a store.
  private static let applicationID = 0x5245_5353
  /// Entry n migrates the schema from version n to n + 1.
  private static let migrations = [
    """
    CREATE TABLE runs (place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, record BLOB NOT NULL);
    CREATE TABLE events (run TEXT NOT NULL, number INTEGER NOT NULL, event BLOB NOT NULL, PRIMARY KEY (run, number))
      WITHOUT ROWID;
    CREATE TABLE named_values (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    """
  ]

  /// Opens or creates a store; `:memory:` is one that ends with the process.
  /// - Parameter holder: a description of this process, which a second coordinator is shown.
  package init(path: String, holder: String) throws(StoreError) {
    let isInMemory = path == ":memory:"
    // Different names of one file must mean one store.
    let path = isInMemory ? path : try RunStore.place(of: path)
    self.path = path
    lock = isInMemory ? nil : try RunStore.lock(path, holder: holder)
    database = try Database(path)
    try database.run("PRAGMA journal_mode = WAL")
    try database.run("PRAGMA synchronous = FULL")
    try prepareSchema()
  }

  /// Closes the store and releases its lock, so that another coordinator can open it. It must not be used
  /// afterwards.
  package func close() {
    database.close()
    lock = nil
  }

  /// The path without symbolic links. The file itself need not exist.
  private static func place(of path: String) throws(StoreError) -> String {
    func resolved(_ path: String) -> String? {
      guard let real = realpath(path, nil) else { return nil }
      defer { free(real) }
      return String(cString: real)
    }
    var status = stat()
    if let place = resolved(path) {
      if stat(place, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_nlink > 1 {
        throw .failed(
          path: path, action: "open",
          reason: "the file has \(status.st_nlink) names (hard links); a store must have only one"
        )
      }
      return place
    }
    if lstat(path, &status) == 0 {
      throw .failed(path: path, action: "open", reason: "it is a symbolic link to a file that does not exist")
    }
    let parts = path.split(separator: "/", omittingEmptySubsequences: true)
    guard let name = parts.last else { throw .failed(path: path, action: "open", reason: "it is not a file") }
    let folder = (path.hasPrefix("/") ? "/" : "./") + parts.dropLast().joined(separator: "/")
    guard let place = resolved(folder) else {
      throw .failed(path: path, action: "create", reason: String(cString: strerror(errno)))
    }
    return (place == "/" ? "" : place) + "/" + name
  }

  private static func lock(_ path: String, holder: String) throws(StoreError) -> FileLock {
    do throws(LockError) { return try FileLock(path + ".lock", holder: holder) } catch {
      switch error {
      case .held(let other): throw .inUse(path: path, holder: other)
      case .failed(let place, let reason, _): throw .failed(path: place, action: "lock", reason: reason)
      }
    }
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

  /// Writes all changes or none. They are on disk when this returns.
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

  /// Records of all runs, in the order in which they were first submitted.
  package func runs() throws(StoreError) -> [[UInt8]] {
    try database.rows("SELECT record FROM runs ORDER BY place") { $0.bytes(0) }
  }

  /// Events of a run with numbers above `after`, in order, at most `limit`.
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
