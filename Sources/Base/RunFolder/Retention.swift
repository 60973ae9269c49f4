// Removes old checkpoints of a run. Whatever the rules are, the newest checkpoint that verifies is kept, and
// nothing is removed before that one has been read completely.

import Configuration
import Foundation

#if canImport(Glibc)
  import Glibc
#endif

extension CheckpointFolder {
  /// Removes older checkpoints: the newest `keep` stay (0: all), those whose step is a multiple of `every` (0: none),
  /// and the `best` ones with the smallest validation losses. Returns the names of the removed ones.
  package static func retain(
    _ folder: String, newest keep: Int, every: Int, best: Int = 0, _ boundary: Boundary = .none
  ) throws(FolderError) -> [String] {
    let all = steps(folder)
    guard keep > 0, all.count > keep else { return [] }
    guard let whole = try CheckpointFolder.newest(folder, boundary)?.manifest.step else { return [] }
    let newest = Set(all.suffix(keep) + (best > 0 ? try byLoss(folder, boundary).prefix(best) : []))
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

  /// The steps of the checkpoints after which the model was evaluated, the smallest loss first; of equal ones the
  /// earliest first. Checkpoints whose manifests cannot be used are left out.
  private static func byLoss(_ folder: String, _ boundary: Boundary) throws(FolderError) -> [Int] {
    var losses: [(step: Int, loss: Double)] = []
    for step in steps(folder) {
      do throws(FolderError) {
        let manifest = try readManifest(finished(folder, step: step), boundary)
        if let loss = manifest.validationLoss, loss.isFinite { losses.append((step, loss)) }
      } catch {
        if error.isPassing { throw error }
      }
    }
    return losses.sorted { ($0.loss, $0.step) < ($1.loss, $1.step) }.map(\.step)
  }

  /// The name of the link to the checkpoint with the smallest validation loss.
  static let bestName = "best"

  /// Makes `best` a link to the checkpoint with the smallest validation loss, or removes it where there is none. At any
  /// time the link is complete.
  package static func linkBest(_ folder: String, _ boundary: Boundary = .none) throws(FolderError) {
    let link = folder + "/" + bestName
    let target = try byLoss(folder, boundary).first.map { CheckpointManifest.folderName(step: $0) }
    let present = try? FileManager.default.destinationOfSymbolicLink(atPath: link)
    guard present != target else { return }
    // Something else of that name is the user's own.
    guard present != nil || !FileManager.default.fileExists(atPath: link) else {
      throw .system(action: "replace", path: link, reason: "it is not a link")
    }
    guard let target else {
      guard unlink(link) == 0 || errno == ENOENT else { throw Durable.fail("remove", link) }
      return
    }
    let fresh = link + ".tmp"
    unlink(fresh)
    guard symlink(target, fresh) == 0, rename(fresh, link) == 0 else { throw Durable.fail("write", link) }
    try Durable.sync(folder)
  }
}
