// Watching a run until it ends, wherever it runs: events from a feed to the view, Ctrl-C from the user to the feed.

import Configuration
import Glibc
import Shell

/// Where the events of one run come from.
protocol RunFeed {
  /// What happened since the last call; waits up to `milliseconds` for something to happen. The last event of all is `.ended`.
  mutating func next(withinMilliseconds milliseconds: Int) throws -> [RunEvent]

  /// Asks for the end of the run; `.ended(.cancelled, …)` follows.
  mutating func cancel() throws
}

enum RunWatch {
  /// How long a cancelled run may take to say that it ended: a step and a word from each worker.
  private static let cancelSeconds = 20.0

  /// Shows the run until it has ended.
  static func follow(_ feed: inout some RunFeed, in view: RunView) throws -> ExitCode {
    var view = view
    var cancelled: Double?
    while true {
      for event in try feed.next(withinMilliseconds: 100) {
        Terminal.write(view.text(for: event, at: now))
        if case .ended(let outcome, _) = event { return outcome.exitCode }
      }
      if Interrupt.isRequested, cancelled == nil {
        cancelled = now
        Terminal.write(view.text(for: .said("cancelling; once more ends at once"), at: now))
        try feed.cancel()
      }
      if let cancelled, now - cancelled > cancelSeconds {
        let reason = "the coordinator did not confirm within \(Int(cancelSeconds)) s"
        Terminal.write(view.text(for: .ended(.cancelled, reason: reason), at: now))
        return .failed
      }
    }
  }

  /// The view that suits where standard output goes.
  static func view(json: Bool) -> RunView {
    if json { return RunView(.json) }
    return Terminal.isTerminal ? RunView(.terminal(columns: Terminal.columns)) : RunView(.lines(every: 0))
  }

  /// Seconds of the clock that only goes forward.
  private static var now: Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
}
