// A second, read-only connection to a store. The dashboard reads the events of old runs with it, so that the
// coordinator, which writes, does not have to wait. With SQLite's write-ahead log, reading and writing do not block
// each other.

import Wire

/// Used by one thread. The store must exist.
package final class StoryReader {
  private let database: Database

  package init(path: String) throws(StoreError) {
    database = try Database(path)
    try database.run("PRAGMA query_only = ON")
  }

  /// Events of a run with numbers above `after`, in order, at most `limit`.
  package func events(of run: RunID, after: Int, limit: Int) throws(StoreError) -> [(number: Int, event: [UInt8])] {
    try RunStore.events(in: database, of: run, after: after, limit: limit)
  }

  /// Events of a run with numbers below `before`, the newest first, at most `limit`.
  package func events(of run: RunID, before: Int, limit: Int) throws(StoreError) -> [(number: Int, event: [UInt8])] {
    try database.rows(
      "SELECT number, event FROM events WHERE run = ? AND number < ? ORDER BY number DESC LIMIT ?",
      .text(run.description), .number(before), .number(limit)
    ) { (number: $0.number(0), event: $0.bytes(1)) }
  }
}
