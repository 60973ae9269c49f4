// Commits the coordinator's changes on a queue of their own, so that a slow disk does not stop the coordinator's loop.
// While an fsync takes its time, the loop still receives, acknowledges packets and keeps its clocks; what depends on
// the changes waits in the `Outbox`. Changes that arrive during a commit go into the next one together, so a slow disk
// makes fewer and larger transactions.

import Dispatch
import RunStore
import Synchronization
import Transport
import Wire

final class StoreWriter: @unchecked Sendable {
  /// What the writer reports besides its progress.
  struct Reports: Sendable {
    /// A batch was stored, or no batch will ever be stored again.
    var progress: @Sendable () -> Void
    /// A sentence for the log and for the user: the store cannot be written for now, or can be written again.
    var alarm: @Sendable (String) -> Void
    /// The store is broken.
    var fail: @Sendable (String) -> Void
  }

  private struct State {
    var waiting: [StoreChange] = []
    var waitingBytes = 0
    /// Numbers of the last batch that was added, and of the last that is on disk.
    var added = 0
    var stored = 0
    var isBroken = false
    var isClosing = false
  }

  /// Changes that may wait. With more of them the loop stops receiving, so that memory stays bounded.
  static let waitingLimitBytes = 64 << 20
  private static let retrySeconds = 0.5
  private static let reminderEvery = Duration.seconds(60)

  private let store: RunStore
  private let queue = DispatchQueue(label: "ress.coordinator.store")
  private let state = Mutex(State())
  private let closing = DispatchSemaphore(value: 0)
  private let reports: Reports
  /// A store in memory is written at once.
  private let isInMemory: Bool

  init(_ store: RunStore, _ reports: Reports) {
    self.store = store
    self.reports = reports
    isInMemory = store.path == ":memory:"
  }

  /// The number of the newest batch: what depends on all changes so far may be done once it is stored.
  var added: Int { state.withLock { $0.added } }
  /// The number of the last batch that is on disk.
  var stored: Int { state.withLock { $0.stored } }
  /// Whether the store is broken; then nothing that waits is ever done.
  var isBroken: Bool { state.withLock { $0.isBroken } }
  var isFull: Bool { state.withLock { $0.waitingBytes > Self.waitingLimitBytes } }

  /// Adds the changes of a turn, which are stored all or none.
  func add(_ changes: [StoreChange]) {
    guard !changes.isEmpty else { return }
    state.withLock { state in
      state.waiting += changes
      state.waitingBytes += changes.reduce(0) { $0 + $1.byteCount }
      state.added += 1
    }
    if isInMemory { queue.sync { commitWaiting() } } else { queue.async { self.commitWaiting() } }
  }

  /// Commits what waits, and returns. A write that the disk refuses is not repeated from now on.
  func finish() {
    state.withLock { $0.isClosing = true }
    closing.signal()
    queue.sync { commitWaiting() }
  }

  /// Commits what waits, and closes the store.
  func close() {
    finish()
    store.close()
  }

  /// A source of stored events for one thread.
  func events() throws(StoreError) -> StoredEvents {
    if isInMemory {
      return StoredEvents { [self] (run, after, limit) throws(StoreError) in
        let rows = queue.sync {
          Result { () throws(StoreError) in try store.events(of: run, after: after, limit: limit) }
        }
        return try rows.get()
      }
    }
    let reader = try StoryReader(path: store.path)
    return StoredEvents { (run, after, limit) throws(StoreError) in
      try reader.events(of: run, after: after, limit: limit)
    }
  }

  /// On the queue: one transaction of all that waits. A write that fails because the disk is full or does not respond
  /// is repeated until it succeeds or the process ends.
  private func commitWaiting() {
    let (changes, batch) = state.withLock { state in
      defer { (state.waiting, state.waitingBytes) = ([], 0) }
      return (state.waiting, state.added)
    }
    guard !changes.isEmpty, !isBroken else { return }
    var remindAt: Instant?
    while true {
      do throws(StoreError) {
        try store.commit(changes)
        if remindAt != nil { reports.alarm("the store can be written again") }
        state.withLock { $0.stored = batch }
        return reports.progress()
      } catch {
        guard error.isPassing, !state.withLock({ $0.isClosing }) else {
          state.withLock { $0.isBroken = true }
          if !error.isPassing {
            reports.fail("\(error); no reply depended on a change that was not stored, and running workers continue")
          }
          return reports.progress()
        }
        let now = MonotonicClock.now
        if remindAt.map({ $0 < now }) ?? true {
          remindAt = now + Self.reminderEvery
          reports.alarm("\(error); nothing is answered until that is possible again; workers continue to train")
        }
        // The end of the process must not wait for the next try.
        if closing.wait(timeout: .now() + Self.retrySeconds) == .success { closing.signal() }
      }
    }
  }
}

/// Reads stored events, on one thread. A store on disk is read over a connection of its own, which does not wait for a
/// commit.
struct StoredEvents {
  private let read: (RunID, Int, Int) throws(StoreError) -> [(number: Int, event: [UInt8])]

  init(_ read: @escaping (RunID, Int, Int) throws(StoreError) -> [(number: Int, event: [UInt8])]) { self.read = read }

  /// Events of a run with numbers above `after`, in order, at most `limit`.
  func of(_ run: RunID, after: Int, limit: Int) throws(StoreError) -> [(number: Int, event: [UInt8])] {
    try read(run, after, limit)
  }
}

extension StoreChange {
  /// Its size in the store, without the store's own overhead.
  fileprivate var byteCount: Int {
    switch self {
    case .run(_, let bytes), .event(_, _, let bytes), .value(_, let bytes): bytes.count
    case .forget: 0
    }
  }
}
