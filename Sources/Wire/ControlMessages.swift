// Every message of the control plane: workers and commands to the coordinator, and back.

import Configuration

/// To the coordinator.
package enum Request: Codable, Equatable, Sendable {
  // From workers
  /// Joins, or comes back: the heartbeat says what the worker works for and holds.
  case hello(WorkerDescription, Heartbeat)
  case heartbeat(Heartbeat)
  /// The `number`-th report of this worker in the generation, from 1. Reports are said again until `noted` covers them.
  case report(generation: UInt32, number: Int, Report)
  /// The process ends, and why.
  case goodbye(reason: String)

  // From commands
  case submit(Submission)
  /// Events of a run after the `after`-th: at once where there are any, else when there are.
  case follow(run: String, after: Int)
  case change(run: String, RunChange)
  case status
}

/// What a worker tells of its generation. Each is counted, so that none is lost or taken twice when the coordinator dies.
package enum Report: Codable, Equatable, Sendable {
  /// What this worker finds at the dataset's path. It comes before `ready`.
  case reads(DataIdentity)
  /// Data, model and state are loaded.
  case ready
  case stepDone(StepRecord)
  case evaluated(EvaluationRecord)
  case examined(RouterRecord)
  /// This worker's files of a checkpoint are on disk.
  case saved(step: Int, files: [CheckpointManifest.File])
  case saveFailed(step: Int, reason: String)
  /// All workers have stopped at the boundary behind `step` steps, as they were asked to.
  case halted(step: Int, held: [HeldShard])
  /// The two computations of a unit differ; no worker applied the step.
  case disagreed(Disagreement)
  /// What this worker was counted on to hold, or what was sent to it, is not there.
  case lacking(reason: String)
  /// This worker does not see the folder that the coordinator sees under the path of the run's folder.
  case folderUnseen(reason: String)
  /// All steps of the run are done here.
  case finished
  case failed(reason: String)
}

/// From the coordinator.
package enum Reply: Codable, Equatable, Sendable {
  // To workers
  /// Joined. `patienceSeconds` of silence count as loss, on both sides. The answer to a hello of generation `asked`: where that is
  /// not `keep` the worker lets it go; `noted` of its reports in it have been taken.
  case welcome(worker: WorkerID, patienceSeconds: Double, asked: UInt32, keep: UInt32, noted: Int)
  /// Still here: the answer to a heartbeat.
  case alive(generation: UInt32, noted: Int)
  case assigned(Assignment)
  /// All are ready. The last `leftOut` steps before the generation's first were not applied: workers stop by themselves when
  /// `training.skip_at_most` is passed, so they count on from there.
  case begin(generation: UInt32, leftOut: Int)
  /// Stop at the next boundary of a step, all together; with `saving`, after a checkpoint there.
  case halt(generation: UInt32, saving: Bool, reason: String)
  /// Stop at once.
  case stop(generation: UInt32, reason: String)
  /// Write again a file of a checkpoint whose state this worker still holds.
  case rewrite(RewriteOrder)

  // To commands
  /// Its story goes on behind the `after`-th event: a run that was resumed has one already.
  case submitted(run: RunID, name: String, after: Int)
  /// Events of a run from number `first` on; `isEnd` where the last of them is the run's last.
  case events(run: RunID, first: Int, [RunEvent], isEnd: Bool)
  /// A change was accepted; the sentence says what will happen.
  case accepted(run: RunID, name: String, String)
  case status(ClusterStatus)

  /// The request was understood and cannot be met, or was not understood.
  case refused(reason: String)
}

package struct Submission: Codable, Equatable, Sendable {
  package var configuration: RunConfiguration
  package var resume: Resume
  /// One submission has one key, however often it is said; nil where nobody says it twice.
  package var key: String?
  /// Who submitted it: the coordinator's word, from the key of the connection; nil in the clear.
  package var owner: PublicKey?
  /// What the submitter expects the run to cost; nil where nothing was expected.
  package var forecast: Forecast?
  /// Whether a run that is resumed may read another dataset than before; nil: no.
  package var acceptsOtherData: Bool?
  /// Sentences for the run's story, from the submitter's look at the data; nil for none.
  package var notes: [String]?

  package enum Resume: Codable, Equatable, Sendable {
    /// A new run; its folder must hold no checkpoints.
    case no
    /// The newest checkpoint of the run that verifies.
    case newest
    case checkpoint(path: String)
  }

  package init(configuration: RunConfiguration, resume: Resume, key: String? = nil, forecast: Forecast? = nil) {
    self.configuration = configuration
    self.resume = resume
    self.key = key
    self.forecast = forecast
  }
}

/// What a user may ask of a run that was submitted.
package enum RunChange: Codable, Equatable, Sendable {
  case cancel
  /// Save at the next boundary of a step and let the workers go.
  case pause
  /// Pause at once, without a save: whoever started the run's workers knows that they are gone for good.
  case abandon(reason: String)
  /// Go on, from where it was paused, cancelled or failed.
  case resume
  /// Another number of workers.
  case scale(workers: Int)
  /// Write the files of damaged checkpoints again from what workers still hold.
  case repair(step: Int, generation: UInt32, shards: [Int])
}
