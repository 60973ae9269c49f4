// Which checkpoints stay. Whatever the rules say, a run never loses its newest checkpoint that verifies, and nothing is removed
// before that one has been read again, whole.

import Configuration
import Foundation

extension CheckpointFolder {
  /// Removes older checkpoints of a run: the newest `keep` stay (0: all), and those of every `every` steps (0: none). Returns
  /// the names of those that went.
  package static func retain(
    _ folder: String, newest keep: Int, every: Int, _ boundary: Boundary = .none
  ) throws(FolderError) -> [String] {
    let all = steps(folder)
    guard keep > 0, all.count > keep else { return [] }
    guard let whole = try CheckpointFolder.newest(folder, boundary)?.manifest.step else { return [] }
    let newest = Set(all.suffix(keep))
    let leaving = all.filter { step in
      !newest.contains(step) && step != whole && !(every > 0 && step.isMultiple(of: every))
    }
    var removed: [String] = []
    for step in leaving {
      let path = finished(folder, step: step)
      // Renamed first: a removal that is cut short leaves what counts as unfinished, not half a checkpoint.
      let aside = path + ".removed.tmp"
      try Durable.replaceFolder(aside, by: path)
      try Durable.removeFolder(aside)
      removed.append(CheckpointManifest.folderName(step: step))
    }
    return removed
  }
}
