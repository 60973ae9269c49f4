// When the command of `cluster.on_end` is run: each time that the run comes to rest, and then once.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct EndingTests {
  @Test func `a command is run once when the run is paused, and once when it ends, with the reason`() {
    var submission = Cluster.submission(steps: 2)
    submission.configuration.cluster.onEnd = "notify"
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(submission)
    cluster.report(.stepDone(record(1)), from: workers[0])
    cluster.say(.change(run: "run", .pause), from: Cluster.client)
    for worker in workers {
      cluster.report(.saved(step: 1, files: []), from: worker)
      cluster.report(.halted(step: 1, held: []), from: worker)
    }
    #expect(cluster.endings.isEmpty)
    cluster.step(.committed(run, step: 1, path: "/runs/run/step-1"))
    cluster.say(.change(run: "run", .pause), from: Cluster.client)
    #expect(
      cluster.endings == [
        Ending(command: "notify", name: "run", state: .paused, reason: "paused on request", folder: "/runs/run")
      ])
    cluster.say(.change(run: "run", .resume), from: Cluster.client)
    cluster.prepare(run, "run", firstStep: 1)
    for worker in workers { cluster.report(.ready, from: worker) }
    cluster.report(.stepDone(record(2)), from: workers[0])
    for worker in workers {
      cluster.report(.saved(step: 2, files: []), from: worker)
      cluster.report(.finished, from: worker)
    }
    cluster.step(.committed(run, step: 2, path: "/runs/run/step-2"))
    cluster.wait(.seconds(2), alive: workers)
    cluster.restartCoordinator()
    cluster.wait(.seconds(2))
    #expect(cluster.endings.map(\.state) == [.paused, .finished])
    #expect(cluster.endings.last?.reason == "all 2 steps are done")
  }

  @Test func `a run that is cancelled in the queue has no folder, and no command is run for a run without one`() {
    var cluster = Cluster()
    var submission = Cluster.submission("a")
    submission.configuration.cluster.onEnd = "notify"
    cluster.say(.submit(submission), from: Cluster.client)
    cluster.say(.submit(Cluster.submission("b")), from: Cluster.client)
    for name in ["a", "b"] { cluster.say(.change(run: name, .cancel), from: Cluster.client) }
    #expect(cluster.endings.map(\.name) == ["a"] && cluster.endings[0].state == .cancelled)
    #expect(cluster.endings[0].folder == "")
  }
}
