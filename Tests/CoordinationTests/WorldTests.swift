// Runs whose data travel over MPI: who may work together, and what a rank takes with it.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct WorldTests {
  private static func submission(workers: Int = 2, minimum: Int? = nil) -> Submission {
    var submission = Cluster.submission(workers: workers, minimum: minimum)
    submission.configuration.cluster.exchange = .mpi
    return submission
  }

  private static func place(_ rank: Int, of size: Int, world: UInt64) -> MPIPlace {
    MPIPlace(world: world, rank: rank, size: size)
  }

  /// A run on both ranks of world 7.
  private func running(_ submission: Submission = Self.submission(minimum: 1)) -> (Cluster, RunID, [PeerID]) {
    var cluster = Cluster()
    let workers = (0..<2).map { cluster.join("w\($0)", mpi: Self.place($0, of: 2, world: 7)) }
    let run = cluster.submit(submission)!
    for worker in workers { cluster.report(.ready, from: worker) }
    return (cluster, run, workers)
  }

  private func refusals(_ cluster: Cluster, _ peer: PeerID) -> [String] {
    (cluster.sent[peer] ?? []).compactMap { if case .refused(let reason) = $0 { reason } else { nil } }
  }

  @Test func `workers that are not MPI ranks do not get a run over MPI, and the reason contains the remedy`() {
    var cluster = Cluster()
    cluster.submit(Self.submission())
    #expect(cluster.story.last!.1 == "waits for 2 workers of one MPI world; none is free")
    _ = cluster.join("a")
    #expect(
      cluster.story.last!.1
        == "waits for 2 workers of one MPI world; the free worker is not a rank: start workers with mpirun or "
        + "srun --mpi=pmix (docs/mpi.md)")
    _ = cluster.join("b")
    #expect(cluster.story.last!.1.contains("none of the 2 free workers is a rank"))
  }

  @Test func `ranks of two worlds are not mixed, and the larger world gets the run`() {
    var cluster = Cluster()
    let strays = (0..<2).map { cluster.join("a\($0)", mpi: Self.place(0, of: 1, world: UInt64(10 + $0))) }
    cluster.submit(Self.submission())
    #expect(
      cluster.story.last!.1 == "waits for 2 workers of one MPI world; 1 of the largest of 2 worlds is free: a0")
    let ranks = (0..<2).map { cluster.join("b\($0)", mpi: Self.place($0, of: 2, world: 20)) }
    #expect(strays.allSatisfy { cluster.assignment($0) == nil })
    #expect(cluster.assignment(ranks[0])?.roster.compactMap(\.worker.mpi?.world) == [20, 20])
  }

  @Test func `a run waits for all ranks of a world, but not for ever for one that does not join`() {
    var cluster = Cluster()
    let first = cluster.join("w0", mpi: Self.place(0, of: 3, world: 7))
    cluster.submit(Self.submission(workers: 3, minimum: 1))
    let second = cluster.join("w1", mpi: Self.place(1, of: 3, world: 7))
    #expect(cluster.story.last!.1.hasSuffix("so far 2 of the 3 ranks of one joined"))
    cluster.wait(.seconds(9), alive: [first, second])
    #expect(cluster.assignment(first) == nil)
    cluster.wait(.seconds(2), alive: [first, second])
    #expect(cluster.assignment(first)?.roster.count == 2)
  }

  @Test func `a run over ZeroMQ takes ranks like any other workers`() {
    var cluster = Cluster()
    let rank = cluster.join("a", mpi: Self.place(0, of: 1, world: 7)), plain = cluster.join("b")
    cluster.submit()
    #expect(cluster.assignment(rank)?.roster.count == 2 && cluster.assignment(plain) != nil)
  }

  @Test func `a world that loses a rank is given up, and the run continues in another one from its checkpoint`() {
    var (cluster, run, workers) = running()
    for step in 1...8 { cluster.report(.stepDone(record(step, loss: Double(step))), from: workers[0]) }
    // Though the other one holds a whole state.
    let generation = cluster.assignment(workers[0])!.generation
    cluster.held[workers[0]] = (0..<2).map { HeldShard(run: run, generation: generation, index: $0, count: 2, step: 5) }
    cluster.wait(.seconds(1), alive: workers)
    cluster.step(.disconnected(workers[1]))
    cluster.wait(.seconds(1), alive: [workers[0]])
    #expect(cluster.stops(workers[0]).count == 1)
    #expect(refusals(cluster, workers[0]).first?.hasPrefix("its MPI world has lost worker w1") == true)
    #expect(cluster.preparations.count == 2 && cluster.preparations[1].again)
    cluster.prepare(run, "run", firstStep: 4)
    #expect(cluster.story(of: run).last!.1 == "waits for 1 worker of one MPI world; none is free")
    // A rank of the old world that comes back is not taken.
    _ = cluster.join("w0", mpi: Self.place(0, of: 2, world: 7))
    #expect(cluster.assignment(workers[0])?.generation == generation)
    let others = (0..<2).map { cluster.join("n\($0)", mpi: Self.place($0, of: 2, world: 8)) }
    #expect(cluster.assignment(others[0])?.roster.count == 2 && cluster.assignment(others[0])?.firstStep == 4)
    #expect(cluster.assignment(others[0])?.start == .checkpoint(path: "/c"))
  }

  @Test func `a rank that leaves in order takes its world along, and workers outside of it stay`() {
    var (cluster, _, workers) = running()
    let outside = cluster.join("plain")
    cluster.say(.goodbye(reason: "it was told to end"), from: workers[0])
    #expect(refusals(cluster, workers[1]).count == 1 && refusals(cluster, outside).isEmpty)
    cluster.say(.status, from: Cluster.client)
    guard case .status(let status)? = cluster.sent[Cluster.client]?.last else { return }
    #expect(status.workers.map(\.description.name) == ["plain"])
  }

  @Test func `a change of membership stays within the world that holds the state`() {
    var (cluster, run, workers) = running(Self.submission(workers: 2, minimum: 1))
    // A larger world is there, and would be chosen by a run that begins.
    let larger = (0..<3).map { cluster.join("l\($0)", mpi: Self.place($0, of: 3, world: 9)) }
    cluster.say(.change(run: "run", .scale(workers: 4)), from: Cluster.client)
    cluster.wait(.seconds(2), alive: workers + larger)
    #expect(cluster.halts(workers[0]).isEmpty, "there is no other rank that could join")
    cluster.say(.change(run: "run", .scale(workers: 1)), from: Cluster.client)
    #expect(cluster.halts(workers[0]) == [false])
    let generation = cluster.assignment(workers[0])!.generation
    for (index, worker) in workers.enumerated() {
      let shard = HeldShard(run: run, generation: generation, index: index, count: 2, step: 3)
      cluster.held[worker] = [shard]
      cluster.say(.heartbeat(cluster.heartbeat(worker)), from: worker)
      cluster.report(.halted(step: 3, held: [shard]), from: worker)
    }
    let next = cluster.assignment(workers[0])!
    #expect(next.generation > generation && next.firstStep == 3 && next.peers.count == 2)
    #expect(next.peers.allSatisfy { $0.mpi?.world == 7 } && larger.allSatisfy { cluster.assignment($0) == nil })
  }

  @Test func `a rank that does not return to a restarted coordinator ends its world`() {
    var (cluster, _, workers) = running()
    cluster.restartCoordinator()
    var worker = Cluster.worker("w0")
    worker.mpi = Self.place(0, of: 2, world: 7)
    cluster.say(.hello(worker, cluster.heartbeat(workers[0])), from: workers[0])
    cluster.wait(.seconds(11), alive: [workers[0]])
    #expect(refusals(cluster, workers[0]).contains { $0.hasPrefix("its MPI world has lost worker w1") })
  }
}
