// Removes old checkpoints of a run. Whatever the rules are, the newest checkpoint that verifies is kept, and
// nothing is removed before that one has been read completely.

import Configuration
import Foundation

extension CheckpointFolder {
  /// Removes older checkpoints: the newest `keep` stay (0: all), and those whose step is a multiple of `every` (0:
  /// none). Returns the names of the removed ones.
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
      // Renamed first: if the removal is interrupted, the rest counts as an uncommitted checkpoint and not as a
      // damaged one.
      let aside = path + ".removed.tmp"
      try Durable.replaceFolder(aside, by: path)
      try Durable.removeFolder(aside)
      removed.append(CheckpointManifest.folderName(step: step))
    }
    return removed
  }
}
