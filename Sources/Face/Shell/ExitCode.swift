// The exit codes of `ress`.

import Wire

package enum ExitCode: Int32, Sendable {
  case done = 0
  case failed = 1
  case wrongUse = 2
  case cannotBePlaced = 3
  /// 128 plus the number of the signal that ended the command, as in shells: SIGHUP, SIGINT, SIGTERM.
  case hungUp = 129
  case interrupted = 130
  case terminated = 143

  package init(signal: Int32) { self = ExitCode(rawValue: 128 + signal) ?? .failed }
}

/// The exit code for a process that follows a run, from the run's events.
package struct RunVerdict: Sendable {
  private var isPrepared = false
  private var isPlaced = false
  /// nil until the run has ended.
  package private(set) var exitCode: ExitCode?

  package init() {}

  package mutating func note(_ event: RunEvent) {
    switch event {
    // A run with no steps left needs no workers, so it cannot have ended because they were absent.
    case .began(_, let firstStep, let steps, _): isPrepared = firstStep < steps
    case .placed: isPlaced = true
    case .state(.finished, _): exitCode = .done
    // A valid run that never got its workers could not be placed; every other run failed.
    case .state(.failed, _), .state(.cancelled, _), .state(.paused, _):
      exitCode = isPrepared && !isPlaced ? .cannotBePlaced : .failed
    // The run was resumed.
    case .state(.queued, _), .state(.placing, _), .state(.running, _): exitCode = nil
    case .stepped, .evaluated, .examined, .saved, .said: break
    }
  }

  /// Whether the run has its workers.
  package var hasWorkers: Bool { isPlaced }
}
