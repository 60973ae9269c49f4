// The changes to the coordinator's persistent state. The pure coordinator returns them as values; target RunStore
// writes them to SQLite before any reply that depends on them is sent.

package enum StoreChange: Equatable, Sendable {
  /// A run's record; replaces the older one.
  case run(RunID, [UInt8])
  /// Deletes a run, its events and its record.
  case forget(RunID)
  /// An event of a run. Event numbers count from 1 without gaps; an event with an existing number replaces the old
  /// one.
  case event(RunID, number: Int, [UInt8])
  /// A named value of the coordinator itself.
  case value(String, [UInt8])
}
