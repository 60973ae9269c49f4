// Runs whose steps cannot be applied: where they stop, and that this depends on the steps alone.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct LeftOutTests {
  private func submission(steps: Int = 10, skipAtMost: Int = 2) -> Submission {
    var submission = Cluster.submission(steps: steps)
    submission.configuration.training.skipAtMost = skipAtMost
    return submission
  }

  private func leftOut(_ step: Int) -> StepRecord {
    var record = record(step, loss: .nan)
    record.skipped = "the loss of unit 0 is not a finite number"
    return record
  }

  /// The workers save and stop after the step by themselves.
  private func stop(_ cluster: inout Cluster, _ workers: [PeerID], after step: Int) {
    for worker in workers.reversed() {
      cluster.report(.saved(step: step, files: []), from: worker)
      cluster.report(.halted(step: step, held: []), from: worker)
    }
  }

  private func begun(_ cluster: Cluster, _ worker: PeerID) -> Int? {
    cluster.sent[worker]?.reversed().lazy.compactMap { if case .begin(_, let count, _) = $0 { count } else { nil } }
      .first
  }

  @Test func `workers that stop by themselves after too many such steps make the run pause with the reason`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(submission())
    cluster.report(.stepDone(record(1)), from: workers[0])
    // The second worker stops before the first, which reports the steps, was heard.
    cluster.report(.saved(step: 4, files: []), from: workers[1])
    cluster.report(.halted(step: 4, held: []), from: workers[1])
    #expect(cluster.story.last!.0 == .running)
    for step in 2...4 { cluster.report(.stepDone(leftOut(step)), from: workers[0]) }
    cluster.report(.saved(step: 4, files: []), from: workers[0])
    cluster.report(.halted(step: 4, held: []), from: workers[0])
    #expect(cluster.commits.map(\.1.leftOut) == [3])
    cluster.step(.committed(run, step: 4, path: "/runs/run/step-00000004"))
    #expect(cluster.story.last!.0 == .paused)
    #expect(
      cluster.story.last!.1.hasPrefix("3 steps in a row could not be applied, the last because the loss of unit 0"),
      "\(cluster.story.last!.1)")
  }

  @Test func `a new generation continues the count of such steps, and a resumed run begins at 0`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(submission())
    #expect(begun(cluster, workers[0]) == 0)
    cluster.report(.stepDone(record(1)), from: workers[0])
    for step in 2...3 { cluster.report(.stepDone(leftOut(step)), from: workers[0]) }
    cluster.say(.change(run: "run", .pause), from: Cluster.client)
    stop(&cluster, workers, after: 3)
    cluster.step(.committed(run, step: 3, path: "/runs/run/step-00000003"))
    #expect(cluster.story.last! == (.paused, "paused on request"))
    // Another coordinator counts on as well.
    cluster.restartCoordinator()
    for worker in workers { _ = cluster.join(String(worker.description.dropFirst("peer-".count))) }
    cluster.say(.change(run: "run", .resume), from: Cluster.client)
    cluster.step(
      .prepared(run, .ready(.init(folder: "/f", checkpoint: "/c", firstStep: 3, proof: nil, notes: [], leftOut: 2))))
    for worker in workers { cluster.report(.ready, from: worker) }
    #expect(begun(cluster, workers[0]) == 2)
    cluster.report(.stepDone(leftOut(4)), from: workers[0])
    stop(&cluster, workers, after: 4)
    cluster.step(.committed(run, step: 4, path: "/runs/run/step-00000004"))
    #expect(cluster.story.last!.1.hasPrefix("3 steps in a row"), "\(cluster.story.last!)")

    cluster.say(.change(run: "run", .resume), from: Cluster.client)
    cluster.step(
      .prepared(run, .ready(.init(folder: "/f", checkpoint: "/c", firstStep: 4, proof: nil, notes: [], leftOut: 3))))
    for worker in workers { cluster.report(.ready, from: worker) }
    #expect(begun(cluster, workers[0]) == 0)
    for step in 5...6 { cluster.report(.stepDone(leftOut(step)), from: workers[0]) }
    cluster.report(.stepDone(record(7)), from: workers[0])
    #expect(cluster.story.last!.0 == .running)
  }

  @Test func `a run whose last steps were not applied is not finished, also when it is resumed`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(submission(steps: 4, skipAtMost: 100))
    cluster.report(.stepDone(record(1)), from: workers[0])
    for step in 2...4 { cluster.report(.stepDone(leftOut(step)), from: workers[0]) }
    stop(&cluster, workers, after: 4)
    cluster.step(.committed(run, step: 4, path: "/runs/run/step-00000004"))
    let reason = "the last 3 of 4 steps were not applied, so the run is not finished"
    #expect(cluster.story.last!.0 == .paused && cluster.story.last!.1.hasPrefix(reason), "\(cluster.story.last!)")
    cluster.say(.change(run: "run", .resume), from: Cluster.client)
    cluster.step(
      .prepared(run, .ready(.init(folder: "/f", checkpoint: "/c", firstStep: 4, proof: nil, notes: [], leftOut: 3))))
    #expect(cluster.story.last!.0 == .paused && cluster.story.last!.1.hasPrefix(reason), "\(cluster.story.last!)")
  }

  @Test func `a run that was to stop while it gives way to another pauses all the same`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(submission())
    var high = Cluster.submission("high")
    high.configuration.cluster.priority = 5
    cluster.submit(high)
    cluster.wait(.seconds(1), alive: workers)
    #expect(workers.allSatisfy { cluster.halts($0) == [true] })
    for step in 1...3 { cluster.report(.stepDone(leftOut(step)), from: workers[0]) }
    stop(&cluster, workers, after: 3)
    cluster.step(.committed(run, step: 3, path: "/runs/run/step-00000003"))
    #expect(cluster.story(of: run).last!.0 == .paused, "\(cluster.story(of: run).last!)")
  }

  /// The first worker reports steps and dies before it could report steps 2 to `last`; the second has computed them as
  /// well, and holds the state after the last of them.
  private func reporterDies(_ last: Int) -> (Cluster, run: RunID, survivor: PeerID, other: PeerID) {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(submission())
    cluster.report(.stepDone(record(1)), from: workers[0])
    let generation = cluster.assignment(workers[0])!.generation
    let shards = (0..<2).map { HeldShard(run: run, generation: generation, index: $0, count: 2, step: last) }
    cluster.held[workers[1]] = shards
    // Heartbeats tell the coordinator what is held: a worker that it has not heard in this generation counts as having
    // left it.
    cluster.wait(.seconds(1), alive: workers)
    cluster.say(.goodbye(reason: "it dies"), from: workers[0])
    let other = cluster.join("other")
    cluster.wait(.seconds(5), alive: [workers[1], other])
    #expect(cluster.assignment(other)?.firstStep == last, "\(cluster.story(of: run))")
    return (cluster, run, workers[1], other)
  }

  @Test func `steps not applied that only the other workers can report are counted and reported`() {
    var (cluster, run, survivor, other) = reporterDies(3)
    for step in 2...3 { cluster.report(.stepDone(leftOut(step)), from: survivor) }
    for worker in [survivor, other] { cluster.report(.ready, from: worker) }
    #expect(begun(cluster, survivor) == 2 && begun(cluster, other) == 2)
    #expect(cluster.said(run).filter { $0.contains("was not applied") }.count == 2)
    #expect(cluster.story(of: run).last!.0 == .running)
  }

  @Test func `a run that was to stop after steps that only the other workers can report pauses before its next step`() {
    var (cluster, run, survivor, other) = reporterDies(4)
    for step in 2...4 { cluster.report(.stepDone(leftOut(step)), from: survivor) }
    for worker in [survivor, other] { cluster.report(.ready, from: worker) }
    #expect(begun(cluster, other) == nil, "it went on")
    #expect(cluster.story(of: run).last!.0 == .paused)
    #expect(cluster.story(of: run).last!.1.hasPrefix("3 steps in a row could not be applied"))
  }
}
