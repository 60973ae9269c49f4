// A worker's half of the protocol.

import Coordination
import Testing
import Wire

@Suite struct WorkerSessionTests {
  private var now = Instant(nanoseconds: 0)
  private var session: WorkerSession

  init() {
    session = WorkerSession(
      Cluster.worker("w"), endpoint: "ipc:///c", joinWithin: .seconds(5), at: Instant(nanoseconds: 0))
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
      run: RunID(1), generation: generation, configuration: .init(), roster: [], index: 0, threads: 1, checkpoint: nil,
      firstStep: 0, folder: "/f")
  }

  @Test mutating func `it says hello every second until it is welcomed, then sends heartbeats`() {
    let hellos = run(.milliseconds(2500)).count { $0 == .send(.hello(Cluster.worker("w"))) }
    #expect(hellos == 3)
    _ = session.receive(.welcome(worker: WorkerID(1), patienceSeconds: 8), at: now)
    let beats = run(.seconds(2), hears: .alive)
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

  @Test mutating func `a coordinator's silence past its patience stops the generation and ends the worker`() {
    _ = session.receive(.welcome(worker: WorkerID(1), patienceSeconds: 2), at: now)
    _ = session.receive(.assigned(assignment(4)), at: now)
    let effects = run(.seconds(3))
    guard case .stop(4, _)? = effects.dropLast().last, case .exit(let reason)? = effects.last else {
      Issue.record("\(effects.suffix(2))")
      return
    }
    #expect(reason.hasPrefix("nothing was heard of the coordinator at ipc:///c for 2."))
  }

  @Test mutating func `a restarted coordinator ends the generation, and the worker joins again`() {
    _ = session.receive(.welcome(worker: WorkerID(1), patienceSeconds: 2), at: now)
    _ = session.receive(.assigned(assignment(4)), at: now)
    let effects = session.coordinatorRestarted(at: now)
    #expect(effects.first == .stop(generation: 4, reason: "the coordinator was restarted"))
    #expect(run(.milliseconds(100)).contains(.send(.hello(Cluster.worker("w")))))
  }

  @Test mutating func `stops and begins of other generations are dropped`() {
    _ = session.receive(.welcome(worker: WorkerID(1), patienceSeconds: 2), at: now)
    _ = session.receive(.assigned(assignment(4)), at: now)
    #expect(session.receive(.stop(generation: 3, reason: "old"), at: now).isEmpty)
    #expect(session.receive(.begin(generation: 3), at: now).isEmpty)
    #expect(session.receive(.begin(generation: 4), at: now) == [.begin(generation: 4)])
    #expect(session.receive(.stop(generation: 4, reason: "done"), at: now) == [.stop(generation: 4, reason: "done")])
    #expect(session.receive(.stop(generation: 4, reason: "again"), at: now).isEmpty)
  }

  @Test mutating func `a worker that was given up says hello again`() {
    _ = session.receive(.welcome(worker: WorkerID(1), patienceSeconds: 2), at: now)
    _ = session.receive(.assigned(assignment(4)), at: now)
    let effects = session.receive(.refused(reason: Coordinator.unknownWorker), at: now)
    guard case .stop(4, _)? = effects.first else {
      Issue.record("\(effects)")
      return
    }
    #expect(run(.milliseconds(100)).contains(.send(.hello(Cluster.worker("w")))))
  }
}
