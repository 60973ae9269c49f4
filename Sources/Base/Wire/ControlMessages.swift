// Every message of the control plane: requests of workers and commands to the coordinator, and its replies.
//
// Requests and replies are not paired. A worker sends `hello` and then heartbeats and reports; the coordinator
// answers each of them with `welcome` or `alive`, and sends `assigned`, `begin`, `halt` and `stop` whenever it
// decides to. Messages arrive in order and at most once (`ReliableLink`), but either process may restart and forget
// the conversation. Therefore every message of a worker names its generation, reports are numbered and repeated
// until they are acknowledged, and a heartbeat describes the worker's whole state.

import Configuration

/// A message to the coordinator.
package enum Request: Codable, Equatable, Sendable {
  // From workers
  /// Joins the cluster, or returns to it after a lost connection. The heartbeat tells the generation and the shards
  /// that the worker still has.
  case hello(WorkerDescription, Heartbeat)
  case heartbeat(Heartbeat)
  /// The worker's report number `number` in the generation, counted from 1. The worker repeats it until an
  /// acknowledgement (`noted`) covers it.
  case report(generation: UInt32, number: Int, Report)
  /// The worker's process ends, for the given reason.
  case goodbye(reason: String)

  // From commands
  case submit(Submission)
  /// Asks for the events of a run that follow event number `after`. The coordinator answers as soon as there is one.
  case follow(run: String, after: Int)
  case change(run: String, RunChange)
  case status
  /// Asks for a run's configuration, folder and owner.
  case describe(run: String)
}

/// What a worker reports of its generation. Reports are numbered, so that none is lost or counted twice when the
/// coordinator is restarted.
package enum Report: Codable, Equatable, Sendable {
  /// Digests of the dataset and tokenizer that this worker reads. It is sent before `ready`.
  case reads(DataIdentity)
  /// Data, model and state are loaded; the worker can begin.
  case ready
  case stepDone(StepRecord)
  case evaluated(EvaluationRecord)
  case examined(RouterRecord)
  /// The slowest connection between the workers of the generation, measured before its first step.
  case measured(ExpertCopies.Line)
  /// This worker's files of the checkpoint of `step` are on disk.
  case saved(step: Int, files: [CheckpointManifest.File])
  case saveFailed(step: Int, reason: String)
  /// All workers have stopped after `step` steps, as the coordinator asked. `held` lists the shards that this one
  /// has in memory.
  case halted(step: Int, held: [HeldShard])
  /// Two workers computed the same unit and their results differ. No worker applied the step.
  case disagreed(Disagreement)
  /// A shard that this worker was expected to hold, or that another was to send to it, is missing.
  case lacking(reason: String)
  /// The path of the run's folder leads to another folder on this worker's host than on the coordinator's.
  case folderUnseen(reason: String)
  /// This worker has done all steps of the run.
  case finished
  case failed(reason: String)
}

/// A message from the coordinator.
package enum Reply: Codable, Equatable, Sendable {
  // To workers
  /// The worker has joined. After `patienceSeconds` of silence each side considers the other lost. This answers a
  /// `hello` that named generation `asked`: where `keep` is another number, the worker drops that generation.
  /// `noted` is the number of the worker's reports in it that were stored.
  case welcome(worker: WorkerID, patienceSeconds: Double, asked: UInt32, keep: UInt32, noted: Int)
  /// The answer to a heartbeat.
  case alive(generation: UInt32, noted: Int)
  case assigned(Assignment)
  /// All members are ready; training begins. The last `leftOut` steps before the generation's first were not
  /// applied. Each worker stops by itself after `training.skip_at_most` such steps in a row, and continues counting
  /// from this number.
  case begin(generation: UInt32, leftOut: Int, evaluations: EvaluationStanding? = nil)
  /// Stop after the current step, all members after the same one; with `saving`, write a checkpoint there first.
  case halt(generation: UInt32, saving: Bool, reason: String)
  /// Stop immediately, within a step.
  case stop(generation: UInt32, reason: String)
  /// Write one file of a damaged checkpoint again, from a shard that this worker still holds.
  case rewrite(RewriteOrder)
  /// The coordinator does not know the worker, which must send a `hello` before anything else.
  case unknownWorker

  // To commands
  /// The run was accepted. Its first new event follows event number `after`, which is not 0 for a run that was
  /// resumed.
  case submitted(run: RunID, name: String, after: Int)
  /// Events of a run, numbered from `first`. With `isEnd`, the last of them is the last of the run.
  case events(run: RunID, first: Int, [RunEvent], isEnd: Bool)
  /// A change was accepted; the sentence tells the user what will happen.
  case accepted(run: RunID, name: String, String)
  case status(ClusterStatus)
  case described(RunDetails)

  /// The request could not be read, or was read and cannot be met.
  case refused(reason: String)
}

/// A request to train: what `ress submit`, `ress train` and `ress resume` send.
package struct Submission: Codable, Equatable, Sendable {
  package var configuration: RunConfiguration
  package var resume: Resume
  /// Identifies the submission, so that a repeated request does not start a second run; nil where the client never
  /// repeats it.
  package var key: String?
  /// The public key of the user who submitted the run. The coordinator fills it in from the connection; nil without
  /// encryption.
  package var owner: PublicKey?
  /// What the client expects the run to cost; nil where it made no forecast.
  package var forecast: Forecast?
  /// Whether a resumed run may read another dataset than before; nil means no.
  package var acceptsOtherData: Bool?
  /// Whether the checkpoint to resume from may have been trained with other numerics; nil means no.
  package var acceptsOtherNumerics: Bool?
  /// Sentences about the data that the client adds to the run's events; nil for none.
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

/// A change that a user asks for in a run that was submitted before.
package enum RunChange: Codable, Equatable, Sendable {
  case cancel
  /// Write a checkpoint after the current step and release the workers.
  case pause
  /// Pause immediately, without a checkpoint. It is sent by a process that started the run's workers and saw them
  /// end for good.
  case abandon(reason: String)
  /// Continue a run that was paused, cancelled or failed, from its newest state.
  case resume
  /// Train with another number of workers.
  case scale(workers: Int)
  /// Write files of a damaged checkpoint again from the shards that workers still hold.
  case repair(step: Int, generation: UInt32, shards: [Int])
}
