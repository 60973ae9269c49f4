// The coordinator's store: transactions are atomic and in order, whatever dies.

import Foundation
import RunStore
import Testing
import Wire

@Suite final class RunStoreTests {
  private let folder = NSTemporaryDirectory() + "ress-store-" + UUID().uuidString

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

  private func message(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
  }

  @Test func `records, events and values read back unchanged, and a deleted run leaves nothing`() throws {
    let path = folder + "/store.db"
    do {
      let store = try RunStore(path: path, holder: "test")
      try store.commit([
        .run(RunID(9), bytes("nine")), .run(RunID(3), bytes("three")), .value("counters", bytes("")),
        .event(RunID(9), number: 1, bytes("a")), .event(RunID(9), number: 2, bytes("b")),
      ])
      try store.commit([.run(RunID(9), bytes("nine again")), .value("counters", bytes("x"))])
    }
    let store = try RunStore(path: path, holder: "test")
    #expect(try store.runs() == [bytes("nine again"), bytes("three")])
    #expect(try store.value("counters") == bytes("x") && store.value("none") == nil)
    #expect(try store.events(of: RunID(9), after: 1, limit: 10).map(\.event) == [bytes("b")])
    try store.commit([.forget(RunID(9))])
    #expect(try store.runs().count == 1 && store.events(of: RunID(9), after: 0, limit: 10).isEmpty)
  }

  @Test func `a store works at a path that is longer than SQLite permits`() throws {
    let long = folder + "/" + Array(repeating: String(repeating: "d", count: 100), count: 7).joined(separator: "/")
    try FileManager.default.createDirectory(atPath: long, withIntermediateDirectories: true)
    let path = long + "/store.db"
    #expect(path.utf8.count > 700)
    for round in 1...2 {
      let store = try RunStore(path: path, holder: "test")
      try store.commit([.event(RunID(1), number: round, bytes("\(round)"))])
      // A second connection reads what the first has written, as the dashboard does.
      #expect(try StoryReader(path: path).events(of: RunID(1), after: 0, limit: 9).count == round)
      store.close()
    }
    #expect(FileManager.default.fileExists(atPath: path))
    #expect(
      message { _ = try RunStore(path: long + "x/store.db", holder: "test") }.contains("No such file or directory"))
  }

  @Test func `a closed store can be opened at once, although its object still exists`() throws {
    let path = folder + "/closed.db"
    let first = try RunStore(path: path, holder: "the first")
    let refused = message { _ = try RunStore(path: path, holder: "the second") }
    #expect(refused == "\(path) belongs to another coordinator, the first")
    first.close()
    let second = try RunStore(path: path, holder: "the second")
    try second.commit([.value("x", bytes("y"))])
    withExtendedLifetime(first) {}
  }

  @Test func `the advice in a store's error depends on the command`() {
    let error = StoreError.inUse(path: "a.db", holder: "process 1")
    #expect(
      error.advised(inUse: "use --store", foreign: "no")
        == "a.db belongs to another coordinator, process 1; use --store")
    #expect(StoreError.foreign(path: "b").advised(inUse: "no", foreign: "move it").hasSuffix("; move it"))
  }

  @Test func `the last events of a run are read backwards`() throws {
    let path = folder + "/backwards.db"
    let store = try RunStore(path: path, holder: "test")
    try store.commit((1...9).map { .event(RunID(4), number: $0, bytes("\($0)")) })
    let reader = try StoryReader(path: path)
    #expect(try reader.events(of: RunID(4), before: .max, limit: 3).map(\.number) == [9, 8, 7])
    #expect(try reader.events(of: RunID(4), before: 3, limit: 9).map(\.number) == [2, 1])
  }

  @Test func `events are read page by page`() throws {
    let store = try RunStore(path: ":memory:", holder: "test")
    try store.commit((1...1000).map { .event(RunID(1), number: $0, bytes("\($0)")) })
    var after = 0
    while true {
      let page = try store.events(of: RunID(1), after: after, limit: 64)
      #expect(page.map(\.number) == Array(after + 1..<after + 1 + page.count))
      if page.isEmpty { break }
      after += page.count
    }
    #expect(after == 1000)
  }

  @Test func `a copy of the files at any moment contains a prefix of the transactions, each complete`() throws {
    let path = folder + "/store.db"
    let store = try RunStore(path: path, holder: "test")
    for transaction in 1...300 {
      try store.commit([
        .value("count", bytes("\(transaction)")), .run(RunID(1), bytes("\(transaction)")),
        .event(RunID(1), number: transaction, bytes("\(transaction)")),
      ])
      guard transaction.isMultiple(of: 7) else { continue }
      // The files that a process killed at this moment would leave.
      let place = folder + "/copy-\(transaction)"
      try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
      for suffix in ["", "-wal"] {
        try FileManager.default.copyItem(atPath: path + suffix, toPath: place + "/store.db" + suffix)
      }
      // The files that a torn last write would leave.
      let wal = try FileHandle(forWritingTo: URL(filePath: place + "/store.db-wal"))
      let length = try wal.seekToEnd()
      if transaction.isMultiple(of: 2) { try wal.truncate(atOffset: length - UInt64(transaction % 90) - 1) }
      let copy = try RunStore(path: place + "/store.db", holder: "test")
      let count = Int(String(decoding: try copy.value("count") ?? [], as: UTF8.self)) ?? 0
      #expect(count == transaction || (transaction.isMultiple(of: 2) && count == transaction - 1))
      #expect(try copy.runs() == [bytes("\(count)")])
      #expect(try copy.events(of: RunID(1), after: 0, limit: 1000).count == count)
    }
  }

  @Test func `a store has one coordinator, and the error for a second one names it`() throws {
    let path = folder + "/store.db"
    var store: RunStore? = try RunStore(path: path, holder: "process 7 on n1")
    #expect(message { _ = try RunStore(path: path, holder: "x") }.contains("another coordinator, process 7 on n1"))
    withExtendedLifetime(store) {}
    store = nil
    #expect(message { _ = try RunStore(path: path, holder: "x") } == "no error")
  }

  @Test func `a store is the same under every name that leads to it`() throws {
    let path = folder + "/store.db"
    try FileManager.default.createSymbolicLink(atPath: folder + "/early.db", withDestinationPath: path)
    #expect(
      message { _ = try RunStore(path: folder + "/early.db", holder: "x") }.contains("a file that does not exist"))
    let store = try RunStore(path: path, holder: "process 7 on n1")
    try FileManager.default.createSymbolicLink(atPath: folder + "/link", withDestinationPath: folder)
    for name in ["early.db", "link/store.db", "link/early.db"] {
      #expect(
        message { _ = try RunStore(path: folder + "/" + name, holder: "x") }.contains("process 7 on n1"), "\(name)")
    }
    #expect(message { _ = try RunStore(path: folder + "/link/new.db", holder: "x") } == "no error")
    try store.commit([.value("a", bytes("b"))])
    try FileManager.default.linkItem(atPath: folder + "/new.db", toPath: folder + "/hard.db")
    #expect(message { _ = try RunStore(path: folder + "/hard.db", holder: "x") }.contains("2 names (hard links)"))
  }

  @Test func `a store that is temporarily not writable reports it, and accepts the same changes later`() throws {
    let path = folder + "/store.db"
    let store = try RunStore(path: path, holder: "test")
    let other = Process()
    other.executableURL = URL(filePath: "/usr/bin/env")
    other.arguments = [
      "python3", "-c",
      "import sqlite3, sys; c = sqlite3.connect('\(path)', isolation_level=None); c.execute('BEGIN IMMEDIATE'); print(flush=True); sys.stdin.read()",
    ]
    let input = Pipe(), output = Pipe()
    (other.standardInput, other.standardOutput) = (input, output)
    try other.run()
    _ = output.fileHandleForReading.availableData
    do throws(StoreError) {
      try store.commit([.value("a", bytes("b"))])
      Issue.record("the store was locked")
    } catch {
      #expect(error.isPassing && "\(error)".contains("locked"), "\(error)")
    }
    try input.fileHandleForWriting.close()
    other.waitUntilExit()
    try store.commit([.value("a", bytes("b"))])
    #expect(try store.value("a") == bytes("b"))
  }

  @Test func `a newer store, a foreign database, another file and a missing folder are refused with reasons`() throws {
    let path = folder + "/store.db"
    _ = try RunStore(path: path, holder: "test")
    func python(_ statement: String, _ path: String) throws {
      let process = Process()
      process.executableURL = URL(filePath: "/usr/bin/env")
      process.arguments = ["python3", "-c", "import sqlite3; sqlite3.connect('\(path)').execute('\(statement)')"]
      try process.run()
      process.waitUntilExit()
      #expect(process.terminationStatus == 0)
    }
    try python("PRAGMA user_version = 99", path)
    #expect(message { _ = try RunStore(path: path, holder: "x") }.contains("a newer ress (schema 99"))
    try python("CREATE TABLE t (x)", folder + "/other.db")
    #expect(message { _ = try RunStore(path: folder + "/other.db", holder: "x") }.contains("another program"))
    try Data(repeating: 65, count: 9000).write(to: URL(filePath: folder + "/text.db"))
    #expect(
      message { _ = try RunStore(path: folder + "/text.db", holder: "x") }.contains("text.db: file is not a database"))
    #expect(message { _ = try RunStore(path: folder + "/none/store.db", holder: "x") }.contains("none/store.db"))
  }
}
