// What the coordinator decides about one run, scenario by scenario.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct CoordinatorTests {
  @Test func `a run goes from queued over placing and running to finished, with a reason at every change`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun()
    #expect(workers.allSatisfy { cluster.begins($0) == 1 })
    for step in 1...10 { cluster.report(.stepDone(record(step)), from: workers[0]) }
    let files = ["a", "b"].map { CheckpointManifest.File(name: $0, byteCount: 1, sha256: "") }
    cluster.report(.saved(step: 10, files: [files[0]]), from: workers[0])
    cluster.report(.finished, from: workers[0])
    #expect(cluster.commits.isEmpty, "a checkpoint was committed before every worker had saved")
    cluster.report(.saved(step: 10, files: [files[1]]), from: workers[1])
    cluster.report(.finished, from: workers[1])
    #expect(cluster.commits.count == 1)
    #expect(cluster.commits[0].1.files.map(\.name) == ["a", "b"] && cluster.commits[0].1.loss == 2)
    #expect(cluster.story.last!.0 == .running, "finished before its checkpoint was on disk")
    cluster.step(.committed(run, step: 10, path: "/runs/run/step-00000010"))
    #expect(cluster.story.map(\.0) == [.queued, .placing, .placing, .running, .finished])
    #expect(cluster.story.allSatisfy { !$0.1.isEmpty })
    #expect(cluster.records.count == 10)
    #expect(workers.allSatisfy { cluster.stops($0).count == 1 })
  }

  @Test func `a run that lacks workers reports their number and the free workers`() {
    var cluster = Cluster()
    cluster.submit()
    #expect(cluster.story.last!.1 == "waits for 2 workers; none is free")
    _ = cluster.join("ada")
    #expect(cluster.story.last!.1 == "waits for 2 workers; 1 is free: ada")
    let second = cluster.join("bob")
    #expect(cluster.assignment(second)?.index == 1)
  }

  @Test func `a run waits for all its workers, but after its patience begins with the least it needs`() {
    var cluster = Cluster()
    let first = cluster.join("w0")
    cluster.submit(Cluster.submission(workers: 3, minimum: 1))
    cluster.wait(.seconds(9), alive: [first])
    #expect(cluster.assignment(first) == nil)
    cluster.wait(.seconds(2), alive: [first])
    #expect(cluster.assignment(first)?.roster.count == 1)
  }

  @Test(arguments: [(1, 1), (7, 3), (8, 2), (5, 5), (3, 4)])
  func `units and experts are shared out once each, in order and evenly`(count: Int, workers: Int) {
    let shares = evenShares(of: count, among: workers)
    #expect(shares.flatMap { Array($0) } == Array(0..<count))
    let sizes = shares.map(\.count)
    #expect(sizes.max()! - sizes.min()! <= 1)
  }

  @Test func `the status shows a lost worker with the reason, until one of its name joins`() throws {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    #expect(cluster.coordinator.status(at: cluster.now).gone == [])
    cluster.step(.disconnected(workers[1]))
    cluster.wait(.seconds(2), alive: [workers[0]])
    let status = cluster.coordinator.status(at: cluster.now)
    let gone = try #require(status.gone?.first)
    #expect(status.gone?.count == 1 && !status.workers.contains { $0.description.name == gone.description.name })
    #expect(gone.reason == "its connection was closed" && gone.run == status.runs[0].name && gone.secondsAgo > 0.5)
    _ = cluster.join(gone.description.name)
    #expect(cluster.coordinator.status(at: cluster.now).gone == [])
  }

  @Test func `a run counts its own generations`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    #expect(cluster.coordinator.status(at: cluster.now).runs[0].memberships == 1)
    for worker in workers { cluster.say(.goodbye(reason: "ends"), from: worker) }
    cluster.say(.change(run: "run", .cancel), from: Cluster.client)
    cluster.submit(Cluster.submission("other", workers: 1))
    #expect(cluster.coordinator.status(at: cluster.now).runs.last?.memberships == 0)
    _ = cluster.join("late")
    let last = cluster.coordinator.status(at: cluster.now).runs.last!
    #expect(last.name == "other" && last.generation == 2 && last.memberships == 1)
  }

  @Test func `a worker with rare heartbeats is not lost`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    for beat in 0..<5 {
      cluster.wait(.seconds(9))
      for worker in workers {
        var heartbeat = cluster.heartbeat(worker)
        heartbeat.progress = beat + 1
        cluster.say(.heartbeat(heartbeat), from: worker)
      }
    }
    #expect(cluster.story.last!.0 == .running)
  }

  @Test func `a worker's failure is the run's, with its reason`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    cluster.report(.failed(reason: "text.h5 does not exist"), from: workers[1])
    #expect(cluster.story.last! == (.failed, "worker w1 (host-w1, process 102): text.h5 does not exist"))
  }

  @Test func `workers that compute differently are not put into one run, and both are named`() {
    var cluster = Cluster()
    _ = cluster.join("intel", fingerprint: "Haswell/v3/1")
    _ = cluster.join("amd", fingerprint: "Zen/v3/2")
    cluster.submit()
    let reason = cluster.story.last!.1
    #expect(cluster.story.last!.0 == .placing)
    #expect(
      reason.contains("intel") && reason.contains("Haswell/v3/1") && reason.contains("amd")
        && reason.contains("Zen/v3/2"))
    let third = cluster.join("amd2", fingerprint: "Zen/v3/2")
    #expect(cluster.assignment(third) != nil)
  }

  @Test func `a run can be cancelled while it waits, while it is placed and while it runs`() {
    for moment in 0..<3 {
      var cluster = Cluster()
      if moment > 0 { _ = [cluster.join("w0"), cluster.join("w1")] }
      cluster.submit()
      let peers = [PeerID("peer-w0"), PeerID("peer-w1")]
      if moment > 1 { for peer in peers { cluster.report(.ready, from: peer) } }
      cluster.say(.change(run: "run", .cancel), from: Cluster.client)
      #expect(cluster.story.last! == (.cancelled, "cancelled on request"))
      if moment > 0 { #expect(peers.allSatisfy { cluster.stops($0).count == 1 }) }
      cluster.say(.change(run: "run", .cancel), from: Cluster.client)
      #expect(cluster.refusals.last == "run run has ended: cancelled on request")
    }
  }

  @Test func `reports of an earlier generation and repeated reports change nothing`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    let old = cluster.assignment(workers[0])!.generation
    cluster.report(.stepDone(record(1)), from: workers[0])
    cluster.say(.report(generation: old, number: 2, .stepDone(record(1))), from: workers[0])
    cluster.say(.report(generation: old, number: 4, .stepDone(record(3))), from: workers[0])
    #expect(cluster.records.count == 1)
    cluster.say(.change(run: "run", .cancel), from: Cluster.client)
    cluster.submit(Cluster.submission("second"))
    cluster.say(.report(generation: old, number: 3, .failed(reason: "too late")), from: workers[0])
    cluster.say(.report(generation: old, number: 3, .stepDone(record(3))), from: workers[0])
    cluster.say(.report(generation: old, number: 2, .saved(step: 3, files: [])), from: workers[1])
    #expect(cluster.story.last!.0 == .placing && cluster.records.count == 1 && cluster.commits.isEmpty)
  }

  @Test
  func `a follower receives the events after any number, also after the end, and waits for new ones`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun()
    cluster.say(.follow(run: "run", after: cluster.events[run]!.count), from: Cluster.client)
    let quiet = cluster.sent[Cluster.client]!.count
    cluster.report(.stepDone(record(1)), from: workers[0])
    #expect(cluster.sent[Cluster.client]!.count == quiet + 1)
    cluster.say(.change(run: "run", .cancel), from: PeerID("other"))
    let late = PeerID("late")
    cluster.say(.follow(run: "run", after: 0), from: late)
    guard case .events(_, 1, let events, true)? = cluster.sent[late]?.last else {
      Issue.record("\(cluster.sent[late] ?? [])")
      return
    }
    #expect(events == cluster.events[run])
    #expect(events.last == .state(.cancelled, reason: "cancelled on request"))
  }

  @Test func `a run is described with its configuration, folder and owner, and an unknown run is refused`() {
    var cluster = Cluster()
    let run = cluster.submit()!
    cluster.say(.describe(run: "run"), from: Cluster.client)
    guard case .described(let details)? = cluster.sent[Cluster.client]?.last else {
      Issue.record("\(cluster.sent[Cluster.client] ?? [])")
      return
    }
    #expect(details.id == run && details.name == "run" && details.folder == "/runs/run" && details.owner == nil)
    #expect(details.configuration == Cluster.submission("run").configuration)
    cluster.say(.describe(run: "what"), from: Cluster.client)
    #expect(cluster.refusals.last == "no run 'what'; it knows run")
  }

  @Test func `an unknown run is refused with the names of those that are known`() {
    var cluster = Cluster()
    cluster.say(.follow(run: "what", after: 0), from: Cluster.client)
    #expect(cluster.refusals.last == "no run 'what'; no run was submitted to this coordinator")
    cluster.submit()
    cluster.say(.change(run: "what", .cancel), from: Cluster.client)
    #expect(cluster.refusals.last == "no run 'what'; it knows run")
  }

  @Test func `a folder that must not be touched refuses the run before any worker is asked`() {
    var cluster = Cluster()
    let workers = [cluster.join("w0"), cluster.join("w1")]
    cluster.say(.submit(Cluster.submission()), from: Cluster.client)
    cluster.step(.prepared(cluster.preparations[0].0, .refused(reason: "already holds checkpoints")))
    #expect(workers.allSatisfy { cluster.assignment($0) == nil })
    #expect(cluster.story.last! == (.failed, "already holds checkpoints"))
  }

  @Test func `a resume after the last step is finished at once, and the reason contains how to continue`() {
    var cluster = Cluster()
    _ = [cluster.join("w0"), cluster.join("w1")]
    cluster.submit(Cluster.submission(steps: 10), firstStep: 10)
    #expect(cluster.story.last! == (.finished, "all 10 steps were done before; raise training.steps to continue"))
  }

  @Test func `a resume with fewer steps than are done reports the step of the checkpoint`() {
    var cluster = Cluster()
    cluster.submit(Cluster.submission(steps: 40), firstStep: 60)
    #expect(
      cluster.story.last! == (
        .finished,
        "the checkpoint is of step 60, and training.steps is 40, so nothing is left to do; raise training.steps to continue"
      ))
  }

  @Test
  func `a run whose workers will not return, as their command reports, is paused with the reason`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    cluster.say(.change(run: "run", .abandon(reason: "all workers have ended")), from: Cluster.client)
    #expect(cluster.story.last! == (.paused, "all workers have ended"))
    #expect(workers.allSatisfy { cluster.stops($0).count == 1 })
    cluster.say(.change(run: "run", .abandon(reason: "again")), from: Cluster.client)
    #expect(cluster.refusals.last == "run run is paused: all workers have ended")
  }

  @Test func `remarks of the submitting command about the data are in the run's events once, after its beginning`() {
    var cluster = Cluster()
    var submission = Cluster.submission()
    submission.notes = ["the validation split is empty"]
    let run = cluster.submit(submission)!
    #expect(cluster.said(run) == ["the validation split is empty"])
    cluster.say(.change(run: "run", .pause), from: Cluster.client)
    submission.notes = [String](repeating: "x", count: 17)
    cluster.say(.submit(submission), from: Cluster.client)
    #expect(cluster.refusals.last == "invalid message: notes is 17")
  }

  @Test func `a worker that does not see the run's folder fails the run as it is placed`() {
    var cluster = Cluster()
    let workers = [cluster.join("w0"), cluster.join("w1")]
    let run = cluster.submit()!
    #expect(workers.allSatisfy { cluster.assignment($0)?.token == nil })
    cluster.report(.folderUnseen(reason: "/runs/run is another folder here"), from: workers[1])
    #expect(
      cluster.story(of: run).last! == (.failed, "worker w1 (host-w1, process 102): /runs/run is another folder here"))
  }

  @Test func `a worker that joins a run later and does not see its folder is excluded, and the run continues`() {
    var cluster = Cluster()
    var submission = Cluster.submission(workers: 2, minimum: 1)
    submission.configuration.cluster.patienceSeconds = 1
    let first = cluster.join("w0")
    cluster.say(.submit(submission), from: Cluster.client)
    let run = cluster.preparations[0].0
    cluster.step(
      .prepared(
        run, .ready(.init(folder: "/f", checkpoint: nil, firstStep: 0, proof: nil, notes: [], token: "abc"))))
    cluster.wait(.seconds(2), alive: [first])
    #expect(cluster.assignment(first)?.token == "abc")
    cluster.report(.ready, from: first)
    cluster.report(.stepDone(record(1)), from: first)
    let second = cluster.join("w1")
    cluster.wait(.seconds(2), alive: [first, second])
    let shard = HeldShard(
      run: run, generation: cluster.assignment(first)!.generation, index: 0, count: 1, step: 1)
    cluster.held[first] = [shard]
    cluster.report(.halted(step: 1, held: [shard]), from: first)
    #expect(cluster.assignment(second)?.token == "abc")
    cluster.report(.folderUnseen(reason: "no folder"), from: second)
    cluster.wait(.milliseconds(250), alive: [first, second])
    #expect(cluster.assignment(first)!.roster.map(\.worker.name) == ["w0"])
    cluster.report(.ready, from: first)
    #expect(cluster.story(of: run).last! == (.running, "continues from step 1 with 1 worker"))
  }

  @Test func `a second run with the name of an unfinished one is refused, and a repeated submission is one run`() {
    var cluster = Cluster()
    var submission = Cluster.submission()
    submission.key = "key"
    let (run, _) = cluster.startRun(submission)
    cluster.say(.submit(Cluster.submission()), from: Cluster.client)
    #expect(cluster.refusals.last?.hasPrefix("run run is running already") == true)
    cluster.say(.submit(submission), from: Cluster.client)
    #expect(cluster.sent[Cluster.client]?.last == .submitted(run: run, name: "run", after: 0))
    #expect(cluster.events.count == 1)
  }

  @Test func `a worker that the coordinator does not know is asked for a hello`() {
    var cluster = Cluster()
    cluster.say(.heartbeat(Heartbeat()), from: PeerID("stranger"))
    #expect(cluster.sent[PeerID("stranger")] == [.unknownWorker])
  }

  @Test func `a configuration that would not pass as a file is refused, whichever client sends it`() {
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

  @Test func `a follower that was forgotten gets no more events`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun()
    cluster.say(.follow(run: "run", after: cluster.events[run]!.count), from: Cluster.client)
    let count = cluster.sent[Cluster.client]!.count
    cluster.step(.forgotten(Cluster.client))
    cluster.report(.stepDone(record(1)), from: workers[0])
    #expect(cluster.sent[Cluster.client]!.count == count && cluster.records.count == 1)
  }
}
