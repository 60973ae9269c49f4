// What the coordinator decides, scenario by scenario.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct CoordinatorTests {
  @Test func `a run goes from queued over placing and running to finished, with a reason at every change`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun()
    #expect(workers.allSatisfy { cluster.begins($0) == 1 })
    let generation = cluster.assignment(workers[0])!.generation
    for step in 1...10 { cluster.say(.stepDone(generation: generation, record(step)), from: workers[0]) }
    let files = ["a", "b"].map { CheckpointManifest.File(name: $0, byteCount: 1, sha256: "") }
    cluster.say(.saved(generation: generation, step: 10, files: [files[0]]), from: workers[0])
    cluster.say(.finished(generation: generation), from: workers[0])
    #expect(cluster.commits.isEmpty, "a checkpoint was committed before every worker had saved")
    cluster.say(.saved(generation: generation, step: 10, files: [files[1]]), from: workers[1])
    cluster.say(.finished(generation: generation), from: workers[1])
    #expect(cluster.commits.count == 1)
    #expect(cluster.commits[0].1.files.map(\.name) == ["a", "b"] && cluster.commits[0].1.loss == 2)
    #expect(cluster.story.last!.0 == .running, "finished before its checkpoint was on disk")
    cluster.step(.committed(run, step: 10, path: "/runs/run/step-00000010"))
    #expect(cluster.story.map(\.0) == [.queued, .placing, .placing, .running, .finished])
    #expect(cluster.story.allSatisfy { !$0.1.isEmpty })
    #expect(cluster.records.count == 10)
    #expect(workers.allSatisfy { cluster.stops($0).count == 1 })
  }

  @Test func `a run that lacks workers says how many it waits for and who is here`() {
    var cluster = Cluster()
    cluster.submit()
    #expect(cluster.story.last!.1 == "waits for 2 workers; none is here")
    _ = cluster.join("ada")
    #expect(cluster.story.last!.1 == "waits for 2 workers; 1 are here: ada")
    let second = cluster.join("bob")
    #expect(cluster.assignment(second)?.index == 1)
  }

  @Test(arguments: [(1, 1), (7, 3), (8, 2), (5, 5), (3, 4)])
  func `units and experts are shared out once each, in order and evenly`(count: Int, workers: Int) {
    let shares = evenShares(of: count, among: workers)
    #expect(shares.flatMap { Array($0) } == Array(0..<count))
    let sizes = shares.map(\.count)
    #expect(sizes.max()! - sizes.min()! <= 1)
  }

  @Test func `a silent worker ends its run with a line that names it, and the others are told to stop`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    let generation = cluster.assignment(workers[0])!.generation
    cluster.say(.heartbeat(Heartbeat(generation: generation, step: 7)), from: workers[1])
    cluster.wait(.seconds(11), alive: [workers[0]])
    let (state, reason) = cluster.story.last!
    #expect(state == .failed)
    #expect(reason.hasPrefix("worker w1 (host-w1, process 102) is lost at step 7: nothing was heard of it for 10"))
    #expect(cluster.stops(workers[0]) == [reason])
  }

  @Test func `a worker that is heard now and then is not lost`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    for _ in 0..<5 {
      cluster.wait(.seconds(9))
      for worker in workers {
        let generation = cluster.assignment(worker)!.generation
        cluster.say(.heartbeat(Heartbeat(generation: generation)), from: worker)
      }
    }
    #expect(cluster.story.last!.0 == .running)
  }

  @Test func `a goodbye in the middle of a run ends it at once with the worker's own words`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    cluster.say(.goodbye(reason: "it was told to end"), from: workers[1])
    #expect(cluster.story.last!.0 == .failed)
    #expect(cluster.story.last!.1.contains("w1") && cluster.story.last!.1.contains("it was told to end"))
  }

  @Test func `a worker's failure is the run's, with its reason`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    let generation = cluster.assignment(workers[1])!.generation
    cluster.say(.failed(generation: generation, reason: "text.h5 does not exist"), from: workers[1])
    #expect(cluster.story.last! == (.failed, "worker w1 (host-w1, process 102): text.h5 does not exist"))
  }

  @Test func `a second process of one name takes over, and the run of the first one ends`() {
    var cluster = Cluster()
    _ = cluster.startRun()
    cluster.say(.hello(Cluster.worker("w1")), from: PeerID("another"))
    #expect(cluster.story.last!.0 == .failed && cluster.story.last!.1.contains("another process took its name"))
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

  @Test func `runs wait for each other in the order they came`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    cluster.say(.submit(Cluster.submission("second")), from: PeerID("other"))
    #expect(cluster.preparations.count == 1)
    cluster.say(.cancel(run: "run"), from: Cluster.client)
    #expect(cluster.preparations.count == 2)
    cluster.prepare(cluster.preparations[1].0, "second")
    #expect(workers.allSatisfy { cluster.assignment($0)!.configuration.run == "second" })
  }

  @Test func `a run can be cancelled while it waits, while it is placed and while it runs`() {
    for moment in 0..<3 {
      var cluster = Cluster()
      if moment > 0 { _ = [cluster.join("w0"), cluster.join("w1")] }
      cluster.submit()
      let peers = [PeerID("peer-w0"), PeerID("peer-w1")]
      if moment > 1 {
        for peer in peers { cluster.say(.ready(generation: cluster.assignment(peer)!.generation), from: peer) }
      }
      cluster.say(.cancel(run: "run"), from: Cluster.client)
      #expect(cluster.story.last! == (.cancelled, "cancelled on request"))
      if moment > 0 { #expect(peers.allSatisfy { cluster.stops($0).count == 1 }) }
      cluster.say(.cancel(run: "run"), from: Cluster.client)
      #expect(cluster.refusals.last == "run run has ended: cancelled on request")
    }
  }

  @Test func `reports of an earlier generation change nothing`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    let old = cluster.assignment(workers[0])!.generation
    cluster.say(.cancel(run: "run"), from: Cluster.client)
    cluster.submit(Cluster.submission("second"))
    cluster.say(.failed(generation: old, reason: "too late"), from: workers[0])
    cluster.say(.stepDone(generation: old, record(3)), from: workers[0])
    cluster.say(.saved(generation: old, step: 3, files: []), from: workers[1])
    #expect(cluster.story.last!.0 == .placing && cluster.records.isEmpty && cluster.commits.isEmpty)
  }

  @Test func `whoever follows late hears the story from its first line, also after the end`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    let generation = cluster.assignment(workers[0])!.generation
    cluster.say(.stepDone(generation: generation, record(1)), from: workers[0])
    cluster.say(.cancel(run: "run"), from: Cluster.client)
    let late = PeerID("late")
    cluster.say(.follow(run: "run"), from: late)
    #expect(
      cluster.sent[late]!.count == cluster.sent[Cluster.client]!.count { if case .event = $0 { true } else { false } })
    #expect(cluster.sent[late]!.last == .event(.state(.cancelled, reason: "cancelled on request")))
  }

  @Test func `an unknown run is refused with the names of those that are known`() {
    var cluster = Cluster()
    cluster.say(.follow(run: "what"), from: Cluster.client)
    #expect(cluster.refusals.last == "no run 'what'; no run was submitted to this coordinator")
    cluster.submit()
    cluster.say(.cancel(run: "what"), from: Cluster.client)
    #expect(cluster.refusals.last == "no run 'what'; it knows run")
  }

  @Test func `a checkpoint that cannot be written fails the run with the reason`() {
    var cluster = Cluster()
    let (run, _) = cluster.startRun()
    cluster.step(.commitFailed(run, step: 10, reason: "no space left on device"))
    #expect(cluster.story.last!.1 == "the checkpoint of step 10 could not be written: no space left on device")
  }

  @Test func `a folder that must not be touched refuses the run before any worker is asked`() {
    var cluster = Cluster()
    let workers = [cluster.join("w0"), cluster.join("w1")]
    cluster.say(.submit(Cluster.submission()), from: Cluster.client)
    cluster.step(.prepared(cluster.preparations[0].0, .refused(reason: "already holds checkpoints")))
    #expect(workers.allSatisfy { cluster.assignment($0) == nil })
    cluster.say(.follow(run: "run"), from: Cluster.client)
    #expect(cluster.story.last! == (.failed, "already holds checkpoints"))
  }

  @Test func `a resume past the last step is finished at once and says how to go on`() {
    var cluster = Cluster()
    _ = [cluster.join("w0"), cluster.join("w1")]
    cluster.submit(Cluster.submission(steps: 10), firstStep: 10)
    #expect(cluster.story.last! == (.finished, "all 10 steps were done before; raise training.steps to go on"))
  }

  @Test func `a second run of a name that is still going is refused`() {
    var cluster = Cluster()
    _ = cluster.startRun()
    cluster.say(.submit(Cluster.submission()), from: Cluster.client)
    #expect(cluster.refusals.last?.hasPrefix("run run is running already") == true)
  }

  @Test func `a run in which every worker waits for another ends with a line that says who for whom`() {
    var cluster = Cluster()
    let (_, workers) = cluster.startRun()
    let generation = cluster.assignment(workers[0])!.generation
    for seconds in [5.0, 11.0] {
      for (index, worker) in workers.enumerated() {
        cluster.say(
          .heartbeat(
            Heartbeat(
              generation: generation, step: 3, waiting: "w\(1 - index) (gradient sums)", waitingSeconds: seconds)),
          from: worker)
      }
      cluster.step(.tick)
      #expect(cluster.story.last!.0 == (seconds < 10 ? .running : .failed))
    }
    #expect(
      cluster.story.last!.1
        == "every worker waits for another: w0 waits for w1 (gradient sums), w1 waits for w0 (gradient sums)")
  }

  @Test func `a worker that the coordinator does not know is told to say hello`() {
    var cluster = Cluster()
    cluster.say(.heartbeat(Heartbeat()), from: PeerID("stranger"))
    #expect(cluster.sent[PeerID("stranger")] == [.refused(reason: Coordinator.unknownWorker)])
  }
}
