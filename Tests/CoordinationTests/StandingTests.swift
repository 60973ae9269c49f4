// Who may go on: processes of one name, workers that were refused, and those that are heard but no longer work.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct StandingTests {
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

  @Test func `a worker that is heard but no longer works for its run ends it after the patience`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    let generation = cluster.assignment(workers[0])!.generation
    for second in 0..<12 {
      #expect(cluster.story.last!.0 == (second <= 10 ? .running : .failed), "\(second) s")
      cluster.say(.heartbeat(Heartbeat(generation: generation, step: 3)), from: workers[0])
      cluster.say(.heartbeat(Heartbeat()), from: workers[1])
      cluster.now = cluster.now + .seconds(1)
      cluster.step(.tick)
    }
    #expect(
      cluster.story.last!.1
        == "worker w1 (host-w1, process 102) has not worked for the run for 11.0 s, though it is heard")
  }

  @Test func `a worker whose part is done may be idle while the others finish`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    let generation = cluster.assignment(workers[0])!.generation
    cluster.say(.finished(generation: generation), from: workers[1])
    for _ in 0..<60 {
      cluster.say(.heartbeat(Heartbeat(generation: generation, step: 3)), from: workers[0])
      cluster.say(.heartbeat(Heartbeat()), from: workers[1])
      cluster.now = cluster.now + .seconds(1)
      cluster.step(.tick)
    }
    #expect(cluster.story.last!.0 == .running)
  }

  @Test func `a worker that is refused for good ends with the reason, and its generation before it`() {
    var session = WorkerSession(
      Cluster.worker("w"), endpoint: "ipc:///c", joinWithin: .seconds(5), at: Instant(nanoseconds: 0))
    let now = Instant(nanoseconds: 0)
    let assignment = Assignment(
      run: RunID(1), generation: 4, configuration: .init(), roster: [], index: 0, threads: 1, checkpoint: nil,
      firstStep: 0, folder: "/f")
    _ = session.receive(.welcome(worker: WorkerID(1), patienceSeconds: 2), at: now)
    _ = session.receive(.assigned(assignment), at: now)
    let reason = "the coordinator refused: no"
    #expect(
      session.receive(.refused(reason: "no"), at: now) == [
        .stop(generation: 4, reason: reason), .exit(reason: reason),
      ])
    #expect(session.receive(.refused(reason: "no"), at: now).isEmpty)
    #expect(session.receive(.refused(reason: Coordinator.unknownWorker), at: now).isEmpty)
    #expect(session.tick(Heartbeat(), at: now + .seconds(9)).isEmpty)
  }

  @Test func `a coordinator of another version ends the worker, a damaged packet does not`() {
    let now = Instant(nanoseconds: 0)
    var session = WorkerSession(Cluster.worker("w"), endpoint: "ipc:///c", joinWithin: .seconds(5), at: now)
    #expect(
      session.unreadable(.damagedPacket("a link header's CRC-32C")) == [
        .log("a packet was dropped: a link header's CRC-32C")
      ])
    guard case .exit(let reason)? = session.unreadable(.wrongVersion(theirs: 2, ours: 1)).last else {
      Issue.record("it goes on")
      return
    }
    #expect(reason.hasPrefix("the coordinator at ipc:///c sent what cannot be read") && reason.contains("version 2"))
  }

  @Test func `a configuration that no file would pass is refused, whoever sends it`() {
    var cluster = Cluster()
    let flaws: [(String, (inout RunConfiguration) -> Void)] = [
      ("cluster.workers: 'workers' is 0", { $0.cluster.workers = 0 }), ("'workers' is -1", { $0.cluster.workers = -1 }),
      ("'unit_sequences' is 0", { $0.training.unitSequences = 0 }), ("cannot name a folder", { $0.run = "../x" }),
      ("cannot name a folder", { $0.run = "" }), ("no dataset is given", { $0.data.path = "" }),
      ("optimizer.learning_rate: expected a number", { $0.optimizer.learningRate = .nan }),
    ]
    for (index, (words, spoil)) in flaws.enumerated() {
      var submission = Cluster.submission("run\(index)")
      spoil(&submission.configuration)
      cluster.say(.submit(submission), from: Cluster.client)
      #expect(cluster.refusals.count == index + 1)
      #expect(cluster.refusals.last?.contains(words) == true, "\(cluster.refusals.last ?? "")")
    }
    #expect(cluster.preparations.isEmpty)
  }

  @Test func `a follower that was forgotten is told nothing more`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    let generation = cluster.assignment(workers[0])!.generation
    let count = cluster.sent[Cluster.client]!.count
    cluster.step(.forgotten(Cluster.client))
    cluster.say(.stepDone(generation: generation, record(1)), from: workers[0])
    #expect(cluster.sent[Cluster.client]!.count == count && cluster.records.count == 1)
  }

  @Test func `who follows late hears the end of a run that had more steps than are kept`() {
    var coordinator = Coordinator(seed: 1, patience: .seconds(10), program: "ress test")
    let now = Instant(nanoseconds: 0)
    let worker = PeerID("w"), late = PeerID("late")
    _ = coordinator.step(.received(worker, .hello(Cluster.worker("w"))), at: now)
    _ = coordinator.step(.received(late, .submit(Cluster.submission("long", workers: 1, steps: 1_000_000))), at: now)
    var run: RunID?
    for case .send(_, .status(let status)) in coordinator.step(.received(late, .status), at: now) {
      run = status.runs.first?.id
    }
    guard let run else {
      Issue.record("no run")
      return
    }
    _ = coordinator.step(.prepared(run, .ready(folder: "/f", checkpoint: nil, firstStep: 0, notes: [])), at: now)
    for step in 1...200_100 {
      _ = coordinator.step(.received(worker, .stepDone(generation: 1, record(step))), at: now)
    }
    _ = coordinator.step(.received(late, .cancel(run: "long")), at: now)
    let events = coordinator.step(.received(late, .follow(run: "long")), at: now).compactMap { action in
      if case .send(_, .event(let event)) = action { event } else { nil }
    }
    #expect(events.last == .state(.cancelled, reason: "cancelled on request"))
    #expect(events.count { if case .said = $0 { true } else { false } } == 1)
    #expect(events.count < 200_010)
  }
}
