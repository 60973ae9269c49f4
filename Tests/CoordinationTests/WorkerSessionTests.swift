// A worker's half of the protocol.

import Coordination
import Testing
import Wire

@Suite struct WorkerSessionTests {
  private var now = Instant(nanoseconds: 0)
  private var session: WorkerSession

  init() {
    session = WorkerSession(
      Cluster.worker("w"), endpoint: "ipc:///c", joinWithin: .seconds(5), returnWithin: .seconds(30),
      at: Instant(nanoseconds: 0))
  }

  private mutating func run(_ duration: Duration, hears reply: Reply? = nil) -> [WorkerSession.Effect] {
    var effects: [WorkerSession.Effect] = []
    let end = now + duration
    while now < end {
      now = now + .milliseconds(50)
      if let reply { effects += session.receive(reply, at: now) }
      effects += session.tick(Heartbeat(), at: now)
    }
    return effects
  }

  private func assignment(_ generation: UInt32) -> Assignment {
    Assignment(
      run: RunID(1), generation: generation, configuration: .init(), roster: [], index: 0, threads: 1, start: .fresh,
      firstStep: 0, folder: "/f")
  }

  private func welcome(asked: UInt32 = 0, keep: UInt32 = 0, noted: Int = 0) -> Reply {
    .welcome(worker: WorkerID(1), patienceSeconds: 2, asked: asked, keep: keep, noted: noted)
  }

  private let hello = WorkerSession.Effect.send(.hello(Cluster.worker("w"), Heartbeat()))

  @Test mutating func `a worker sends its hello every second until it is welcomed, then heartbeats`() {
    let hello = self.hello
    let hellos = run(.milliseconds(2500)).count { $0 == hello }
    #expect(hellos == 3)
    _ = session.receive(.welcome(worker: WorkerID(1), patienceSeconds: 8, asked: 0, keep: 0, noted: 0), at: now)
    let beats = run(.seconds(2), hears: .alive(generation: 0, noted: 0))
    #expect(beats.allSatisfy { $0 == .send(.heartbeat(Heartbeat())) } && (7...9).contains(beats.count))
  }

  @Test mutating func `it gives up, with a reason, where no coordinator answers in time`() {
    #expect(
      run(.seconds(6)).last
        == .exit(
          reason:
            "no coordinator answered at ipc:///c within 5.0 s; start one with: ress coordinator --listen ipc:///c"))
    #expect(run(.seconds(2)).isEmpty)
  }

  @Test mutating func `a coordinator's silence does not stop the generation, and ends the worker only much later`() {
    _ = session.receive(welcome(), at: now)
    _ = session.receive(.assigned(assignment(4)), at: now)
    let effects = run(.seconds(20))
    #expect(!effects.contains { if case .stop = $0 { true } else { false } })
    #expect(effects.contains { if case .log(let line) = $0 { line.contains("working on") } else { false } })
    let last = run(.seconds(20))
    guard case .stop(4, _)? = last.dropLast().last, case .exit(let reason)? = last.last else {
      Issue.record("\(last.suffix(2))")
      return
    }
    #expect(reason.hasPrefix("nothing was heard of the coordinator at ipc:///c for 3"))
  }

  @Test mutating func `time in which the worker itself was stopped does not count as silence of the coordinator`() {
    _ = session.receive(welcome(), at: now)
    _ = session.receive(.assigned(assignment(4)), at: now)
    _ = run(.seconds(1), hears: .alive(generation: 4, noted: 0))
    now = now + .seconds(7200)
    let effects = run(.seconds(1))
    #expect(effects.count > 2 && effects.allSatisfy { $0 == .send(.heartbeat(Heartbeat())) }, "\(effects)")
    #expect(run(.seconds(2)).contains { if case .log(let line) = $0 { line.contains("working on") } else { false } })
  }

  @Test mutating func `a restarted coordinator gets all reports that were not acknowledged`() {
    _ = session.receive(welcome(), at: now)
    _ = session.receive(.assigned(assignment(4)), at: now)
    for step in 1...3 { _ = session.report(.stepDone(record(step)), generation: 4) }
    _ = session.receive(.alive(generation: 4, noted: 1), at: now)
    #expect(session.coordinatorRestarted(at: now) == [.log("the coordinator was restarted")])
    #expect(session.report(.finished, generation: 4).isEmpty, "it does not know yet whether a coordinator is there")
    let effects = session.receive(welcome(asked: 4, keep: 4, noted: 2), at: now)
    #expect(
      effects.dropFirst() == [
        .send(.report(generation: 4, number: 3, .stepDone(record(3)))),
        .send(.report(generation: 4, number: 4, .finished)),
      ])
  }

  @Test mutating func `a coordinator that does not keep the generation ends it`() {
    _ = session.receive(welcome(), at: now)
    _ = session.receive(.assigned(assignment(4)), at: now)
    _ = session.receive(.unknownWorker, at: now)
    let hello = self.hello
    #expect(run(.milliseconds(100)).contains(hello))
    _ = session.report(.ready, generation: 4)
    #expect(
      session.receive(welcome(asked: 3), at: now).dropFirst() == [.send(.report(generation: 4, number: 1, .ready))],
      "an answer to an older hello contains nothing about the generation, but a coordinator is there again")
    let effects = session.receive(welcome(asked: 4), at: now)
    #expect(effects.last == .stop(generation: 4, reason: "the coordinator has ended this generation"))
  }

  @Test mutating func `stops, begins, halts and assignments of other generations are dropped, and all are heard once`()
  {
    _ = session.receive(welcome(), at: now)
    _ = session.receive(.assigned(assignment(4)), at: now)
    #expect(session.receive(.assigned(assignment(4)), at: now).isEmpty)
    #expect(session.receive(.assigned(assignment(3)), at: now).isEmpty)
    #expect(session.receive(.stop(generation: 3, reason: "old"), at: now).isEmpty)
    #expect(session.receive(.begin(generation: 3, leftOut: 0), at: now).isEmpty)
    #expect(
      session.receive(.begin(generation: 4, leftOut: 2), at: now) == [.begin(generation: 4, leftOut: 2)])
    #expect(session.receive(.begin(generation: 4, leftOut: 2), at: now).isEmpty)
    #expect(session.receive(.halt(generation: 3, saving: true, reason: ""), at: now).isEmpty)
    #expect(session.receive(.stop(generation: 4, reason: "done"), at: now) == [.stop(generation: 4, reason: "done")])
    #expect(session.receive(.stop(generation: 4, reason: "again"), at: now).isEmpty)
    #expect(session.report(.finished, generation: 4).isEmpty)
  }

  @Test mutating func `a worker that is refused for good ends with the reason, and its generation before it`() {
    _ = session.receive(welcome(), at: now)
    _ = session.receive(.assigned(assignment(4)), at: now)
    let reason = "the coordinator refused: no"
    #expect(
      session.receive(.refused(reason: "no"), at: now) == [.stop(generation: 4, reason: reason), .exit(reason: reason)])
    #expect(session.receive(.refused(reason: "no"), at: now).isEmpty)
    #expect(session.receive(.unknownWorker, at: now).isEmpty)
    #expect(session.tick(Heartbeat(), at: now + .seconds(9)).isEmpty)
  }

  @Test mutating func `a coordinator of another version ends the worker, a damaged packet does not`() {
    #expect(
      session.unreadable(.damagedPacket("a link header's CRC-32C")) == [
        .log("a packet was dropped: a link header's CRC-32C")
      ])
    guard case .exit(let reason)? = session.unreadable(.wrongVersion(theirs: 2, ours: 1)).last else {
      Issue.record("it goes on")
      return
    }
    #expect(
      reason.hasPrefix("the coordinator at ipc:///c sent a message that cannot be read") && reason.contains("version 2")
    )
  }

  @Test func `of two processes with one name the newer stays, and the older one ends instead of taking it back`() {
    var coordinator = Coordinator(seed: 1, patience: .seconds(10), program: "ress test")
    let peers = [PeerID("older"), PeerID("newer")]
    var now = Instant(nanoseconds: 0)
    var sessions: [PeerID: WorkerSession] = [:]
    var hellos = 0
    var exits: [PeerID: String] = [:]
    for turn in 0..<600 {
      if turn % 50 == 0, turn / 50 < 2 {
        sessions[peers[turn / 50]] = WorkerSession(
          Cluster.worker("w0"), endpoint: "ipc:///c", joinWithin: .seconds(30), at: now)
      }
      now = now + .milliseconds(20)
      for peer in peers where sessions[peer] != nil {
        var effects = sessions[peer]!.tick(Heartbeat(), at: now)
        while !effects.isEmpty {
          let effect = effects.removeFirst()
          if case .exit(let reason) = effect { exits[peer] = reason }
          guard case .send(let request) = effect else { continue }
          if case .hello = request { hellos += 1 }
          for case .send(let to, let reply) in coordinator.step(.received(peer, request), at: now) {
            for effect in sessions[to]!.receive(reply, at: now) {
              if case .exit(let reason) = effect { exits[to] = reason } else { effects.append(effect) }
            }
          }
        }
      }
    }
    #expect(hellos == 2)
    #expect(
      exits == [
        peers[0]: "the coordinator refused: another process took its name: w0 (host-w0, process 102)"
      ])
  }
}
