// The parts of a worker that keep and send its state: the sender of copies, the history of steps, the writer of
// checkpoints, and which copies are kept.

import Checkpoint
import Configuration
import Foundation
import Synchronization
import Testing
import TestSupport
import Training
import Wire
import Worker

@Suite struct MirrorSenderTests {
  private static let size = MirrorSender.pieceSize

  private func key(_ step: Int) -> HeldShard {
    HeldShard(run: RunID(1), generation: 3, index: 0, count: 2, step: step)
  }

  private func copy(_ count: Int) -> LateCopy { LateCopy(oneTensor(count)) }

  /// The next piece and its receiver, as values that an expectation can compare.
  private func next(_ sender: inout MirrorSender) -> (subject: DataSubject?, message: DataMessage?, peer: Int?) {
    let next = sender.next()
    return (next?.message.header.subject, next?.message, next?.peer)
  }

  /// Handles the receipt of a message by the mirror, or by worker `from`.
  private func receive(_ message: DataMessage?, _ sender: inout MirrorSender, from: Int = 1) -> HeldShard? {
    guard let message else { return nil }
    return sender.received(MirrorSender.receipt(for: message, from: from).header)
  }

  @Test func `two pieces are under way at most, and the receipt of the last one completes the copy`() {
    var sender = MirrorSender()
    let nothing = next(&sender)
    #expect(nothing.message == nil)
    let count = 2 * Self.size + 5
    sender.start(key(4), copy(count), to: 1)
    let first = next(&sender), second = next(&sender), tooEarly = next(&sender)
    #expect(first.subject == .copy(step: 4, piece: 0, count: 3) && first.peer == 1)
    #expect(second.subject == .copy(step: 4, piece: 1, count: 3))
    #expect(tooEarly.message == nil, "two pieces are under way")
    // Receipts of another worker, and of another copy.
    let ofAnother = receive(first.message, &sender, from: 2)
    let ofAnotherStep = sender.received(DataHeader(phase: .mirrored, sender: 1, .copy(step: 5, piece: 0, count: 3)))
    let stillTooEarly = next(&sender)
    #expect(ofAnother == nil && ofAnotherStep == nil && stillTooEarly.message == nil)
    let one = receive(first.message, &sender), third = next(&sender), end = next(&sender)
    #expect(one == nil && third.subject == .copy(step: 4, piece: 2, count: 3) && end.message == nil)
    #expect(third.message?.payload.bytes.count == 20)
    let two = receive(second.message, &sender), all = receive(third.message, &sender)
    let again = receive(third.message, &sender)
    #expect(two == nil && all == key(4) && again == nil)
  }

  @Test func `copies are sent one after the other, and not after the end of the generation`() {
    var sender = MirrorSender()
    for step in [4, 8] { sender.start(key(step), copy(3), to: 1) }
    let first = next(&sender), tooEarly = next(&sender)
    #expect(first.subject == .copy(step: 4, piece: 0, count: 1) && tooEarly.message == nil)
    let received = receive(first.message, &sender), second = next(&sender)
    #expect(received == key(4) && second.subject == .copy(step: 8, piece: 0, count: 1))
    sender.start(key(12), copy(3), to: 1)
    sender.clear()
    let nothing = next(&sender)
    #expect(nothing.message == nil)
  }
}

@Suite struct StepHistoryTests {
  private func record(_ step: Int, loss: Double = 1) -> StepRecord {
    StepRecord(
      step: step, loss: loss, task: 1, smooth: 0, balance: 0, routerZ: 0, gradientNorm: 1, learningRate: 1, tokens: 1,
      seconds: 1, loads: [])
  }

  private func assignment(firstStep: Int, recorded: Int, run: UInt64 = 1) -> Assignment {
    Assignment(
      run: RunID(run), generation: 2, configuration: RunConfiguration(), roster: [], index: 0, threads: 1,
      start: .fresh, firstStep: firstStep, recorded: recorded, folder: "")
  }

  private func steps(_ reports: [Report]) -> [Int] {
    reports.map {
      switch $0 {
      case .stepDone(let record): record.step
      case .evaluated(let record): -record.step
      default: 0
      }
    }
  }

  @Test func `the steps between what is recorded and the generation's first step are reported again`() {
    let history = StepHistory()
    for step in 1...6 { history.note(.step(record(step)), of: RunID(1)) }
    #expect(steps(history.missing(assignment(firstStep: 5, recorded: 2))) == [3, 4, 5])
    #expect(history.missing(assignment(firstStep: 5, recorded: 5)).isEmpty)
    #expect(history.missing(assignment(firstStep: 5, recorded: 2, run: 9)).isEmpty, "another run")
  }

  @Test func `a step that is computed again replaces its record and those after it`() {
    let history = StepHistory()
    for step in 1...6 { history.note(.step(record(step)), of: RunID(1)) }
    history.note(.step(record(4, loss: 2)), of: RunID(1))
    let reports = history.missing(assignment(firstStep: 6, recorded: 3))
    #expect(steps(reports) == [4])
    if case .stepDone(let record)? = reports.first { #expect(record.loss == 2) }
  }

  @Test func `an evaluation of the last recorded step is reported once more, because it may have been lost`() {
    let history = StepHistory()
    for step in 1...3 {
      history.note(.step(record(step)), of: RunID(1))
      history.note(.evaluation(EvaluationRecord(step: step, loss: 1, sequences: 1)), of: RunID(1))
    }
    #expect(steps(history.missing(assignment(firstStep: 3, recorded: 2))) == [-2, 3, -3])
    history.note(.step(record(1)), of: RunID(2))
    #expect(history.missing(assignment(firstStep: 3, recorded: 0)).isEmpty, "the first run's entries are dropped")
  }
}

@Suite struct CheckpointSaverTests {
  private static let failure = CheckpointError.tensor(path: "p", name: "n", problem: "full")

  @Test func `a save that fails is repeated until it succeeds, and each new error is reported once`() {
    let saver = CheckpointSaver(firstRetry: .milliseconds(1))
    let tries = Mutex(0), results = Mutex<[Bool]>([])
    saver.save { () throws(CheckpointError) in
      let count = tries.withLock {
        $0 += 1
        return $0
      }
      if count < 4 { throw Self.failure }
      return []
    } done: { result in
      results.withLock { $0.append((try? result.get()) != nil) }
    }
    saver.finish(insisting: true) { _ in false }
    #expect(tries.withLock { $0 } == 4)
    #expect(results.withLock { $0 } == [false, true])
  }

  @Test func `a newer save replaces one that waits for its next attempt`() {
    let saver = CheckpointSaver(firstRetry: .seconds(1_000))
    let failed = Mutex(0), saved = Mutex(0)
    saver.save { () throws(CheckpointError) in
      throw Self.failure
    } done: { _ in
      failed.withLock { $0 += 1 }
    }
    #expect(waitUntil { failed.withLock { $0 } == 1 })
    // Without `insisting`, a save that waits does not hold the caller up.
    saver.finish(insisting: false) { _ in false }
    saver.save {
      []
    } done: { _ in
      saved.withLock { $0 += 1 }
    }
    saver.finish(insisting: true) { _ in false }
    #expect(failed.withLock { $0 } == 1 && saved.withLock { $0 } == 1)
  }

  @Test func `a closed saver gives up what waits`() {
    let saver = CheckpointSaver(firstRetry: .seconds(1_000))
    let failed = Mutex(0)
    saver.save { () throws(CheckpointError) in
      throw Self.failure
    } done: { _ in
      failed.withLock { $0 += 1 }
    }
    #expect(waitUntil { failed.withLock { $0 } == 1 })
    saver.close()
    saver.finish(insisting: true) { _ in false }
    #expect(failed.withLock { $0 } == 1)
  }
}

@Suite struct ProcessorWaitTests {
  private let path = NSTemporaryDirectory() + "ress-schedstat-" + UUID().uuidString.prefix(8)

  /// Whether the thread is starved, in looks one second apart at files with these numbers of seconds waited.
  private func looks(_ seconds: [Double]) throws -> [Bool] {
    defer { try? FileManager.default.removeItem(atPath: path) }
    var wait = ProcessorWait(path: path)
    return try seconds.enumerated().map { second, waited in
      try Data("1000 \(Int(waited * 1e9)) 7\n".utf8).write(to: URL(fileURLWithPath: path))
      return wait.isStarved(at: Instant(nanoseconds: Int64(second) * 1_000_000_000))
    }
  }

  @Test func `a thread is starved that waited for a processor for half of the time since the last look`() throws {
    #expect(try looks([5, 5.6, 5.7, 6.6, 6.6]) == [false, true, false, true, false])
  }

  @Test func `a thread of which nothing is known is not starved`() throws {
    var unknown = ProcessorWait(path: "/none/schedstat")
    let first = unknown.isStarved(at: Instant(nanoseconds: 0)), second = unknown.isStarved(at: Instant(nanoseconds: 1))
    #expect(!first && !second)
    try Data("no numbers".utf8).write(to: URL(fileURLWithPath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    var unreadable = ProcessorWait(path: path)
    let third = unreadable.isStarved(at: Instant(nanoseconds: 0))
    #expect(!third)
  }
}
