// A clock that leaves out the time in which its process could not act.
//
// A process that is stopped (SIGSTOP), paused with its virtual machine, swapped out or kept waiting by a disk finds on its first
// turn afterwards that nobody has spoken for as long. It was not the others who were silent: their messages wait in its sockets. A
// process that counts silences therefore counts them in this time, in which nothing passes between two turns that are far apart.
// Without it, a coordinator that was stopped for 12 s declared healthy workers lost on its first turn.

package struct SteadyClock: Equatable, Sendable {
  private var last: Instant?
  private var leftOut = Duration.zero

  /// Turns come at least four times a second, so a second without one is time in which the process did not run.
  package static let longestTurn = Duration.seconds(1)

  package init() {}

  /// Begins a turn. Returns how long the process stood still since the turn before; zero where it did not.
  package mutating func turn(at instant: Instant) -> Duration {
    defer { last = instant }
    guard let last, instant - last > SteadyClock.longestTurn else { return .zero }
    leftOut += instant - last
    return instant - last
  }

  /// The steady time of an instant.
  package func time(at instant: Instant) -> Instant { Instant(nanoseconds: instant.nanoseconds - leftOut.nanoseconds) }

  /// The instant of a steady time, if nothing more is left out until then.
  package func instant(of time: Instant) -> Instant { time + leftOut }

  /// Begins a turn, and returns its steady time.
  package mutating func now(at instant: Instant) -> Instant {
    _ = turn(at: instant)
    return time(at: instant)
  }
}
