// The coordinator's input and output: events and actions.

import Configuration
import Wire

package enum Event: Equatable, Sendable {
  case received(PeerID, Request)
  case tick
  /// The process's connection was closed, and no message has arrived from it over another one since.
  case disconnected(PeerID)
  /// A process has been silent for so long that its connection's state is dropped.
  case forgotten(PeerID)
  case prepared(RunID, Preparation)
  case committed(RunID, step: Int, path: String)
  /// `isFinal`: its files are gone or damaged, so that another attempt cannot succeed.
  case commitFailed(RunID, step: Int, reason: String, isFinal: Bool = false)
  /// A sentence for the run's story: its metrics file could not be written, or was written again from the store.
  case noted(RunID, String)
  /// Another coordinator took the run's folder while this one was not running.
  case folderTaken(RunID, reason: String)

  var isHeartbeat: Bool { if case .received(_, .heartbeat) = self { true } else { false } }

  package enum Preparation: Equatable, Sendable {
    case ready(Beginning)
    case refused(reason: String)
  }

  /// Where a run begins or continues, according to its folder.
  package struct Beginning: Equatable, Sendable {
    package var folder: String
    /// The run's checkpoint to continue from; nil: it begins at step 0.
    package var checkpoint: String?
    package var firstStep: Int
    /// The proof of the checkpoint: the results of the step after it when that step was first computed.
    package var proof: StepMark?
    /// Sentences for the run's story, such as that a checkpoint was skipped.
    package var notes: [String]
    /// The data that the checkpoint was trained on.
    package var data: DataIdentity?
    /// The last `leftOut` steps before the checkpoint were not applied.
    package var leftOut: Int
    /// The content of a file that was written into the folder.
    package var token: String?
    /// The checkpoint of another run whose weights the run begins or began with; nil: those of the seed.
    package var from: WeightSource?
    /// The best evaluation up to the checkpoint.
    package var evaluations: EvaluationStanding?

    package init(
      folder: String, checkpoint: String?, firstStep: Int, proof: StepMark?, notes: [String],
      data: DataIdentity? = nil, leftOut: Int = 0, token: String? = nil, from: WeightSource? = nil,
      evaluations: EvaluationStanding? = nil
    ) {
      self.folder = folder
      self.checkpoint = checkpoint
      self.firstStep = firstStep
      self.proof = proof
      self.notes = notes
      self.data = data
      self.leftOut = leftOut
      self.token = token
      self.from = from
      self.evaluations = evaluations
    }
  }
}

package enum Action: Equatable, Sendable {
  /// Commit these changes before any later action.
  case store([StoreChange])
  case send(PeerID, Reply)
  /// A page of a run's events, of which there are `count`; `ended`: there will be no further ones.
  case sendEvents(PeerID, RunID, after: Int, count: Int, ended: Bool)
  /// The result of `status` at the moment of sending.
  case sendStatus(PeerID)
  /// The result of `details` at the moment of sending.
  case sendDetails(PeerID, RunID)
  /// Examine the run's folder: remove unfinished checkpoints, find the checkpoint to begin from, refuse to overwrite
  /// another run. With `again` the folder is known to be the run's own, and recorded steps are kept. `from` is the
  /// checkpoint whose weights the run began with, if it is known already.
  case prepareRun(RunID, Submission, again: Bool, from: WeightSource?)
  /// All files of a checkpoint are on disk: write its manifest and commit it.
  case commit(RunID, CheckpointManifest, folder: String)
  /// Write the proof of a checkpoint into its folder.
  case prove(checkpoint: String, StepMark)
  /// Add the stored events that the run's metrics file lacks: the previous process may have died between the two
  /// writes.
  case completeMetrics(RunID, folder: String)
  /// Lock the run's folder, so that no other coordinator writes there until it is released.
  case takeFolder(RunID, folder: String)
  case releaseFolder(RunID, folder: String)
  /// Run the command of `cluster.on_end`, because the run has ended or is paused.
  case runCommand(RunID, Ending)
  /// Append to the run's metrics file.
  case record(RunID, RunEvent, folder: String)
  case log(String)
  /// A line about a refused message. A hostile peer can cause any number of them, so the daemon limits their rate.
  case complain(String)
}

/// How a run ended or paused, for the command of `cluster.on_end`.
package struct Ending: Equatable, Sendable {
  package var command: String
  package var name: String
  package var state: RunState
  package var reason: String
  /// Empty where the run never had a folder.
  package var folder: String

  package init(command: String, name: String, state: RunState, reason: String, folder: String) {
    self.command = command
    self.name = name
    self.state = state
    self.reason = reason
    self.folder = folder
  }
}
