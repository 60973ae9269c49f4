// How long to sleep between two polls of MPI.
//
// MPI offers nothing that a thread can block on: messages are found by asking for them. Asking too rarely adds the
// interval to every exchange, and asking all the time takes a core from the computing threads. So: while messages
// move, or for a short time afterwards, ask again immediately; then sleep, longer the longer nothing has moved, up
// to a limit that is short compared with a step.

import Wire

package enum PollPace {
  /// After a message, poll without sleeping for this long. A round trip between two processes of one machine takes
  /// some 10 µs.
  private static let eagerMicroseconds: Int64 = 50
  /// Longest sleep while the training thread waits for a message.
  private static let awaitedMicroseconds: Int64 = 20
  /// Longest sleep while the training thread computes: only large messages in transit need an occasional call.
  private static let idleMicroseconds: Int64 = 200

  /// How long to sleep when nothing has arrived or been sent for `quiet`; zero means only to yield the core.
  package static func nap(after quiet: Duration, isAwaited: Bool) -> Duration {
    let microseconds = quiet.nanoseconds / 1000
    if microseconds < eagerMicroseconds { return .zero }
    let longest = isAwaited ? awaitedMicroseconds : idleMicroseconds
    return .microseconds(min(longest, max(awaitedMicroseconds, microseconds / 8)))
  }
}
