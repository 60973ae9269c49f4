// Two threads that compute in turn, so that a team has two units under way: while the rows of one unit travel, the
// other unit computes.
//
//     lane 0   computes ── sends rows, passes ·················· takes results, computes ── …
//     lane 1   ··································· computes ── sends rows, passes ·········
//     peers             ··· compute the rows of lane 0 ···  ··· compute the rows of lane 1 ···
//
// When both lanes wait, the one that has the turn serves the rows of other workers until results arrive.
//
// Only the thread that has the turn runs, so everything that the two share (the team of kernel threads and its scratch
// memory) is used by one thread at a time, as if there were only one. A thread gives the turn away where it
// would wait (`pass`), and when it has ended. Which unit computes when depends on chance and does not matter: units
// write to separate memory, and their results are combined in the units' tree.
//
// Rejected: one thread that leaves a unit in the middle and returns to it later, which would turn every layer between
// the step and the exchange into a state machine.

#if canImport(Glibc)
  import Glibc
#endif

package final class Relay: @unchecked Sendable {
  /// Number of units of a team under way.
  package static let laneCount = 2

  /// The lane that has the turn. Only the thread that has it reads this.
  package private(set) var lane = 0
  private var isDone = [true, true]
  private var failure: (any Error)?
  private let team: Team
  private let lock = Lock()

  /// - Parameter team: its profile is told when the thread changes.
  package init(_ team: Team) { self.team = team }

  /// Whether there is another lane that has not ended.
  package var hasOther: Bool { !isDone[1 - lane] }

  /// Runs `body(0)` on this thread and `body(1)` on another one, in turn, beginning with 0. Returns when both have
  /// ended, and throws the first error of either; the other one then gets that error from its next `pass`.
  package func run(_ body: (Int) throws -> Void) throws {
    (lane, isDone, failure) = (0, [false, false], nil)
    withoutActuallyEscaping(body) { body in
      let second = Unmanaged.passRetained(
        Second { [self] in
          takeTurn(1)
          perform(1, body)
          giveTurn(to: 0)
        })
      var thread = pthread_t()
      let status = pthread_create(
        &thread, nil,
        { argument in
          Unmanaged<Second>.fromOpaque(argument!).takeRetainedValue().run()
          return nil
        }, second.toOpaque())
      precondition(status == 0, "cannot start a thread: error \(status)")
      perform(0, body)
      let paused = team.pauseProfile()
      giveTurn(to: 1)
      pthread_join(thread, nil)
      team.resumeProfile(paused)
    }
    if let failure { throw failure }
  }

  /// The argument of the second thread.
  private final class Second {
    let run: () -> Void
    init(_ run: @escaping () -> Void) { self.run = run }
  }

  /// Gives the turn to the other lane, and returns when it is given back. Returns at once where there is no other.
  package func pass() throws {
    let own = lane
    guard hasOther else { return }
    let paused = team.pauseProfile()
    giveTurn(to: 1 - own)
    takeTurn(own)
    team.resumeProfile(paused)
    if let failure { throw failure }
  }

  private func perform(_ own: Int, _ body: (Int) throws -> Void) {
    do {
      if let failure { throw failure }
      try body(own)
    } catch {
      failure = failure ?? error
    }
    isDone[own] = true
  }

  private func giveTurn(to other: Int) {
    lock.hold {
      lane = other
      lock.announce()
    }
  }

  private func takeTurn(_ own: Int) {
    lock.hold { while lane != own { lock.wait() } }
  }
}
