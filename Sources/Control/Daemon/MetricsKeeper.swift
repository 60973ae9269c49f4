// Keeps the files of runs' curves complete. Each line is in the store before it is written to its file. So if a write failed (a full disk,
// no descriptors, a missing folder), the file is completed from the store: as soon as that is possible, and at the run's end.
//
//   whole → (a line fails) → behind → (it is time, or the run ends) → mending → whole, or behind again
//
// Used by the coordinator's thread; the writing itself is on the disk's queue, in order.

import Coordination
import RunFolder
import Wire

struct MetricsKeeper {
  private struct Behind {
    var folder: String
    var isMending = false
    /// A line failed that the repair in progress may not include.
    var failedMeanwhile = false
    var tryAt: Instant
  }

  /// The result of work on the disk's queue.
  enum Outcome: Sendable {
    case lineFailed(RunID, folder: String, reason: String)
    case mended(RunID)
    case mendingFailed(RunID, folder: String, reason: String)
  }

  private var behind: [RunID: Behind] = [:]
  static let tryEvery = Duration.seconds(5)

  /// Whether a line is to be appended now. A file in the state `behind` gets its lines from the store; lines that arrive during the repair
  /// are appended after it.
  func appends(_ run: RunID) -> Bool { behind[run].map(\.isMending) ?? true }

  /// Handles a result. Returns a sentence for the run's story.
  mutating func note(_ outcome: Outcome, at now: Instant) -> (run: RunID, sentence: String)? {
    switch outcome {
    case .lineFailed(let run, let folder, let reason):
      guard behind[run] == nil else {
        behind[run]!.failedMeanwhile = true
        return nil
      }
      return fall(run, folder, reason, now)
    case .mendingFailed(let run, let folder, let reason): return fall(run, folder, reason, now)
    case .mended(let run):
      guard let state = behind[run] else { return nil }
      if state.failedMeanwhile {
        behind[run] = Behind(folder: state.folder, tryAt: now)
        return nil
      }
      behind[run] = nil
      return (run, "metrics.jsonl is complete again: the missing lines were written from the store")
    }
  }

  private mutating func fall(_ run: RunID, _ folder: String, _ reason: String, _ now: Instant)
    -> (run: RunID, sentence: String)?
  {
    let isNews = behind[run] == nil
    behind[run] = Behind(folder: folder, tryAt: now + MetricsKeeper.tryEvery)
    guard isNews else { return nil }
    return (
      run, "\(reason); the run continues, and the missing lines are written from the store as soon as that is possible"
    )
  }

  /// Files that are to be completed now. The file of a run that is `ending` does not wait for its retry time.
  mutating func due(at now: Instant, ending: RunID? = nil) -> [(run: RunID, folder: String)] {
    let runs = behind.filter { !$0.value.isMending && ($0.value.tryAt <= now || $0.key == ending) }.keys.sorted()
    return runs.map { run in
      behind[run]!.isMending = true
      behind[run]!.failedMeanwhile = false
      return (run, behind[run]!.folder)
    }
  }
}
