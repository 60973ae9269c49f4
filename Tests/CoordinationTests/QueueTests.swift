// The order of runs in the queue, and the changes that users request.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct QueueTests {
  private func submission(_ name: String, priority: Int = 0, workers: Int = 2, minimum: Int? = nil) -> Submission {
    var submission = Cluster.submission(name, workers: workers, minimum: minimum)
    submission.configuration.cluster.priority = priority
    return submission
  }

  private func status(_ cluster: inout Cluster, _ name: String) -> ClusterStatus.Run {
    cluster.say(.status, from: Cluster.client)
    guard case .status(let status)? = cluster.sent[Cluster.client]?.last else { preconditionFailure() }
    return status.runs.last { $0.name == name }!
  }

  @Test func `runs wait in the order in which they were submitted, and no run overtakes one that waits`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun(submission("first"))
    cluster.submit(submission("second", workers: 3))
    let third = cluster.submit(submission("third", workers: 1))!
    let spare = cluster.join("spare")
    #expect(cluster.assignment(spare) == nil, "a small run took the worker that a larger one waits for")
    #expect(cluster.story(of: third).last! == (.queued, "waits until run second has its workers"))
    cluster.say(.change(run: "first", .cancel), from: Cluster.client)
    #expect((workers + [spare]).allSatisfy { cluster.assignment($0)?.configuration.run == "second" })
    cluster.say(.change(run: "second", .cancel), from: Cluster.client)
    cluster.prepare(third, "third")
    #expect(cluster.assignment(workers[0])?.configuration.run == "third")
  }

  @Test func `the newest 500 runs are kept, with all that have not ended`() {
    var cluster = Cluster()
    let (old, _) = cluster.startRun(submission("old"))
    let ended = (1...505).map { number in
      let run = cluster.submit(submission("run-\(number)"))!
      cluster.say(.change(run: "run-\(number)", .cancel), from: Cluster.client)
      return run
    }
    func known() -> [RunID] {
      cluster.say(.status, from: Cluster.client)
      guard case .status(let status)? = cluster.sent[Cluster.client]?.last else { preconditionFailure() }
      return status.runs.map(\.id)
    }
    // The one that has workers was submitted first.
    #expect(known() == [old] + ended.suffix(499))
    #expect(cluster.stored.count == 500 && cluster.stored[ended[0]] == nil && cluster.events[ended[0]] == nil)
    #expect(status(&cluster, "run-505").state == .cancelled)
  }

  @Test func `several runs work side by side where there are workers`() {
    var cluster = Cluster()
    let (_, first) = cluster.startRun(submission("first"))
    let others = [cluster.join("x"), cluster.join("y")]
    cluster.submit(submission("second"))
    #expect(first.allSatisfy { cluster.assignment($0)?.configuration.run == "first" })
    #expect(others.allSatisfy { cluster.assignment($0)?.configuration.run == "second" })
  }

  @Test func `a run of higher priority comes first, and takes the workers of a lower one after a checkpoint`() {
    var cluster = Cluster()
    let (low, workers) = cluster.startRun(submission("low"))
    let high = cluster.submit(submission("high", priority: 5))!
    cluster.wait(.seconds(1), alive: workers)
    #expect(workers.allSatisfy { cluster.halts($0) == [true] })
    let file = CheckpointManifest.File(name: "a", byteCount: 1, sha256: "")
    for worker in workers {
      cluster.report(.saved(step: 3, files: [file]), from: worker)
      cluster.report(.halted(step: 3, held: []), from: worker)
    }
    #expect(cluster.story(of: low).last!.0 == .running, "it went before its checkpoint was on disk")
    cluster.step(.committed(low, step: 3, path: "/runs/low/step-00000003"))
    #expect(workers.allSatisfy { cluster.assignment($0)?.configuration.run == "high" })
    #expect(cluster.story(of: low).contains { $0 == (.queued, "gives way to run high of priority 5") })
    #expect(cluster.story(of: high).last!.0 == .placing)
    cluster.say(.change(run: "high", .cancel), from: Cluster.client)
    #expect(cluster.preparations.last?.0 == low && cluster.preparations.last?.again == true)
  }

  @Test
  func `a pause saves at the end of a step and frees the workers, and a resume continues under the same identifier`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun()
    for step in 1...3 { cluster.report(.stepDone(record(step)), from: workers[0]) }
    cluster.say(.change(run: "run", .pause), from: Cluster.client)
    #expect(workers.allSatisfy { cluster.halts($0) == [true] })
    for worker in workers {
      cluster.report(.saved(step: 3, files: []), from: worker)
      cluster.report(.halted(step: 3, held: []), from: worker)
    }
    #expect(status(&cluster, "run").state == .running)
    cluster.step(.committed(run, step: 3, path: "/runs/run/step-00000003"))
    #expect(cluster.story(of: run).last! == (.paused, "paused on request"))
    #expect(workers.allSatisfy { cluster.stops($0).count == 1 })

    cluster.say(.change(run: "run", .resume), from: Cluster.client)
    #expect(cluster.preparations.last!.again && cluster.preparations.last!.1.resume == .no)
    cluster.prepare(run, "run", firstStep: 3)
    #expect(workers.allSatisfy { cluster.assignment($0)?.firstStep == 3 && cluster.assignment($0)?.run == run })
  }

  @Test func `a paused run's folder is not scanned until it is resumed, and a finished run is not resumed`() {
    var cluster = Cluster()
    cluster.submit()
    cluster.say(.change(run: "run", .pause), from: Cluster.client)
    #expect(cluster.story.last! == (.paused, "paused on request"))
    cluster.wait(.seconds(5))
    #expect(cluster.preparations.count == 1)
    cluster.submit(Cluster.submission("done", steps: 10), firstStep: 10)
    cluster.say(.change(run: "done", .resume), from: Cluster.client)
    #expect(cluster.refusals.last?.hasPrefix("run done is finished") == true)
  }

  @Test func `a run that was paused or cancelled before its first step begins when it is resumed`() {
    for change in [RunChange.pause, .cancel] {
      var cluster = Cluster()
      let run = cluster.submit()!
      cluster.say(.change(run: "run", change), from: Cluster.client)
      cluster.say(.change(run: "run", .resume), from: Cluster.client)
      // Not "the newest checkpoint": it has no checkpoint, and its folder is known to be its own.
      #expect(cluster.preparations.last!.again && cluster.preparations.last!.1.resume == .no)
      cluster.prepare(run, "run")
      let workers = [cluster.join("w0"), cluster.join("w1")]
      #expect(workers.allSatisfy { cluster.assignment($0)?.start == .fresh && cluster.assignment($0)?.run == run })
    }
  }

  @Test func `a run without a checkpoint of its own that is submitted again begins where it was first meant to`() {
    for (steps, again) in [(10, true), (20, false)] {
      var cluster = Cluster()
      var submission = Cluster.submission()
      submission.resume = .checkpoint(path: "/other/step-00000007")
      let run = cluster.submit(submission, firstStep: 7)!
      cluster.say(.change(run: "run", .pause), from: Cluster.client)
      submission.resume = .newest
      submission.configuration.training.steps = steps
      cluster.say(.submit(submission), from: Cluster.client)
      let (id, prepared, isAgain) = cluster.preparations.last!
      #expect(id == run && isAgain == again && prepared.resume == .checkpoint(path: "/other/step-00000007"))
    }
  }

  @Test func `a run whose folder belongs to a newer one of its name is not resumed`() {
    var cluster = Cluster()
    let first = cluster.submit()!
    cluster.say(.change(run: "run", .cancel), from: Cluster.client)
    let second = cluster.submit()!
    cluster.say(.change(run: first.description, .resume), from: Cluster.client)
    #expect(
      cluster.refusals.last
        == "run run (\(first)) cannot continue: its folder belongs to run run (\(second)), which was submitted after it"
    )
  }

  @Test(arguments: [10.0, 0.5])
  func `a run of higher priority waits a moment for free workers before others have to save and leave`(
    patience: Double
  ) {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun(submission("low"))
    var high = submission("high", priority: 5)
    high.configuration.cluster.patienceSeconds = patience
    cluster.submit(high)
    cluster.step(.tick)
    #expect(workers.allSatisfy { cluster.halts($0) == [] }, "it did not wait")
    cluster.wait(.seconds(1), alive: workers)
    #expect(workers.allSatisfy { cluster.halts($0) == [true] }, "it never got room")
  }

  @Test func `a scale-down takes effect at the end of a step, without any checkpoint`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(submission("run", workers: 3, minimum: 1))
    let generation = cluster.assignment(workers[0])!.generation
    for step in 1...4 { cluster.report(.stepDone(record(step)), from: workers[0]) }
    cluster.say(.change(run: "run", .scale(workers: 2)), from: Cluster.client)
    #expect(workers.allSatisfy { cluster.halts($0) == [false] })
    for (index, worker) in workers.enumerated() {
      let shard = HeldShard(run: run, generation: generation, index: index, count: 3, step: 4)
      cluster.held[worker] = [shard]
      cluster.report(.halted(step: 4, held: [shard]), from: worker)
    }
    let assignment = cluster.assignment(workers[0])!
    #expect(assignment.generation > generation && assignment.roster.count == 2 && assignment.firstStep == 4)
    guard case .memory(let state) = assignment.start else {
      Issue.record("\(assignment.start)")
      return
    }
    #expect(state.holders == [0, 1, 2], "the third one hands over what it holds")
    #expect(cluster.assignment(workers[2])!.isHelper)
    for worker in workers[..<2] { cluster.report(.ready, from: worker) }
    #expect(cluster.stops(workers[2]) == ["its part is done"])
    #expect(cluster.story(of: run).last! == (.running, "continues from step 4 with 2 workers"))
    cluster.say(.change(run: "run", .scale(workers: 9)), from: Cluster.client)
    #expect(cluster.refusals.last == "run run has 8 units a step, so it can have 1 to 8 workers, not 9")
  }

  @Test func `a run grows at the end of a step when a worker comes that it may have`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun(submission("run", workers: 2, minimum: 1))
    cluster.say(.change(run: "run", .scale(workers: 3)), from: Cluster.client)
    cluster.wait(.seconds(3), alive: workers)
    #expect(cluster.halts(workers[0]).isEmpty)
    let third = cluster.join("third")
    cluster.wait(.seconds(2), alive: workers + [third])
    #expect(cluster.halts(workers[0]) == [false])
  }
}
