// Only one coordinator at a time may write a run's folder. Two coordinators would mix their curves line by line, and
// each would remove the checkpoints that the other is writing. The lock is a file in the folder itself, so it is the
// same lock for every path to the folder.

import Configuration
import Coordination
import RunFolder
import Synchronization
import Wire

#if canImport(Glibc)
  import Glibc
#endif

final class FolderLocks: Sendable {
  private let held = Mutex<[String: FileLock]>([:])
  private let holder: String
  private let boundary: Boundary
  private static let lockName = "run.lock"

  /// - Parameters:
  ///   - holder: the name of this coordinator, which a second one reports.
  ///   - boundary: the folders in which locks may be made, after links are followed.
  init(holder: String, _ boundary: Boundary) { (self.holder, self.boundary) = (holder, boundary) }

  func holds(_ folder: String) -> Bool { held.withLock { $0[folder] != nil } }

  /// Takes the lock of an existing folder, if it is not held already. Returns a warning if the file system has no
  /// locks: the run then continues without one.
  @discardableResult
  func take(_ folder: String) throws(FolderError) -> String? {
    guard !holds(folder) else { return nil }
    return try boundary.within(folder) { (pinned) throws(FolderError) in try take(pinned) }
  }

  private func take(_ folder: PinnedFolder) throws(FolderError) -> String? {
    do throws(LockError) {
      let lock = try FileLock(folder.path + "/" + FolderLocks.lockName, holder: holder)
      held.withLock { $0[folder.name] = lock }
      return nil
    } catch {
      switch error {
      case .held(let other): throw .inUse(path: folder.name, holder: other)
      case .failed(let path, let reason, let code):
        guard error.hasNoLocks else { throw .system(action: "lock", path: path, reason: reason, code: code) }
        return folder.spoken(
          "\(path) cannot be locked (\(reason)), so nothing keeps another coordinator from writing this run")
      }
    }
  }

  func release(_ folder: String) { held.withLock { $0[folder] = nil } }

  /// Runs `body` with the lock, and releases it afterwards if it was not held before.
  func during<Result>(_ folder: String, _ body: () throws(FolderError) -> Result) throws(FolderError) -> Result {
    let wasHeld = holds(folder)
    try take(folder)
    defer { if !wasHeld { release(folder) } }
    return try body()
  }

  static func folder(of submission: Submission) -> String {
    RunFolderWork.absolute(submission.configuration.checkpoint.directory) + "/" + submission.configuration.run
  }

  /// Prepares a run's folder while holding its lock, which is kept if the run is ready. A folder that does not exist
  /// yet is locked after it was made. Also returns a warning if the file system has no locks.
  func prepare(
    _ folder: String, _ body: () throws(FolderError) -> Event.Preparation
  ) throws(FolderError) -> (Event.Preparation, note: String?) {
    let wasHeld = holds(folder)
    var note = access(folder, F_OK) == 0 ? try take(folder) : nil
    let preparation: Event.Preparation
    do throws(FolderError) { preparation = try body() } catch {
      if !wasHeld { release(folder) }
      throw error
    }
    switch preparation {
    case .ready:
      if note == nil { note = try take(folder) }
    case .refused:
      if !wasHeld { release(folder) }
    }
    return (preparation, note)
  }
}
