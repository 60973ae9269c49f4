// A second pair of eyes on a store: whoever shows old stories reads them here, so that the coordinator, which writes, is not kept
// waiting. SQLite's log lets both work at once.

import Wire

/// Used by one thread; the store must exist.
package final class StoryReader {
  private let database: Database

  package init(path: String) throws(StoreError) {
    database = try Database(path)
    try database.run("PRAGMA query_only = ON")
  }

  /// Events of a run after the `after`-th, at most `limit`.
  package func events(of run: RunID, after: Int, limit: Int) throws(StoreError) -> [(number: Int, event: [UInt8])] {
    try RunStore.events(in: database, of: run, after: after, limit: limit)
  }

  /// Events of a run before the `before`-th, the newest first, at most `limit`.
  package func events(of run: RunID, before: Int, limit: Int) throws(StoreError) -> [(number: Int, event: [UInt8])] {
    try database.rows(
      "SELECT number, event FROM events WHERE run = ? AND number < ? ORDER BY number DESC LIMIT ?",
      .text(run.description), .number(before), .number(limit)
    ) { (number: $0.number(0), event: $0.bytes(1)) }
  }
}
