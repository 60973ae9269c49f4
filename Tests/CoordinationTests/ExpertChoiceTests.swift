// Where experts compute, as the coordinator decides it: for the first generation by assumptions, later by what the
// workers have measured.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct ExpertChoiceTests {
  /// Few rows for each expert: over an assumed gigabit they had better travel.
  private static func submission(_ choice: ExpertChoice, tokens: Int = 128) -> Submission {
    var submission = Cluster.submission(steps: 5_000)
    (submission.configuration.model.width, submission.configuration.model.expertWidth) = (64, 128)
    (submission.configuration.model.experts, submission.configuration.model.activeExperts) = (8, 2)
    (submission.configuration.model.steps, submission.configuration.model.segment) = (2, 128)
    (submission.configuration.data.sequenceLength, submission.configuration.training.batchSequences) = (tokens, 2)
    submission.configuration.cluster.experts = choice
    return submission
  }

  private func copies(_ cluster: Cluster, _ workers: [PeerID]) -> [[Int]] {
    cluster.assignment(workers[0])!.roster.map { $0.copies ?? [] }
  }

  @Test func `travel and copy are obeyed without a message, and auto reports its choice and the expected cost`() {
    for (choice, tokens, expected) in [
      (ExpertChoice.travel, 128, [[], []]), (.copy, 128, [[4, 5, 6, 7], [0, 1, 2, 3]]), (.auto, 128, [[], []]),
      (.auto, 2_048, [[4, 5, 6, 7], [0, 1, 2, 3]]),
    ] as [(ExpertChoice, Int, [[Int]])] {
      var cluster = Cluster()
      let (run, workers) = cluster.startRun(Self.submission(choice, tokens: tokens))
      #expect(copies(cluster, workers) == expected, "\(choice), \(tokens)")
      let said = cluster.said(run).filter { $0.contains("a step and worker are expected") }
      #expect(said.count == (choice == .auto ? 1 : 0) && said.allSatisfy { $0.contains("(assumed connection: 0.2 ms") })
    }
  }

  @Test func `a measured connection changes the choice while the run trains, and the result is reported`() throws {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(Self.submission(.auto))
    #expect(copies(cluster, workers) == [[], []])
    cluster.report(.measured(.init(latencySeconds: 5e-3, bytesPerSecond: 1e9)), from: workers[0])
    func steps(_ range: ClosedRange<Int>, seconds: Double) {
      for step in range where cluster.halts(workers[0]).isEmpty {
        var record = record(step)
        (record.loads, record.seconds) = (Array(repeating: 128, count: 8), seconds)
        cluster.report(.stepDone(record), from: workers[0])
      }
    }
    steps(1...29, seconds: 0.1)
    #expect(cluster.halts(workers[0]).isEmpty, "the loads are not trusted yet")
    steps(30...40, seconds: 0.1)
    #expect(cluster.halts(workers[0]) == [false] && cluster.halts(workers[1]) == [false])
    let change = try #require(cluster.said(run).last)
    #expect(change.contains("every worker has a copy of all experts: a step of 100 ms should take "), "\(change)")
    let step = cluster.coordinator.status(at: cluster.now).runs[0].step
    let generation = cluster.assignment(workers[0])!.generation
    for (place, worker) in workers.enumerated() {
      let held = [HeldShard(run: run, generation: generation, index: place, count: 2, step: step)]
      cluster.held[worker] = held
      cluster.report(.halted(step: step, held: held), from: worker)
    }
    cluster.wait(.seconds(1), alive: workers)
    #expect(copies(cluster, workers) == [[4, 5, 6, 7], [0, 1, 2, 3]])
    #expect(cluster.said(run).last!.contains("(measured connection: 5.0 ms, 1000 MB/s)"))
    for worker in workers { cluster.report(.ready, from: worker) }
    for step in (step + 1)...(step + 40) {
      var record = record(step)
      (record.loads, record.seconds) = (Array(repeating: 128, count: 8), 0.06)
      cluster.report(.stepDone(record), from: workers[0])
    }
    #expect(cluster.said(run).contains { $0.hasPrefix("since the change of the experts, a step takes 60 ms") })
  }

  @Test func `workers that share memory get copies of all experts, and the log reports how they are exchanged`() throws
  {
    let cases: [([UInt64], [[Int]])] = [([7, 7], [[4, 5, 6, 7], [0, 1, 2, 3]]), ([7, 8], [[], []])]
    for (machines, expected) in cases {
      var cluster = Cluster()
      var workers: [PeerID] = []
      for (name, machine) in zip(["w0", "w1"], machines) {
        var worker = Cluster.worker(name)
        (worker.machine, worker.sharedMemory) = (machine, 5)
        workers.append(PeerID("peer-" + name))
        cluster.say(.hello(worker, Heartbeat()), from: workers.last!)
      }
      let submitted = cluster.submit(Self.submission(.auto))
      let run = try #require(submitted)
      #expect(copies(cluster, workers) == expected)
      #expect(cluster.said(run).contains { $0.contains("expected in shared memory") } == (machines == [7, 7]))
    }
  }

  @Test func `a worker with little memory gets no more copies than fit a quarter of it`() {
    let submission = Self.submission(.auto, tokens: 2_048)
    let one = ExpertCopies(submission.configuration, workers: 2).bytesOfACopy
    var cluster = Cluster()
    var workers: [PeerID] = []
    for (name, share) in [("w0", 1e9), ("w1", 4 * 3.5 * one)] {
      var worker = Cluster.worker(name)
      worker.memoryBytes = Int(share)
      workers.append(PeerID("peer-" + name))
      cluster.say(.hello(worker, Heartbeat()), from: workers.last!)
    }
    _ = cluster.submit(submission)
    #expect(Set(copies(cluster, workers).joined()) == [0, 1, 2])
  }
}
