// MPI has nothing that a thread can sleep on: its messages are found by looking. Whoever looks too seldom adds the time in between to every
// exchange, and whoever looks all the time takes a core from those who compute.
//
// So: while something moves, or somebody waits and something may come any moment, look again at once; then sleep a little, and the longer
// the quiet lasts the longer, up to a bound that nobody notices beside a step.

import Wire

package enum PollPace {
  /// A round trip between two processes of a machine takes some 10 µs.
  private static let eagerMicroseconds: Int64 = 50
  /// While the training thread waits for what comes.
  private static let awaitedMicroseconds: Int64 = 20
  /// While it computes, nobody waits here: only large messages on their way need a hand now and then.
  private static let idleMicroseconds: Int64 = 200

  /// How long to sleep after `quiet`, in which nothing came or left; zero: only let others have the core.
  package static func nap(after quiet: Duration, isAwaited: Bool) -> Duration {
    let microseconds = quiet.nanoseconds / 1000
    if microseconds < eagerMicroseconds { return .zero }
    let longest = isAwaited ? awaitedMicroseconds : idleMicroseconds
    return .microseconds(min(longest, max(awaitedMicroseconds, microseconds / 8)))
  }
}
