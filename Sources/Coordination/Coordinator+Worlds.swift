// Workers that are ranks of an MPI launch. MPI connects the ranks of one world alone, so a run whose data travel over MPI
// (`cluster.exchange`) has all its workers from one world; and MPI has no way on without a rank that died, so a world that loses one is
// lost whole. Whoever launched it launches another, and the run goes on with that, from its newest checkpoint.

import Configuration
import Wire

extension Coordinator {
  /// What a rank is told whose world has lost another.
  static let brokenWorld = "its MPI world has lost a rank, and is given up"

  /// Who of the free workers a run may have, and what else it waits for: for a run over MPI, those of one world.
  struct Pool {
    var workers: [Member]
    /// The rest of a sentence that begins "waits for 3 workers of one MPI world; "; nil where nothing but the number is in the way.
    var lack: String?
  }

  /// - Parameter home: the world that holds the run's state in its memory.
  func pool(_ run: Run, of free: [Member], home: UInt64?, at now: Instant) -> Pool {
    let cluster = run.record.configuration.cluster
    guard cluster.exchange == .mpi else { return Pool(workers: free) }
    let ranks = free.filter { $0.description.mpi != nil && (home == nil || $0.description.mpi!.world == home) }
    let worlds = Dictionary(grouping: ranks) { $0.description.mpi!.world }
    guard let (world, workers) = worlds.min(by: { ($1.value.count, $0.value[0].id) < ($0.value.count, $1.value[0].id) })
    else {
      guard !free.isEmpty else { return Pool(workers: [], lack: "none is free") }
      let count =
        free.count == 1 ? "the one that is free is no rank" : "none of the \(free.count) that are free is a rank"
      return Pool(workers: [], lack: "\(count): start workers with mpirun or srun --mpi=pmix (docs/mpi.md)")
    }
    // Ranks come one after the other, and a run that began with the first would stop for each of the others.
    let joined = members.values.filter { $0.description.mpi?.world == world }
    let size = workers[0].description.mpi!.size
    let last = joined.map(\.joinedAt).max()!
    if joined.count < size, workers.count < cluster.workers, last + run.patience >= now {
      return Pool(workers: [], lack: "so far \(joined.count) of the \(size) ranks of one joined")
    }
    let names = workers.map(\.description.name).joined(separator: ", ")
    let others = worlds.count == 1 ? "" : " of the largest of \(worlds.count) worlds"
    return Pool(workers: workers, lack: "\(workers.count)\(others) \(workers.count == 1 ? "is" : "are") free: \(names)")
  }

  /// Whether a worker could take part beside those that a run has.
  func isReachable(_ worker: WorkerDescription, from run: Run) -> Bool {
    guard run.record.configuration.cluster.exchange == .mpi, let first = run.record.roster.first else { return true }
    return worker.mpi != nil && worker.mpi?.world == first.worker.mpi?.world
  }

  /// The world whose workers made up a run's last generation, where its data travel over MPI.
  func home(_ run: Run) -> UInt64? {
    guard run.record.configuration.cluster.exchange == .mpi else { return nil }
    return run.record.generations.last?.roster.first?.worker.mpi?.world
  }

  /// Gives up the other ranks of the world that a worker was in; each is told, and ends.
  mutating func loseWorld(of worker: WorkerDescription, _ turn: inout Turn) {
    guard let world = worker.mpi?.world, brokenWorlds.insert(world).inserted else { return }
    for other in members.values.filter({ $0.description.mpi?.world == world }).sorted(by: { $0.id < $1.id }) {
      lose(
        other, "its MPI world has lost worker \(worker.name)", mayReturn: false, &turn)
    }
  }
}
