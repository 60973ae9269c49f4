// What the coordinator does with the parts of a checkpoint that workers report, and with a disk that refuses to commit
// it.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct CheckpointTests {
  @Test func `a commit that fails is tried again until it succeeds, while training continues`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(Cluster.submission(steps: 20))
    cluster.report(.stepDone(record(1)), from: workers[0])
    for worker in workers { cluster.report(.saved(step: 1, files: []), from: worker) }
    #expect(cluster.commits.map(\.1.step) == [1])
    for attempt in 1...6 {
      cluster.step(.commitFailed(run, step: 1, reason: "No space left on device"))
      cluster.wait(.seconds(1 << attempt), alive: workers)
      #expect(cluster.commits.count == attempt + 1)
    }
    #expect(cluster.story(of: run).last!.0 == .running)
    #expect(
      cluster.said(run) == [
        "the checkpoint of step 1 could not be written: No space left on device; it is tried again while training continues"
      ], "said once")
    cluster.step(.committed(run, step: 1, path: "/p"))
    cluster.wait(.seconds(120), alive: workers)
    #expect(cluster.commits.count == 7 && cluster.events[run]!.contains(.saved(step: 1, path: "/p")))
  }

  @Test func `a run ends when the commit of its last checkpoint succeeds, and a pause waits for it too`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(Cluster.submission(steps: 1))
    cluster.report(.stepDone(record(1)), from: workers[0])
    for worker in workers {
      cluster.report(.saved(step: 1, files: []), from: worker)
      cluster.report(.finished, from: worker)
    }
    cluster.step(.commitFailed(run, step: 1, reason: "Too many open files"))
    cluster.wait(.seconds(5), alive: workers)
    #expect(cluster.story(of: run).last!.0 == .running && workers.allSatisfy { cluster.stops($0).isEmpty })
    cluster.step(.committed(run, step: 1, path: "/p"))
    #expect(cluster.story(of: run).last!.0 == .finished)
  }

  @Test func `a worker that cannot write its part reports that, and the checkpoint counts when it has written it`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(Cluster.submission(steps: 20))
    for step in 1...4 { cluster.report(.stepDone(record(step)), from: workers[0]) }
    cluster.report(.saveFailed(step: 4, reason: "No space left on device"), from: workers[0])
    cluster.report(.saved(step: 4, files: []), from: workers[1])
    #expect(cluster.story(of: run).last!.0 == .running && cluster.commits.isEmpty)
    #expect(
      cluster.said(run).last
        == "worker w0 (host-w0, process 102) could not write its part of the checkpoint of step 4: No space left on device; it tries again while training continues"
    )
    cluster.report(.saved(step: 4, files: []), from: workers[0])
    #expect(cluster.commits.map(\.1.step) == [4])
  }

  @Test func `a checkpoint that one worker gave up for a newer one is dropped when the newer one is complete`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(Cluster.submission(steps: 8))
    for step in 1...8 { cluster.report(.stepDone(record(step)), from: workers[0]) }
    cluster.report(.saveFailed(step: 4, reason: "No space left on device"), from: workers[0])
    cluster.report(.saved(step: 4, files: []), from: workers[1])
    for worker in workers {
      cluster.report(.saved(step: 8, files: []), from: worker)
      cluster.report(.finished, from: worker)
    }
    cluster.step(.committed(run, step: 8, path: "/p"))
    #expect(cluster.story(of: run).last!.0 == .finished)
  }

  @Test func `commits wait for the disk one at a time, and no more than a few of them`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(Cluster.submission(steps: 100))
    for step in 1...30 {
      cluster.report(.stepDone(record(step)), from: workers[0])
      for worker in workers { cluster.report(.saved(step: step, files: []), from: worker) }
    }
    #expect(cluster.commits.map(\.1.step) == [1], "the disk is at work on the first")
    #expect(cluster.said(run).count { $0.contains("is given up for newer ones") } == 21)
    cluster.step(.committed(run, step: 1, path: "/p"))
    while cluster.commits.last!.1.step < 30 {
      cluster.step(.committed(run, step: cluster.commits.last!.1.step, path: "/p"))
    }
    #expect(cluster.commits.map(\.1.step) == [1] + Array(23...30))
  }

  @Test func `a checkpoint whose files are gone is given up, and a run without a newer one pauses`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(Cluster.submission(steps: 4))
    for step in 1...4 { cluster.report(.stepDone(record(step)), from: workers[0]) }
    for step in [2, 4] { for worker in workers { cluster.report(.saved(step: step, files: []), from: worker) } }
    cluster.step(.commitFailed(run, step: 2, reason: "it does not exist", isFinal: true))
    #expect(cluster.story(of: run).last!.0 == .running && cluster.commits.map(\.1.step) == [2, 4])
    cluster.step(.commitFailed(run, step: 4, reason: "it does not exist", isFinal: true))
    #expect(cluster.story(of: run).last!.0 == .paused)
  }

  @Test func `a pause while the workers stop for another change does not wait for a file that is never written`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(Cluster.submission(workers: 2, minimum: 1, steps: 20))
    for step in 1...4 { cluster.report(.stepDone(record(step)), from: workers[0]) }
    cluster.say(.change(run: "run", .scale(workers: 1)), from: Cluster.client)
    #expect(workers.allSatisfy { cluster.halts($0) == [false] })
    // Both have stopped, and one of them, which needs no checkpoint for the change, has given its part up.
    cluster.report(.saveFailed(step: 4, reason: "No space left on device"), from: workers[0])
    cluster.report(.saved(step: 4, files: []), from: workers[1])
    cluster.report(.halted(step: 4, held: []), from: workers[0])
    cluster.say(.change(run: "run", .pause), from: Cluster.client)
    #expect(workers.allSatisfy { cluster.halts($0) == [false, true] }, "those that have not stopped are to save")
    cluster.report(.halted(step: 4, held: []), from: workers[1])
    #expect(cluster.story(of: run).last! == (.paused, "paused on request"))
    #expect(workers.allSatisfy { cluster.stops($0).count == 1 })
  }
}
