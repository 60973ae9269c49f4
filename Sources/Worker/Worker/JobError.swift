// The errors that keep a worker out of a generation; their text is the reason that the coordinator records.

import Wire

/// Why a worker cannot take part in a generation.
package enum JobError: Error, CustomStringConvertible {
  case shardGone(step: Int, index: Int)
  /// The dataset at the configured path is not the one that the run reads.
  case otherData(String)
  /// The checkpoint was trained by a program whose arithmetic is another.
  case otherNumerics(String)
  /// `training.freeze` does not fit the model.
  case freeze(String)
  case folderUnseen(folder: String, isAnother: Bool)
  case doesNotFit(String)

  var isUnseenFolder: Bool { if case .folderUnseen = self { true } else { false } }

  package var description: String {
    switch self {
    case .doesNotFit(let complaint): complaint
    case .folderUnseen(let folder, let isAnother):
      "\(folder), the run's folder, is not the folder that the coordinator sees: its file \(Assignment.tokenName) "
        + (isAnother ? "holds something else" : "is not there")
        + "; checkpoint.directory must be on a file system that all machines of the run share"
    case .shardGone(let step, let index): "shard \(index) of step \(step) is no longer in this worker's memory"
    case .otherData(let what), .otherNumerics(let what), .freeze(let what): what
    }
  }
}
