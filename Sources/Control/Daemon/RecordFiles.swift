// The files with the records of a run (metrics.jsonl, router.jsonl), which its folder keeps for people and other
// programs. Every line is in the store before it is in its file, so a file that lacks lines can be completed from the
// store at any time. All work is done on the disk's queue, in the order in which it was ordered.

import Coordination
import Dispatch
import RunFolder
import RunStore
import Wire

final class RecordFiles: @unchecked Sendable {
  private let disk: DispatchQueue
  private let locks: FolderLocks
  private let boundary: Boundary
  /// Used on the queue only.
  private let events: StoredEvents
  private let inbox: Inbox

  init(
    _ disk: DispatchQueue, locks: FolderLocks, boundary: Boundary, events: StoredEvents,
    inbox: Inbox
  ) {
    (self.disk, self.locks, self.boundary, self.events, self.inbox) = (disk, locks, boundary, events, inbox)
  }

  /// Appends the line of an event.
  func append(_ event: RunEvent, of run: RunID, in folder: String) {
    disk.async { [self] in
      do throws(FolderError) {
        try boundary.within(folder) { (pinned) throws(FolderError) in
          try event.recordFile(in: pinned.path).append(event.metricsLine)
        }
      } catch {
        inbox.tell(.lineFailed(run, folder: folder, reason: "\(error)"))
      }
    }
  }

  /// Adds the lines up to a step that the files lack. The caller orders the appending of later lines after this.
  func complete(_ run: RunID, in folder: String, upTo step: Int) {
    disk.async { [self] in
      let curve: [String], router: [String]
      do throws(StoreError) { (curve, router) = try lines(of: run, upTo: step) } catch {
        return inbox.tell(.completingFailed(run, folder: folder, reason: "\(error)"))
      }
      do throws(FolderError) {
        try locks.during(folder) { () throws(FolderError) in
          try boundary.within(folder) { (pinned) throws(FolderError) in
            try MetricsFile(folder: pinned.path).complete(curve)
            if !router.isEmpty { try MetricsFile(routerIn: pinned.path).complete(router) }
          }
        }
        inbox.tell(.completed(run))
      } catch {
        inbox.tell(.completingFailed(run, folder: folder, reason: "\(error)"))
      }
    }
  }

  /// The lines that the files should contain according to the store: one curve, of the steps that count.
  private func lines(of run: RunID, upTo recorded: Int) throws(StoreError) -> (curve: [String], router: [String]) {
    var curve: [(step: Int, line: String)] = [], router: [(step: Int, line: String)] = []
    // A run that continued from an older step, with other numbers, has dropped its later steps.
    func keep(_ lines: inout [(step: Int, line: String)], _ step: Int, _ event: RunEvent) {
      if case .stepped = event { while let last = lines.last, last.step >= step { lines.removeLast() } }
      if step <= recorded { lines.append((step, event.metricsLine)) }
    }
    var after = 0
    while true {
      let rows = try events.of(run, after: after, limit: 1024)
      guard let last = rows.last else { return (curve.map(\.line), router.map(\.line)) }
      after = last.number
      for row in rows {
        switch try? RecordCodec.decode(RunEvent.self, from: row.event) {
        case .stepped(let record)?:
          router.removeAll { $0.step >= record.step }
          keep(&curve, record.step, .stepped(record))
        case .evaluated(let record)?: keep(&curve, record.step, .evaluated(record))
        case .examined(let record)?: keep(&router, record.step, .examined(record))
        case .began?, .state?, .placed?, .saved?, .said?, nil: break
        }
      }
    }
  }
}
