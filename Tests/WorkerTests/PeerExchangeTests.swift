// What one worker's exchange does with messages that do not fit, one message at a time: every one is refused with its
// sender and its phase, and messages of the next round wait for it.

import Configuration
import Exchange
import Foundation
import Kernels
import Model
import Synchronization
import TestSupport
import Testing
import Training
import Wire

@Suite struct PeerExchangeTests {
  /// Worker 0 of two. It has the units 0 and 1 of four, and owns the even experts of four. Worker 1 has a copy of
  /// expert 2, worker 0 one of expert 3.
  private final class Setup {
    let link = ListLink()
    let exchange: PeerExchange
    let held: HeldModel
    var plan: WorkPlan { held.plan }

    init(_ precision: Precision = .fp32) {
      var c = RunConfiguration.smallModel
      c.model.precision = precision
      c.training.batchSequences = 4
      let layout = ParameterLayout(c.model, vocabulary: 11)
      let plan = WorkPlan(
        index: 0, units: [0..<2, 2..<4], expertOwners: [0, 1, 0, 1], copies: [[3], [2]], layout: layout)
      held = HeldModel(c, vocabulary: 11, plan: plan, threads: 1)
      exchange = PeerExchange(held, link)
    }

    func begin(_ purpose: Round.Purpose = .training, number: Int = 1) throws {
      try exchange.begin(Round(number: number, step: 0, purpose: purpose, unitCount: 4))
      held.expertGradients.begin(unitCount: 4)
    }

    /// The error of the next wait when that message arrives first.
    func refusal(_ message: DataMessage) -> String {
      link.arriving = [message]
      do {
        _ = try exchange.reports()
        return "accepted"
      } catch let error as ExchangeError {
        return error.description
      } catch {
        return "asked for another message"
      }
    }
  }

  /// Hands out messages in order, and keeps those that are sent.
  private final class ListLink: PeerLink {
    struct Empty: Error {}
    var arriving: [DataMessage] = []
    var sent: [DataMessage] = []
    var waitedSeconds: Double { 0 }
    func send(_ message: DataMessage, to worker: Int) { sent.append(message) }
    func look(awaited: [Int], in phase: DataPhase, since begun: ContinuousClock.Instant) {}
    func endLook() {}
    func receive(awaited: [Int], in phase: DataPhase) throws -> DataMessage {
      guard !arriving.isEmpty else { throw Empty() }
      return arriving.removeFirst()
    }
  }

  private func message(
    _ phase: DataPhase, _ subject: DataSubject, sender: Int = 1, round: UInt64 = 1, rows: Int = 0, bytes: Int = 0
  ) -> DataMessage {
    let payload = Payload(byteCount: bytes)
    payload.bytes.initializeMemory(as: UInt8.self, repeating: 0)
    var header = DataHeader(phase: phase, sender: sender, subject)
    (header.round, header.rows) = (round, UInt32(rows))
    return DataMessage(header: header, payload: payload)
  }

  private let site = DataSubject.site(unit: 2, sequence: 0, segment: 0, recurrence: 0)

  @Test func `messages that do not fit the round are refused with their phase and the reason`() throws {
    let setup = Setup()
    try setup.begin()
    let counts = 4 * 4, row = 4 * 16
    func expect(_ message: DataMessage, _ reason: String, line: Int = #line) {
      let text = setup.refusal(message)
      #expect(text.contains(reason) && text.contains(message.header.phase.description), "line \(line): \(text)")
    }
    expect(message(.norms, .step, sender: 0), "no such sender")
    expect(message(.norms, .step, sender: 2), "no such sender")
    expect(message(.norms, .step, round: 0), "it belongs to round 0, this is round 1")
    expect(message(.state, .tensor(number: 0, kind: 0, chunk: 0)), "it is not part of a step")
    expect(message(.mirror, .copy(step: 1, piece: 0, count: 1)), "it is not part of a step")
    expect(message(.combineForward, site), "these rows were not requested")
    expect(message(.dispatchForward, site, rows: 1, bytes: counts), "wrong length")
    expect(message(.norms, .step, bytes: 8), "wrong length")
    expect(message(.parameters, .part(0), bytes: 8), "wrong length")
    expect(message(.gradient, .node(level: 0, index: 2, part: 0), bytes: 4), "wrong length")
    expect(
      message(.gradient, .node(level: 9, index: 0, part: 0), bytes: 4 * setup.plan.myDense.count),
      "a sum that is not expected")
    expect(message(.gradient, .node(level: 0, index: 2, part: 1), bytes: 4 * setup.plan.myDense.count), "wrong length")
    expect(message(.parameters, .part(1), bytes: 4 * setup.plan.denseRanges[1].count), "wrong length")
    // The owner has not sent its norms yet.
    expect(message(.parameters, .part(0), bytes: 4 * setup.plan.denseRanges[1].count), "which is not expected")
    expect(message(.unitFinished, .unit(0), bytes: 8), "a report of unit 0")
    expect(message(.unitFinished, .unit(7), bytes: 8), "a report of unit 7")
    expect(message(.unitFinished, .unit(2), bytes: 8), "a report of unit 2 with 1 numbers")
    for (expert, reason) in [(1, "rows for experts of another worker"), (0, "that this worker has not computed")] {
      let rows = message(.dispatchBackward, site, rows: 1, bytes: counts + row)
      rows.payload.words[expert] = 1
      expect(rows, reason)
    }
    let copied = message(.dispatchForward, site, rows: 1, bytes: counts + row)
    copied.payload.words[2] = 1
    expect(copied, "rows for experts of another worker")
    let block = 4 * setup.held.layout.expertCount
    func node(_ level: Int, _ index: Int, _ expert: Int) -> DataSubject {
      .expertNode(level: level, index: index, expert: expert, part: 0)
    }
    expect(message(.expertGradient, node(1, 1, 2), bytes: 4), "wrong length")
    for (level, index, expert) in [(1, 0, 2), (2, 0, 2), (1, 1, 0), (1, 1, 3), (1, 1, 9), (40, 0, 2), (0, 4, 2)] {
      expect(message(.expertGradient, node(level, index, expert), bytes: block), "a sum that is not expected")
    }
    expect(message(.expertParameters, .expertPart(expert: 3, part: 0), bytes: 4), "wrong length")
    for expert in [3, 1, 2, 9] {
      // Expert 3 is copied here, but its owner has not sent its norms yet.
      expect(message(.expertParameters, .expertPart(expert: expert, part: 0), bytes: block), "which is not expected")
    }
    let many = message(.dispatchForward, site, rows: 1, bytes: counts + row)
    many.payload.words[0] = 2
    expect(many, "rows for experts of another worker")
  }

  @Test func `a sum may arrive once, and so may norms`() throws {
    let setup = Setup()
    try setup.begin()
    let sum = message(.gradient, .node(level: 1, index: 1, part: 0), bytes: 4 * setup.plan.myDense.count)
    #expect(setup.refusal(sum) == "asked for another message")
    #expect(setup.refusal(sum).contains("a sum that is not expected"))
    let count = Optimizer.chunkCount(setup.held.layout) + StepNote().encoded.count
    let norms = message(.norms, .step, bytes: 8 * count)
    #expect(setup.refusal(norms) == "asked for another message")
    #expect(setup.refusal(norms).contains("a second message of norms"))
    let sumOfExpert = message(
      .expertGradient, .expertNode(level: 1, index: 1, expert: 2, part: 0), bytes: 4 * setup.held.layout.expertCount)
    #expect(setup.refusal(sumOfExpert) == "asked for another message")
    #expect(setup.refusal(sumOfExpert).contains("a sum that is not expected"))
    let parameters = message(
      .expertParameters, .expertPart(expert: 3, part: 0), bytes: 4 * setup.held.layout.expertCount)
    #expect(setup.refusal(parameters) == "asked for another message")
    #expect(setup.refusal(parameters).contains("which is not expected"))
  }

  @Test func `rows of a peer are answered at once, and messages of the next round wait until it begins`() throws {
    let setup = Setup()
    try setup.begin()
    let early = message(.dispatchForward, site, round: 2, rows: 1, bytes: 4 * 4 + 4 * 16)
    early.payload.words[0] = 1
    let rows = message(.dispatchForward, site, rows: 1, bytes: 4 * 4 + 4 * 16)
    rows.payload.words[0] = 1
    setup.link.arriving = [early, rows]
    #expect(throws: ListLink.Empty.self) { try setup.exchange.reports() }
    #expect(setup.link.sent.map(\.header.phase) == [.combineForward])
    #expect(setup.link.sent[0].header.round == 1 && setup.link.sent[0].payload.bytes.count == 4 * 16)
    try setup.begin(number: 2)
    #expect(throws: ListLink.Empty.self) { try setup.exchange.reports() }
    #expect(setup.link.sent.map(\.header.round) == [1, 2])
  }

  @Test func `in a run with bf16 factors rows arrive as two bytes a value, and the answer is that of whole rows`()
    throws
  {
    let setup = Setup(.bf16)
    try setup.begin()
    setup.held.parameters.initialize(seed: 3)
    setup.held.parameters.changed()
    let random = Philox(seed: 4, stream: 1)
    let (arena, (rows, out)) = Arena.build { ($0.matrix(2, 16), $0.matrix(2, 16)) }
    random.fillNormal(rows.pointer, count: rows.count, deviation: 1)
    let request = message(.dispatchForward, site, rows: 2, bytes: 4 * 4 + 2 * 2 * 16)
    request.payload.words[0] = 2
    let place = UnsafeMutableRawPointer(request.payload.words + 4).assumingMemoryBound(to: UInt16.self)
    for index in 0..<rows.count {
      // A bf16 value.
      rows.pointer[index] = Float(bitPattern: rows.pointer[index].bitPattern & 0xFFFF_0000)
      place[index] = UInt16(rows.pointer[index].bitPattern >> 16)
    }
    setup.link.arriving = [request]
    #expect(throws: ListLink.Empty.self) { try setup.exchange.reports() }
    let answer = try #require(setup.link.sent.first)
    #expect(answer.header.phase == .combineForward && answer.payload.bytes.count == 4 * 2 * 16)
    setup.held.experts.forward(
      ExpertSite(unit: 3, sequence: 0, segment: 0, recurrence: 0), pieces: [ExpertPiece(expert: 0, rows: 0..<2)],
      rows: rows, into: out, keep: false)
    withExtendedLifetime((arena, answer)) {
      for index in 0..<out.count { #expect(answer.payload.reals[index] == out.pointer[index]) }
      #expect((0..<out.count).contains { out.pointer[$0] != 0 })
    }
    let whole = message(.dispatchForward, site, rows: 1, bytes: 4 * 4 + 4 * 16)
    whole.payload.words[0] = 1
    #expect(setup.refusal(whole).contains("wrong length"))
  }

  /// Answers each request with a result, the first one to the team that did not ask for it.
  private final class SwappingLink: PeerLink, @unchecked Sendable {
    struct Empty: Error {}
    private let lock = NSCondition()
    private var results: [(thread: pthread_t, message: DataMessage)] = []
    private var sentCount = 0
    private(set) var takenCount = 0
    var waitedSeconds: Double { 0 }

    func send(_ message: DataMessage, to worker: Int) {
      let rows = Int(message.header.rows), width = Int(message.header.columns)
      let payload = Payload(byteCount: 4 * rows * width)
      guard case .site(let unit, _, _, _) = message.header.subject else { return }
      payload.reals.update(repeating: Float(unit), count: rows * width)
      var header = DataHeader(phase: .combineForward, sender: 1, message.header.subject)
      (header.round, header.rows, header.columns) = (message.header.round, message.header.rows, message.header.columns)
      lock.withLock {
        results.append((pthread_self(), DataMessage(header: header, payload: payload)))
        sentCount += 1
        lock.broadcast()
      }
    }

    func receive(awaited: [Int], in phase: DataPhase) throws -> DataMessage {
      lock.lock()
      defer { lock.unlock() }
      // Both teams wait for rows before either gets any.
      while sentCount < 2 { lock.wait() }
      guard !results.isEmpty else { throw Empty() }
      takenCount += 1
      let place = results.firstIndex { pthread_equal($0.thread, pthread_self()) == 0 } ?? 0
      return results.remove(at: place).message
    }

    func look(awaited: [Int], in phase: DataPhase, since begun: ContinuousClock.Instant) {}
    func endLook() {}
  }

  @Test func `a team whose results another team has received does not wait for a further message`() throws {
    var c = RunConfiguration.smallModel
    c.training.batchSequences = 4
    let layout = ParameterLayout(c.model, vocabulary: 11)
    let plan = WorkPlan(index: 0, units: [0..<2, 2..<4], expertOwners: [1, 1, 1, 1], layout: layout)
    let held = HeldModel(c, vocabulary: 11, plan: plan, threads: 2, teams: 2)
    // So many rows that the other team wakes up while they are taken.
    let rows = 200_000, width = c.model.width
    for round in 1...3 {
      let link = SwappingLink()
      let exchange = PeerExchange(held, link)
      try exchange.begin(Round(number: round, step: 0, purpose: .training, unitCount: 4))
      let failures = Mutex<[String]>([])
      let group = DispatchGroup()
      for team in 0..<2 {
        nonisolated(unsafe) let exchange = exchange
        group.enter()
        let thread = Thread {
          defer { group.leave() }
          let values = RealPointer.allocate(capacity: 2 * rows * width)
          defer { values.deallocate() }
          values.initialize(repeating: 0, count: 2 * rows * width)
          do {
            try exchange.teams[team].forward(
              ExpertSite(unit: team, sequence: 0, segment: 0, recurrence: 0),
              pieces: [ExpertPiece(expert: 0, rows: 0..<rows)], rows: Matrix(values, rows: rows, columns: width),
              into: Matrix(values + rows * width, rows: rows, columns: width), keep: true)
            let own = (values + rows * width)[rows * width - 1]
            if own != Real(team) { failures.withLock { $0.append("team \(team) has the result \(own)") } }
          } catch {
            failures.withLock { $0.append("team \(team): \(error)") }
          }
        }
        thread.stackSize = 8 << 20
        thread.start()
      }
      group.wait()
      #expect(failures.withLock { $0 } == [] && link.takenCount == 2)
    }
  }
}
