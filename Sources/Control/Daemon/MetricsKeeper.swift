// Keeps the files of runs' curves complete. Each line is in the store before it is written to its file. So if a write
// failed (a full disk, no descriptors, a missing folder), the file is completed from the store: as soon as that is
// possible, and at the run's end.
//
//   complete → (a line fails) → incomplete → (it is time, or the run ends) → in work → complete, or incomplete again
//
// Used by the coordinator's thread; the writing itself is on the disk's queue, in order.

import Coordination
import RunFolder
import Wire

struct MetricsKeeper {
  private struct Incomplete {
    var folder: String
    /// Whether the disk's queue is completing the file now.
    var isInWork = false
    /// A line failed that the work in progress may not include.
    var failedMeanwhile = false
    var tryAt: Instant
  }

  /// The result of work on the disk's queue.
  enum Outcome: Sendable {
    case lineFailed(RunID, folder: String, reason: String)
    case completed(RunID)
    case completingFailed(RunID, folder: String, reason: String)
  }

  private var incomplete: [RunID: Incomplete] = [:]
  static let tryEvery = Duration.seconds(5)

  /// Whether a line is to be appended now. An incomplete file gets its lines from the store; lines that arrive while
  /// that is in work are appended after it.
  func appends(_ run: RunID) -> Bool { incomplete[run].map(\.isInWork) ?? true }

  /// Handles a result. Returns a sentence for the run's story.
  mutating func note(_ outcome: Outcome, at now: Instant) -> (run: RunID, sentence: String)? {
    switch outcome {
    case .lineFailed(let run, let folder, let reason):
      guard incomplete[run] == nil else {
        incomplete[run]!.failedMeanwhile = true
        return nil
      }
      return markIncomplete(run, folder, reason, now)
    case .completingFailed(let run, let folder, let reason): return markIncomplete(run, folder, reason, now)
    case .completed(let run):
      guard let state = incomplete[run] else { return nil }
      if state.failedMeanwhile {
        incomplete[run] = Incomplete(folder: state.folder, tryAt: now)
        return nil
      }
      incomplete[run] = nil
      return (run, "metrics.jsonl is complete again: the missing lines were written from the store")
    }
  }

  private mutating func markIncomplete(_ run: RunID, _ folder: String, _ reason: String, _ now: Instant)
    -> (run: RunID, sentence: String)?
  {
    let isNews = incomplete[run] == nil
    incomplete[run] = Incomplete(folder: folder, tryAt: now + MetricsKeeper.tryEvery)
    guard isNews else { return nil }
    return (
      run, "\(reason); the run continues, and the missing lines are written from the store as soon as that is possible"
    )
  }

  /// Files that are to be completed now. The file of a run that is `ending` does not wait for its retry time.
  mutating func due(at now: Instant, ending: RunID? = nil) -> [(run: RunID, folder: String)] {
    let runs = incomplete.filter { !$0.value.isInWork && ($0.value.tryAt <= now || $0.key == ending) }.keys.sorted()
    return runs.map { run in
      incomplete[run]!.isInWork = true
      incomplete[run]!.failedMeanwhile = false
      return (run, incomplete[run]!.folder)
    }
  }
}
