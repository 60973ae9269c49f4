// Whether a worker sees the run's folder: the coordinator has written a token into a file there. A machine on which a network file system
// is not mounted has a folder of that path too, or makes one, and what it saves there is no part of any checkpoint.

import Foundation
import Kernels
import Wire

package enum FolderToken {
  /// A network file system may show a new file late.
  package static let patience = Duration.seconds(10)

  /// Waits until the token is there.
  /// - Throws: `JobError.folderUnseen` where it does not come, `Stopped` where the generation is over meanwhile.
  package static func find(
    for assignment: Assignment, patience: Duration = FolderToken.patience, stopReason: () -> String?
  )
    throws
  {
    guard let token = assignment.token else { return }
    let path = assignment.folder + "/" + Assignment.tokenName
    let deadline = ContinuousClock.now + patience
    while true {
      // The listing makes a network file system look again.
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
