// What happens when a worker, or the coordinator, is gone.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct RecoveryTests {
  /// Two workers in step 8, with whole copies of each other's shard of step 5.
  private func mirrored(_ submission: Submission = Cluster.submission(minimum: 1)) -> (Cluster, RunID, [PeerID]) {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(submission)
    let generation = cluster.assignment(workers[0])!.generation
    let shards = (0..<2).map { HeldShard(run: run, generation: generation, index: $0, count: 2, step: 5) }
    for worker in workers { cluster.held[worker] = shards }
    for step in 1...8 { cluster.report(.stepDone(record(step, loss: Double(step))), from: workers[0]) }
    cluster.wait(.seconds(1), alive: workers)
    return (cluster, run, workers)
  }

  @Test
  func `a step that is not finite is reported and left out, and several in a row pause the run after a checkpoint`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun()
    func say(_ step: Int, _ reason: String?) {
      var record = record(step, loss: reason == nil ? 2 : .nan)
      record.skipped = reason
      cluster.report(.stepDone(record), from: workers[0])
    }
    say(1, "bad")
    say(2, "bad")
    say(3, nil)
    say(4, "bad")
    say(5, "bad")
    #expect(cluster.halts(workers[0]).isEmpty)
    #expect(cluster.said(run).filter { $0.contains("was not applied: bad") }.count == 4)
    say(6, "worse")
    #expect(cluster.halts(workers[0]) == [true] && cluster.halts(workers[1]) == [true])
    #expect(cluster.said(run).last?.contains("3 steps in a row could not be applied, the last because worse") == true)
  }

  @Test func `after a silence of the patience the others continue from the newest state in their memory`() {
    var (cluster, run, workers) = mirrored()
    cluster.wait(.seconds(11), alive: [workers[0]])
    let placing = cluster.story(of: run).first { $0.1.contains("is lost") }!
    #expect(
      placing.1.hasPrefix("worker w1 (host-w1, process 102) is lost at step 0: no message from it arrived for 10"))
    let assignment = cluster.assignment(workers[0])!
    #expect(assignment.roster.count == 1 && assignment.firstStep == 5)
    guard case .memory(let state) = assignment.start else {
      Issue.record("\(assignment.start)")
      return
    }
    #expect(state.step == 5 && state.holders == [0, 0] && state.units == [0..<4, 4..<8])
    #expect(cluster.said(run).contains { $0.contains("has been silent for 5") }, "it is named before it is given up")
  }

  @Test
  func
    `a coordinator that was stopped for a minute loses no worker, and one that is silent afterwards is still lost`()
  {
    var (cluster, run, workers) = mirrored()
    cluster.now = cluster.now + .seconds(60)
    cluster.step(.tick)
    cluster.step(.disconnected(workers[0]))
    cluster.wait(.seconds(3))
    #expect(cluster.story(of: run).last!.0 == .running)
    #expect(
      cluster.log.contains("the coordinator was stopped for 60.0 s, which does not count as silence of its workers"))
    for worker in workers { cluster.say(.heartbeat(cluster.heartbeat(worker)), from: worker) }
    cluster.wait(.seconds(9), alive: [workers[0]])
    #expect(cluster.story(of: run).last!.0 == .running)
    cluster.wait(.seconds(2), alive: [workers[0]])
    #expect(cluster.story(of: run).contains { $0.1.contains("worker w1 (host-w1, process 102) is lost") })
  }

  @Test func `workers that were all silent at once are heard before anything is computed again`() {
    var (cluster, run, workers) = mirrored(Cluster.submission(minimum: 1))
    let preparations = cluster.preparations.count
    cluster.wait(.seconds(30))
    #expect(cluster.story(of: run).last! == (.placing, "waits for 1 worker; none is free"))
    for (index, worker) in workers.enumerated() {
      var heartbeat = Heartbeat()
      // Either knows a half.
      heartbeat.held = [cluster.held[worker]![index]]
      cluster.held[worker] = heartbeat.held
      cluster.say(.hello(Cluster.worker("w\(index)"), heartbeat), from: worker)
      cluster.wait(.seconds(1), alive: Array(workers[0...index]))
    }
    #expect(cluster.preparations.count == preparations, "the disk was looked at")
    #expect(cluster.assignment(workers[0])?.firstStep == 5 && cluster.assignment(workers[1])?.firstStep == 5)
  }

  @Test func `a worker whose connection is closed is lost within a second, unless it connects again`() {
    var (cluster, _, workers) = mirrored()
    cluster.step(.disconnected(workers[1]))
    cluster.wait(.milliseconds(500), alive: workers)
    cluster.wait(.seconds(2), alive: workers)
    #expect(cluster.story.last!.0 == .running)
    cluster.step(.disconnected(workers[1]))
    cluster.wait(.seconds(1), alive: [workers[0]])
    #expect(cluster.story.contains { $0.1.contains("its connection was closed") })
  }

  @Test func `steps that are computed again must be the same, are not recorded twice, and count as lost time`() {
    var (cluster, run, workers) = mirrored()
    cluster.say(.goodbye(reason: "it was told to end"), from: workers[1])
    cluster.wait(.seconds(1), alive: [workers[0]])
    cluster.report(.ready, from: workers[0])
    for step in 6...9 { cluster.report(.stepDone(record(step, loss: Double(step))), from: workers[0]) }
    #expect(cluster.records.count == 9 && cluster.story(of: run).last!.0 == .running)
    cluster.say(.status, from: Cluster.client)
    guard case .status(let status)? = cluster.sent[Cluster.client]?.last else { return }
    #expect(status.runs[0].goodput.fault > 0.3 && status.runs[0].step == 9)
  }

  @Test func `a step that comes out otherwise the second time pauses the run with both losses`() {
    var (cluster, run, workers) = mirrored()
    cluster.say(.goodbye(reason: "gone"), from: workers[1])
    cluster.wait(.seconds(1), alive: [workers[0]])
    cluster.report(.ready, from: workers[0])
    cluster.report(.stepDone(record(6, loss: 6.5)), from: workers[0])
    let last = cluster.story(of: run).last!
    #expect(last.0 == .paused && last.1.hasPrefix("step 6 was computed again and differs: loss 6.5 where 6.0"))
  }

  @Test func `without a whole state in memory the newest checkpoint is looked for, and the curve stays`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(Cluster.submission(minimum: 1))
    for step in 1...8 { cluster.report(.stepDone(record(step)), from: workers[0]) }
    cluster.say(.goodbye(reason: "gone"), from: workers[1])
    cluster.wait(.seconds(1), alive: [workers[0]])
    #expect(cluster.preparations.last!.0 == run && cluster.preparations.last!.again)
    cluster.prepare(run, "run", firstStep: 4)
    #expect(cluster.assignment(workers[0])?.start == .checkpoint(path: "/c"))
    #expect(cluster.said(run).last == "steps 5 to 8 are computed again, and compared with what was recorded")
  }

  @Test func `memory that is older than the newest checkpoint is not used`() {
    var (cluster, run, workers) = mirrored()
    for worker in workers { cluster.report(.saved(step: 8, files: []), from: worker) }
    cluster.step(.committed(run, step: 8, path: "/runs/run/step-00000008"))
    cluster.say(.goodbye(reason: "gone"), from: workers[1])
    cluster.wait(.seconds(1), alive: [workers[0]])
    #expect(cluster.preparations.last!.again)
  }

  @Test func `fewer workers than the least wait for another one, and nothing is lost meanwhile`() {
    var (cluster, run, workers) = mirrored(Cluster.submission(minimum: 2))
    cluster.say(.goodbye(reason: "gone"), from: workers[1])
    cluster.wait(.seconds(60), alive: [workers[0]])
    #expect(cluster.story(of: run).last! == (.placing, "waits for 2 workers; 1 is free: w0"))
    let other = cluster.join("other")
    #expect(cluster.assignment(other)?.firstStep == 5 && cluster.assignment(workers[0])?.firstStep == 5)
  }

  @Test func `a second process of one name replaces the first, and the run continues without that one`() {
    var (cluster, run, _) = mirrored()
    var newer = Cluster.worker("w1")
    newer.incarnation = 9
    cluster.say(.hello(newer, Heartbeat()), from: PeerID("another"))
    #expect(cluster.story(of: run).last!.1.contains("another process took its name"))
  }

  @Test func `a worker whose heartbeats arrive but that no longer works for its run is replaced after the patience`() {
    var (cluster, run, workers) = mirrored()
    for second in 0..<14 {
      #expect(cluster.story(of: run).last!.0 == .running || second > 10, "\(second) s")
      cluster.wait(.milliseconds(1000), alive: [workers[0]])
      cluster.say(.heartbeat(Heartbeat()), from: workers[1])
    }
    #expect(
      cluster.story(of: run).contains {
        $0.1.hasPrefix("worker w1 (host-w1, process 102) has not worked for the run for 1")
      })
  }

  @Test func `a worker whose reports arrive works, even if its heartbeats of the last patience are all the same`() {
    var (cluster, run, workers) = mirrored()
    let same = cluster.heartbeat(workers[0])
    for step in 9..<60 {
      for worker in workers { cluster.say(.heartbeat(worker == workers[0] ? same : moved(step)), from: worker) }
      cluster.report(.stepDone(record(step)), from: workers[0])
      cluster.now = cluster.now + .milliseconds(250)
      cluster.step(.tick)
    }
    #expect(cluster.story(of: run).last!.0 == .running, "\(cluster.story(of: run).last!)")
    func moved(_ progress: Int) -> Heartbeat {
      var heartbeat = cluster.heartbeat(workers[1])
      heartbeat.progress = progress
      return heartbeat
    }
  }

  @Test
  func `a worker whose heartbeats arrive without progress is named with the workers that wait for it, and put aside`() {
    var (cluster, run, workers) = mirrored()
    var stuck = cluster.heartbeat(workers[1])
    stuck.progress = 77
    stuck.step = 8
    for tick in 0..<60 {
      var waiting = cluster.heartbeat(workers[0])
      waiting.progress = tick
      (waiting.waiting, waiting.waitingSeconds, waiting.waitingFor) = ("w1 (expert outputs)", Double(tick) / 4, [1])
      cluster.say(.heartbeat(waiting), from: workers[0])
      cluster.say(.heartbeat(stuck), from: workers[1])
      cluster.now = cluster.now + .milliseconds(250)
      cluster.step(.tick)
      if cluster.story(of: run).last!.0 != .running { break }
    }
    let reason = cluster.story(of: run).first { $0.1.contains("has done nothing") }?.1 ?? "no worker was named"
    #expect(
      reason.hasPrefix("worker w1 (host-w1, process 102) has done nothing for 10")
        && reason.contains("and w0 wait for it"))
    #expect(cluster.said(run).contains("step 1: worker w0 has waited 5.3 s for w1 (expert outputs)"))
    cluster.wait(.seconds(1), alive: [workers[0]])
    #expect(cluster.assignment(workers[0])?.roster.map(\.worker.name) == ["w0"], "the stuck one was taken again")
  }

  @Test
  func
    `a run in which every worker waits for another begins again from memory, and a line tells which waits for which`()
  {
    var (cluster, run, workers) = mirrored()
    for tick in 1...50 {
      for (index, worker) in workers.enumerated() {
        var heartbeat = cluster.heartbeat(worker)
        heartbeat.progress = 3
        (heartbeat.waiting, heartbeat.waitingSeconds) = ("w\(1 - index) (gradient sums)", Double(tick) / 4)
        heartbeat.waitingFor = [1 - index]
        cluster.say(.heartbeat(heartbeat), from: worker)
      }
      cluster.now = cluster.now + .milliseconds(250)
      cluster.step(.tick)
      if cluster.story(of: run).last!.0 != .running { break }
    }
    #expect(
      cluster.story(of: run).last!.1
        == "every worker waits for another; w0 waits for w1 (gradient sums), w1 waits for w0 (gradient sums)")
  }

  @Test func `too many generations without a step end the run`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(Cluster.submission(minimum: 2))
    for _ in 0..<10 where cluster.story(of: run).last!.0 != .failed {
      cluster.report(.lacking(reason: "nothing here"), from: workers[0])
      cluster.wait(.seconds(1), alive: workers)
      cluster.prepare(run, "run")
      for worker in workers { cluster.report(.ready, from: worker) }
    }
    #expect(cluster.story(of: run).last!.1.hasPrefix("6 generations in a row did not get a step done; the last one: "))
  }

  @Test func `two results of a unit pause the run, and a third opinion puts the wrong worker aside`() {
    var (cluster, run, workers) = mirrored()
    cluster.report(.disagreed(Disagreement(step: 8, unit: 3, voters: [0, 1], hashes: [10, 11])), from: workers[0])
    #expect(cluster.story(of: run).last!.0 == .paused)
    #expect(cluster.story(of: run).last!.1.contains("unit 3 of step 9: w0 got a, w1 got b"))

    var three = Cluster()
    let (other, peers) = three.startRun(Cluster.submission(workers: 3, minimum: 1))
    three.report(.disagreed(Disagreement(step: 0, unit: 3, voters: [0, 1, 2], hashes: [10, 11, 10])), from: peers[2])
    #expect(
      three.story(of: other).last!.1.contains("worker w1 (host-w1, process 102) computed wrongly and is put aside"))
    three.wait(.seconds(1), alive: peers)
    three.prepare(other, "run")
    #expect(three.assignment(peers[0])?.roster.map(\.worker.name) == ["w0", "w2"])
  }

  // MARK: the coordinator's own death

  @Test func `a restarted coordinator knows its runs, and workers that kept training stay in them`() {
    var (cluster, run, workers) = mirrored()
    let generation = cluster.assignment(workers[0])!.generation
    cluster.restartCoordinator()
    for (index, worker) in workers.enumerated() {
      cluster.say(.hello(Cluster.worker("w\(index)"), cluster.heartbeat(worker)), from: worker)
      guard case .welcome(_, _, _, let keep, let noted)? = cluster.sent[worker]?.last else {
        Issue.record("\(cluster.sent[worker]?.last as Any)")
        return
      }
      #expect(keep == generation && noted == (index == 0 ? 9 : 1))
    }
    cluster.report(.stepDone(record(9)), from: workers[0])
    #expect(cluster.records.count == 9 && cluster.story(of: run).last!.0 == .running)
    #expect(cluster.events[run]!.count { if case .stepped = $0 { true } else { false } } == 9)
  }

  @Test func `workers that do not return to a restarted coordinator are lost after the patience`() {
    var (cluster, run, workers) = mirrored()
    cluster.restartCoordinator()
    cluster.say(.hello(Cluster.worker("w0"), cluster.heartbeat(workers[0])), from: workers[0])
    cluster.wait(.seconds(9), alive: [workers[0]])
    #expect(cluster.story(of: run).last!.0 == .running)
    cluster.wait(.seconds(2), alive: [workers[0]])
    #expect(cluster.story(of: run).contains { $0.1 == "worker w1 (host-w1, process 102) did not return" })
    #expect(cluster.assignment(workers[0])?.firstStep == 5)
  }

  @Test func `decisions that a coordinator stored and did not send are sent after its restart`() {
    var cluster = Cluster()
    let workers = [cluster.join("w0"), cluster.join("w1")]
    let run = cluster.submit()!
    // The workers were assigned, and did not receive it.
    cluster.sent = [:]
    cluster.restartCoordinator()
    for (index, worker) in workers.enumerated() {
      cluster.say(.hello(Cluster.worker("w\(index)"), Heartbeat()), from: worker)
      #expect(cluster.assignment(worker) != nil)
    }
    for worker in workers { cluster.report(.ready, from: worker) }
    #expect(cluster.story(of: run).last!.0 == .running && workers.allSatisfy { cluster.begins($0) == 1 })
  }

  @Test func `commits and preparations that were under way are done again`() {
    var (cluster, run, workers) = mirrored()
    for worker in workers { cluster.report(.saved(step: 8, files: []), from: worker) }
    cluster.submit(Cluster.submission("waiting"))
    let commits = cluster.commits.count
    cluster.restartCoordinator()
    #expect(cluster.commits.count == commits + 1 && cluster.commits.last!.1.step == 8)
    cluster.step(.committed(run, step: 8, path: "/p"))
    #expect(cluster.events[run]!.contains(.saved(step: 8, path: "/p")))
  }

  @Test func `the step after a checkpoint is its proof, also when the coordinator died between`() {
    var (cluster, run, workers) = mirrored()
    for worker in workers { cluster.report(.saved(step: 8, files: []), from: worker) }
    cluster.step(.committed(run, step: 8, path: "/p"))
    #expect(cluster.proofs.isEmpty)
    cluster.restartCoordinator()
    for (index, worker) in workers.enumerated() {
      cluster.say(.hello(Cluster.worker("w\(index)"), cluster.heartbeat(worker)), from: worker)
    }
    cluster.report(.stepDone(record(9, loss: 9)), from: workers[0])
    #expect(cluster.proofs.map(\.0) == ["/p"] && cluster.proofs[0].1 == StepMark(step: 9, loss: 9, gradientNorm: 1))
  }

  @Test func `a resume whose first step differs from the proof pauses the run`() {
    var cluster = Cluster()
    let workers = [cluster.join("w0"), cluster.join("w1")]
    cluster.say(.submit(Cluster.submission()), from: Cluster.client)
    let run = cluster.preparations[0].0
    cluster.step(
      .prepared(
        run,
        .ready(
          .init(
            folder: "/f", checkpoint: "/c", firstStep: 4, proof: StepMark(step: 5, loss: 3, gradientNorm: 1), notes: [])
        )))
    for worker in workers { cluster.report(.ready, from: worker) }
    cluster.report(.stepDone(record(5, loss: 2)), from: workers[0])
    #expect(cluster.story(of: run).last!.0 == .paused)
    #expect(cluster.story(of: run).last!.1.contains("loss 2.0 instead of 3.0"))
  }

  @Test func `a first step that only another worker can report is compared with the proof as well`() {
    var cluster = Cluster()
    let workers = [cluster.join("w0"), cluster.join("w1")]
    cluster.say(.submit(Cluster.submission()), from: Cluster.client)
    let run = cluster.preparations[0].0
    let proof = StepMark(step: 5, loss: 3, gradientNorm: 1)
    cluster.step(
      .prepared(run, .ready(.init(folder: "/f", checkpoint: "/c", firstStep: 4, proof: proof, notes: []))))
    for worker in workers { cluster.report(.ready, from: worker) }
    // The first worker dies before it could report step 5, whose state the second one holds.
    let generation = cluster.assignment(workers[0])!.generation
    cluster.held[workers[1]] = (0..<2).map {
      HeldShard(run: run, generation: generation, index: $0, count: 2, step: 5)
    }
    cluster.wait(.seconds(1), alive: workers)
    cluster.say(.goodbye(reason: "it dies"), from: workers[0])
    let other = cluster.join("other")
    cluster.wait(.seconds(1), alive: [workers[1], other])
    #expect(cluster.assignment(other)?.firstStep == 5)
    cluster.report(.stepDone(record(5, loss: 2)), from: workers[1])
    #expect(cluster.story(of: run).last!.0 == .paused)
    #expect(cluster.story(of: run).last!.1.contains("loss 2.0 instead of 3.0"))
  }
}
