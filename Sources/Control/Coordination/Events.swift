// What the coordinator is told, and what it wants done.

import Configuration
import Wire

package enum Event: Equatable, Sendable {
  case received(PeerID, Request)
  case tick
  /// The process's connection was closed, and nothing has arrived from it over another one since.
  case disconnected(PeerID)
  /// A process has been silent for so long that nothing more is kept for it.
  case forgotten(PeerID)
  case prepared(RunID, Preparation)
  case committed(RunID, step: Int, path: String)
  /// `isFinal`: its files are gone or damaged, so that trying again is of no use.
  case commitFailed(RunID, step: Int, reason: String, isFinal: Bool = false)
  /// A sentence for the run's story: its metrics file could not be written, or was written again from the store.
  case noted(RunID, String)
  /// Another coordinator has taken the run's folder while this one was away.
  case folderTaken(RunID, reason: String)

  package enum Preparation: Equatable, Sendable {
    /// `notes` are sentences for the run's story, such as that a checkpoint was skipped. `proof` is what the step after the checkpoint gave
    /// when it was first computed. `data` is what the checkpoint was trained on. The last `leftOut` steps before the checkpoint were not
    /// applied. `token` was written into a file of the folder.
    case ready(
      folder: String, checkpoint: String?, firstStep: Int, proof: StepMark?, notes: [String], data: DataIdentity? = nil,
      leftOut: Int = 0, token: String? = nil)
    case refused(reason: String)
  }
}

package enum Action: Equatable, Sendable {
  /// Commit these before anything that follows.
  case store([StoreChange])
  case send(PeerID, Reply)
  /// A page of a run's events, of which there are `count`; `ended`: no more will come.
  case sendEvents(PeerID, RunID, after: Int, count: Int, ended: Bool)
  /// What `status` returns at the moment of sending.
  case sendStatus(PeerID)
  /// What `details` returns at the moment of sending.
  case sendDetails(PeerID, RunID)
  /// Look at the run's folder: remove unfinished saves, find the checkpoint to begin from, refuse to overwrite. With `again`
  /// the folder is the run's own already, and recorded steps stay.
  case prepareRun(RunID, Submission, again: Bool)
  /// All files of a checkpoint are on disk: write its manifest and make it count.
  case commit(RunID, CheckpointManifest, folder: String)
  /// Write what the step after a checkpoint gave beside it.
  case prove(checkpoint: String, StepMark)
  /// Add to the run's metrics file what it lacks of the stored events: the coordinator before may have died between the two.
  case completeMetrics(RunID, folder: String)
  /// Lock the run's folder, so that no other coordinator writes there until it is released.
  case takeFolder(RunID, folder: String)
  case releaseFolder(RunID, folder: String)
  /// Append to the run's metrics file.
  case record(RunID, RunEvent, folder: String)
  case log(String)
  /// A line about something refused. A hostile peer can cause any number of them, so the daemon limits how many it prints.
  case complain(String)
}
