// The state of a run, as `ress status RUN` prints it.

import Shell
import Testing
import Wire

@Suite struct StatusViewTests {
  private var run: ClusterStatus.Run {
    var run = ClusterStatus.Run(
      id: RunID(5), name: "first", state: .running, reason: "it trains", step: 7, steps: 20, generation: 2,
      workers: ["w0", "w1"], minimumWorkers: 1, wantedWorkers: 2)
    run.forecast = Forecast(stepSeconds: 0.1, waitSeconds: 0.02, memoryBytes: 100 << 20, sentBytes: 2 << 20)
    run.actual = Forecast(stepSeconds: 0.11, waitSeconds: 0.025, memoryBytes: 110 << 20, sentBytes: 2 << 20)
    run.shares = [
      ClusterStatus.Share(
        worker: "w0", busySeconds: 0.07, waitSeconds: 0.04, sentBytes: 2 << 20, memoryBytes: 110 << 20, lastShare: 0.2,
        waitsFor: ["w1"]),
      ClusterStatus.Share(
        worker: "w1", busySeconds: 0.1, waitSeconds: 0.01, sentBytes: 2 << 20, lastShare: 0.8),
    ]
    return run
  }

  @Test func `planned and measured costs are shown side by side, and below them what each worker waits for`() {
    let lines = StatusView.run(run).split(separator: "\n").map(String.init)
    let costs = lines.firstIndex { $0.contains("costs") }!
    #expect(
      lines[costs...].joined(separator: "\n") == """
          costs        expected   actual
            a step             100 ms   110 ms  +10 %
            of it, waiting    20.0 ms  25.0 ms  +25 %
            memory a worker   100 MiB  110 MiB  +10 %
            sent a step       2.0 MiB  2.0 MiB  +0 %
          each step    (last: share of the steps in which all others waited for this worker)
            worker  computes    waits  last     sent   memory  waits for
            w0       70.0 ms  40.0 ms  20 %  2.0 MiB  110 MiB  w1
            w1        100 ms  10.0 ms  80 %  2.0 MiB        –
        """, "\(lines.joined(separator: "\n"))")
  }

  @Test func `the same is in the JSON of a run`() {
    let line = StatusView.runsJSON(ClusterStatus(runs: [run], workers: []))[0]
    #expect(
      line.contains(#""wait_seconds": 0.02"#)
        && line.contains(#""each_worker": [{"worker": "w0", "busy_seconds": 0.07"#))
    #expect(line.contains(#""waits_for": ["w1"], "waits_for_count": 1"#), "\(line)")
  }
}
