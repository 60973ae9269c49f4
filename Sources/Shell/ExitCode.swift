// What `ress` ends with.

import Wire

package enum ExitCode: Int32, Sendable {
  case done = 0
  case failed = 1
  case wrongUse = 2
  case cannotBePlaced = 3
  /// 128 and the number of the signal that the command was ended by, as shells have it: SIGHUP, SIGINT, SIGTERM.
  case hungUp = 129
  case interrupted = 130
  case terminated = 143

  package init(signal: Int32) { self = ExitCode(rawValue: 128 + signal) ?? .failed }
}

/// What a run's events come to for the process that watched it.
package struct RunVerdict: Sendable {
  private var isPrepared = false
  private var isPlaced = false
  /// nil until the run has ended.
  package private(set) var exitCode: ExitCode?

  package init() {}

  package mutating func note(_ event: RunEvent) {
    switch event {
    // A run without a step left needs no workers, so whatever ends it is not their absence.
    case .began(_, let firstStep, let steps, _): isPrepared = firstStep < steps
    case .placed: isPlaced = true
    case .state(.finished, _): exitCode = .done
    // A run that was in order and never got its workers could not be placed; anything else failed.
    case .state(.failed, _), .state(.cancelled, _), .state(.paused, _):
      exitCode = isPrepared && !isPlaced ? .cannotBePlaced : .failed
    // It goes on after all.
    case .state(.queued, _), .state(.placing, _), .state(.running, _): exitCode = nil
    case .stepped, .evaluated, .examined, .saved, .said: break
    }
  }

  /// Whether the run has its workers.
  package var hasWorkers: Bool { isPlaced }
}
