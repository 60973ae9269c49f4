// What the status of a run tells about the costs of a step and about the waits of its workers.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct StatusTests {
  private func status(_ cluster: Cluster) -> ClusterStatus.Run { cluster.coordinator.status(at: cluster.now).runs[0] }

  @Test func `the status has what each worker computes, waits, sends and holds, and for whom it waits now`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun()
    #expect(cluster.begins(workers[0]) == 1)
    #expect(status(cluster).shares?.map(\.worker) == ["w0", "w1"])
    #expect(status(cluster).shares?.allSatisfy { $0.busySeconds == nil && $0.lastShare == nil } == true)
    var done = record(1)
    (done.seconds, done.busy, done.sent) = (0.5, [0.25, 0.5], [100, 200])
    cluster.report(.stepDone(done), from: workers[0])
    var heartbeat = cluster.heartbeat(workers[0])
    (heartbeat.memoryBytes, heartbeat.waiting, heartbeat.waitingSeconds) = (7 << 20, "w1 (unit reports)", 2)
    heartbeat.waitingFor = [1]
    cluster.say(.heartbeat(heartbeat), from: workers[0])
    let shares = status(cluster).shares ?? []
    #expect(shares.map(\.busySeconds) == [0.25, 0.5] && shares.map(\.waitSeconds) == [0.25, 0])
    #expect(shares.map(\.sentBytes) == [100, 200] && shares.map(\.lastShare) == [0, 1])
    #expect(shares.map(\.memoryBytes) == [7 << 20, 0] && shares.map(\.waitsFor) == [["w1"], []])
    #expect(shares.first?.spokenWaits == "w1")
    #expect(status(cluster).actual.waitSeconds == 0.125)
    // A heartbeat that belongs to another generation tells nothing about this one.
    heartbeat.generation += 1
    cluster.say(.heartbeat(heartbeat), from: workers[0])
    #expect(status(cluster).shares?.first?.waitsFor == [] && status(cluster).id == run)
  }

  @Test func `a worker that waits for many names the first ones and their number`() {
    let names = (0..<70).map { "w\($0)" }
    let share = ClusterStatus.Share(worker: "w70", waitsFor: names)
    #expect(share.waitsFor == ["w0", "w1", "w2"] && share.spokenWaits == "w0, w1, w2 and 67 others")
    #expect(ClusterStatus.Share(worker: "a", waitsFor: Array(names.prefix(4))).spokenWaits == "w0, w1, w2 and 1 other")
    #expect(ClusterStatus.Share(worker: "a", waitsFor: Array(names.prefix(3))).spokenWaits == "w0, w1 and w2")
    #expect(ClusterStatus.Share(worker: "a", waitsFor: ["w0"]).spokenWaits == "w0")
    #expect(ClusterStatus.Share(worker: "a").spokenWaits == "")
  }
}
