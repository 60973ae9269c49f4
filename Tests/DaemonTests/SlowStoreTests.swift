// A store that cannot be written for a while delays what depends on it, and nothing else.

import CSQLite
import Configuration
import Coordination
import Daemon
import Foundation
import TestSupport
import Testing
import Transport
import Wire

@Suite(.serialized) final class `A slow store` {
  private let folder = NSTemporaryDirectory() + "ress-slow-" + UUID().uuidString.prefix(8)

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  @Test func `effects leave the outbox in order, each after the changes before it are stored`() {
    var outbox = Outbox()
    let peer = PeerID("p")
    outbox.add(.action(.log("a")), after: 0)
    outbox.add(.action(.log("b")), after: 1)
    outbox.add(.answer(peer, .refused(reason: "c")), after: 1)
    outbox.add(.action(.log("d")), after: 2)
    #expect(outbox.next(stored: 0) == .action(.log("a")))
    #expect(outbox.next(stored: 0) == nil && outbox.holdsAnswer(for: peer))
    #expect(outbox.next(stored: 1) == .action(.log("b")))
    #expect(outbox.next(stored: 1) == .answer(peer, .refused(reason: "c")) && !outbox.holdsAnswer(for: peer))
    #expect(outbox.next(stored: 1) == nil && !outbox.isEmpty)
    #expect(outbox.next(stored: 2) == .action(.log("d")) && outbox.next(stored: 2) == nil && outbox.isEmpty)
    // A long queue keeps its order while it is compacted.
    for number in 0..<5000 { outbox.add(.action(.log("\(number)")), after: number / 7) }
    var seen: [Outbox.Effect] = []
    for stored in 0..<800 { while let effect = outbox.next(stored: stored) { seen.append(effect) } }
    #expect(seen == (0..<5000).map { .action(.log("\($0)")) } && outbox.isEmpty)
  }

  @Test
  func `while the store cannot be written, messages are acknowledged and nothing is answered; then all is, in order`()
    throws
  {
    var options = CoordinatorDaemon.Options(listen: "ipc://\(folder)/c", program: "ress test")
    options.store = folder + "/store.db"
    let daemon = try CoordinatorDaemon(options)
    daemon.start()
    defer { daemon.stop() }
    let context = try SocketContext()
    let client = try ControlConnection(to: daemon.endpoint, incarnation: 77, context)
    var replies: [Reply] = []
    func turn() {
      let now = MonotonicClock.now
      client.receive(at: now) {
        replies.append($0)
      } restarted: {
      } unreadable: {
        Issue.record("\($0)")
      }
      client.tick(at: now)
    }
    func wait(until isDone: () -> Bool) {
      #expect(
        waitUntil {
          turn()
          return isDone()
        })
    }
    client.send(.status, at: MonotonicClock.now)
    wait { replies.count == 1 }

    // Another connection holds SQLite's only place for a writer, as a disk that does not respond would.
    var other: OpaquePointer?
    #expect(sqlite3_open(options.store, &other) == SQLITE_OK)
    defer { sqlite3_close(other) }
    #expect(sqlite3_exec(other, "BEGIN IMMEDIATE", nil, nil, nil) == SQLITE_OK)
    var configuration = RunConfiguration()
    configuration.run = "delayed"
    configuration.data.path = "/none/d.h5"
    configuration.checkpoint.directory = folder + "/checkpoints"
    client.send(.submit(Submission(configuration: configuration, resume: .no)), at: MonotonicClock.now)
    wait { client.isIdle }
    // The coordinator's loop runs: it takes further messages, of which it answers none before the change is stored.
    for _ in 0..<3 {
      client.send(.status, at: MonotonicClock.now)
      wait { client.isIdle }
    }
    #expect(replies.count == 1)
    #expect(sqlite3_exec(other, "COMMIT", nil, nil, nil) == SQLITE_OK)
    wait { replies.count == 5 }
    guard replies.count == 5 else { return }
    if case .submitted = replies[1] {} else { Issue.record("the first reply is \(replies[1])") }
    for reply in replies[2...] {
      if case .status(let status) = reply {
        #expect(status.runs.map(\.name) == ["delayed"])
      } else {
        Issue.record("\(reply)")
      }
    }
  }
}
