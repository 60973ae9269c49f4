// A clock that does not count the time in which its own process could not run.
//
// When a process was stopped (SIGSTOP), paused with its virtual machine, swapped out, or blocked by a disk, its
// first look at the clock afterwards suggests that every peer was silent for all that time. They were not: their
// messages wait in its sockets. A process that measures the silence of others therefore uses this clock, which
// stands still between two turns of its loop that are far apart. Without it, a coordinator that was stopped for 12
// s declared healthy workers lost in its first turn.

package struct SteadyClock: Equatable, Sendable {
  private var last: Instant?
  private var leftOut = Duration.zero

  /// A gap between turns that counts as time in which the process did not run. A loop that runs has at least four
  /// turns a second.
  static let longestTurn = Duration.seconds(1)

  package init() {}

  /// Begins a turn. Returns how long the process did not run since the turn before; zero if it ran.
  package mutating func turn(at instant: Instant) -> Duration {
    defer { last = instant }
    guard let last, instant - last > SteadyClock.longestTurn else { return .zero }
    leftOut += instant - last
    return instant - last
  }

  /// The time of this clock at an instant of the monotonic clock.
  package func time(at instant: Instant) -> Instant { Instant(nanoseconds: instant.nanoseconds - leftOut.nanoseconds) }

  /// The instant of the monotonic clock at which this clock will show `time`, if the process keeps running until
  /// then.
  package func instant(of time: Instant) -> Instant { time + leftOut }

  /// Begins a turn and returns the time of this clock.
  package mutating func now(at instant: Instant) -> Instant {
    _ = turn(at: instant)
    return time(at: instant)
  }
}
