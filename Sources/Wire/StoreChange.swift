// What the coordinator must not forget, as its store writes it.

package enum StoreChange: Equatable, Sendable {
  /// A run's record; replaces the older one.
  case run(RunID, [UInt8])
  /// The run, its events and its record.
  case forget(RunID)
  /// Numbers count from 1 without gaps; an existing number is replaced.
  case event(RunID, number: Int, [UInt8])
  /// A named value of the coordinator's.
  case value(String, [UInt8])
}
