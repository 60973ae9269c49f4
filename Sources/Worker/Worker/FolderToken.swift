// Checks that this worker sees the same run folder as the coordinator, which has written a token into a file there.
//
// On a machine where the shared network file system is not mounted, the path may lead to a local folder, or to none
// and would be created. Files that such a worker saved there would be missing from every checkpoint.

import Foundation
import Kernels
import Wire

package enum FolderToken {
  /// How long to look for the token. A network file system may show a new file seconds after it was written.
  package static let patience = Duration.seconds(10)

  /// Blocks until the token's file is found.
  /// - Throws: `JobError.folderUnseen` where it is not found in time, `Stopped` where the generation ends first.
  package static func find(
    for assignment: Assignment, patience: Duration = FolderToken.patience, stopReason: () -> String?
  )
    throws
  {
    guard let token = assignment.token else { return }
    let path = assignment.folder + "/" + Assignment.tokenName
    let deadline = ContinuousClock.now + patience
    while true {
      // Listing the folder makes a network file system client refresh its cache.
      _ = try? FileManager.default.contentsOfDirectory(atPath: assignment.folder)
      let found = FileManager.default.contents(atPath: path)
      if found == Data(token.utf8) { return }
      if let reason = stopReason() { throw Stopped(reason: reason) }
      guard ContinuousClock.now < deadline else {
        throw JobError.folderUnseen(folder: assignment.folder, isAnother: found != nil)
      }
      Progress.note()
      Thread.sleep(forTimeInterval: 0.05)
    }
  }
}
