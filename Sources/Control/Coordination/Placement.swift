// The choice of a run's workers: a pure function of the run, the workers and the time. Its result is a roster, or the
// sentence that describes what the run waits for.
//
// All workers of a run have the same fingerprint, because a difference in the last bit of a result would make the curve
// depend on the cluster. A run whose data travel over MPI (`cluster.exchange`) gets workers of one world, because MPI
// connects only the ranks of one launch.

import Configuration
import Wire

enum Placement {
  /// These workers, in the order of the roster, and the state in memory from which they begin, if there is one.
  case workers([Member], from: NewestState.Whole?)
  /// Too few workers: the number that is missing to the minimum, which is 0 where the run waits for its full number.
  case tooFew(String, missing: Int)
  /// Enough workers, but with different fingerprints.
  case unequal(String)
  /// There are enough workers, but the state in memory from which the run should begin is no longer complete.
  case memoryIsGone

  static func find(for run: Run, among members: Members, at now: Instant) -> Placement {
    guard case .waiting(let origin, _, _) = run.phase else { preconditionFailure("\(run.name) does not wait") }
    let isInMemory = if case .memory = origin { true } else { false }
    let state = isInMemory ? usefulState(of: run, among: members) : nil
    let cluster = run.configuration.cluster
    let free = candidates(for: run, among: members, at: now)
    let pool = pool(for: run, of: free, home: state == nil ? nil : home(of: run), among: members, at: now)
    // Only a first placement waits for the full number, and only for a while.
    let needed =
      run.wasPlaced || run.since + run.patience < now ? cluster.minimumWorkers : cluster.workers
    guard pool.workers.count >= needed else {
      return .tooFew(
        waitsFor(needed, free, pool.lack), missing: cluster.minimumWorkers - pool.workers.count)
    }
    // This is checked last: workers that were cut off for a while have had the time to return and report their shards
    // by now.
    if isInMemory && state == nil { return .memoryIsGone }
    let groups = Dictionary(grouping: pool.workers, by: \.description.fingerprint)
    let fitting = groups.values.filter { $0.count >= needed }.min { ($1.count, $0[0].id) < ($0.count, $1[0].id) }
    guard let fitting else { return .unequal(unequal(needed, pool.workers)) }
    return .workers(Array(fitting.prefix(cluster.workers)), from: state)
  }

  private static func waitsFor(_ needed: Int, _ free: [Member], _ lack: String?) -> String {
    let workers = "\(needed) worker\(needed == 1 ? "" : "s")"
    if let lack { return "waits for \(workers) of one MPI world; \(lack)" }
    let names = names(of: free)
    let present = free.isEmpty ? "none is free" : "\(free.count) \(free.count == 1 ? "is" : "are") free: \(names)"
    return "waits for \(workers); \(present)"
  }

  /// The names of the workers in a sentence: of the first ones where there are many.
  private static func names(of workers: [Member]) -> String {
    let most = 12
    let names = workers.prefix(most).map(\.description.name).joined(separator: ", ")
    return workers.count > most ? "\(names) and \(workers.count - most) more" : names
  }

  private static func unequal(_ needed: Int, _ workers: [Member]) -> String {
    let first = workers[0].description
    let other = workers.first { $0.description.fingerprint != first.fingerprint }!.description
    return "\(needed) workers with equal arithmetic are needed: \(first.spoken) computes as "
      + "\(first.fingerprint), \(other.spoken) as \(other.fingerprint)"
  }

  /// The workers that the run could get: first those of its last generation, in their order, then the others in the
  /// order in which they joined.
  static func candidates(for run: Run, among members: Members, at now: Instant) -> [Member] {
    let before = run.generations.last
    return members.inOrder.filter { member in
      (member.run == nil || member.run == run.id) && (member.aside[run.id].map { $0 < now } ?? true)
        && member.closedAt == nil
    }.map { (rank: before?.place(of: $0.description) ?? .max, member: $0) }
      .sorted { ($0.rank, $0.member.id) < ($1.rank, $1.member.id) }.map(\.member)
  }

  // MARK: the state in memory

  /// The newest state of the run's present submission in memory, unless a checkpoint is newer or its steps were never
  /// recorded.
  static func usefulState(of run: Run, among members: Members) -> NewestState.Whole? {
    guard !run.distrustsMemory else { return nil }
    let home = home(of: run)
    let reachable = members.inOrder.filter {
      ($0.run == nil || $0.run == run.id) && (home == nil || $0.description.mpi?.world == home)
    }
    let held = reachable.flatMap { member in
      member.heartbeat.held.filter { $0.run == run.id && $0.generation >= run.firstGeneration }
        .map { (holder: member.id, shard: $0) }
    }
    let state = NewestState.find(held, generations: run.generations)
    return state.flatMap { $0.step >= run.checkpoints.newestStep ?? 0 ? $0 : nil }
  }

  // MARK: MPI worlds

  /// The free workers that a run may get, and what else it waits for. For a run over MPI these are the workers of one
  /// world.
  private struct Pool {
    var workers: [Member]
    /// The rest of a sentence that begins "waits for 3 workers of one MPI world; "; nil where the run does not use MPI.
    var lack: String?
  }

  /// - Parameter home: the world that holds the run's state in its memory.
  private static func pool(
    for run: Run, of free: [Member], home: UInt64?, among members: Members, at now: Instant
  ) -> Pool {
    let cluster = run.configuration.cluster
    guard cluster.exchange == .mpi else { return Pool(workers: free) }
    let ranks = free.filter { $0.description.mpi != nil && (home == nil || $0.description.mpi!.world == home) }
    let worlds = Dictionary(grouping: ranks) { $0.description.mpi!.world }
    guard let (world, workers) = worlds.min(by: { ($1.value.count, $0.value[0].id) < ($0.value.count, $1.value[0].id) })
    else {
      guard !free.isEmpty else { return Pool(workers: [], lack: "none is free") }
      let count =
        free.count == 1 ? "the free worker is not a rank" : "none of the \(free.count) free workers is a rank"
      return Pool(workers: [], lack: "\(count): start workers with mpirun or srun --mpi=pmix (docs/mpi.md)")
    }
    // Ranks join one after the other. A run that began with the first one would be interrupted by each of the others.
    let joined = members.inOrder.filter { $0.description.mpi?.world == world }
    let size = workers[0].description.mpi!.size
    let last = joined.map(\.joinedAt).max()!
    if joined.count < size, workers.count < cluster.workers, last + run.patience >= now {
      return Pool(workers: [], lack: "so far \(joined.count) of the \(size) ranks of one joined")
    }
    let names = names(of: workers)
    let others = worlds.count == 1 ? "" : " of the largest of \(worlds.count) worlds"
    return Pool(workers: workers, lack: "\(workers.count)\(others) \(workers.count == 1 ? "is" : "are") free: \(names)")
  }

  /// Whether a worker could join the present workers of a run.
  static func isReachable(_ worker: WorkerDescription, for run: Run) -> Bool {
    guard run.configuration.cluster.exchange == .mpi, let first = run.roster.first else { return true }
    return worker.mpi != nil && worker.mpi?.world == first.worker.mpi?.world
  }

  /// The world of a run's last generation, where its data travel over MPI.
  private static func home(of run: Run) -> UInt64? {
    guard run.configuration.cluster.exchange == .mpi else { return nil }
    return run.generations.last?.roster.first?.worker.mpi?.world
  }

  // MARK: the roster

  /// Units and experts of each worker.
  static func roster(of workers: [WorkerDescription], for run: Run) -> [RosterEntry] {
    let units = evenShares(of: run.configuration.training.unitCount, among: workers.count)
    let copied = run.ledger.copies(run.configuration, workers).choose(memoryBytes: memoryForCopies(workers))
    let experts = experts(of: workers, for: run, copied: copied)
    return workers.indices.map { index in
      RosterEntry(
        worker: workers[index], units: units[index], experts: experts[index],
        copies: copied.filter { !experts[index].contains($0) })
    }
  }

  /// Bytes that every worker may use for copies of experts: those of the worker that may use least; nil where a worker
  /// does not know its machine's memory.
  static func memoryForCopies(_ workers: [WorkerDescription]) -> Double? {
    let onHost = Dictionary(grouping: workers, by: \.host).mapValues(\.count)
    let shares = workers.map { worker in
      worker.memoryBytes.map { ExpertCopies.memoryBytes(ofMachine: $0, workersOnIt: onHost[worker.host]!) }
    }
    return shares.contains { $0 == nil } ? nil : shares.compactMap { $0 }.min()
  }

  /// The experts of each worker: on their previous workers, as far as the loads are balanced there.
  private static func experts(of workers: [WorkerDescription], for run: Run, copied: [Int]) -> [[Int]] {
    let model = run.configuration.model
    guard let before = run.generations.last, model.expertCount > 0 else {
      return ExpertPlacement.even(model, workers: workers.count)
    }
    var owners = [Int?](repeating: nil, count: model.expertCount)
    for (index, worker) in workers.enumerated() {
      guard let place = before.place(of: worker) else { continue }
      for expert in before.roster[place].experts { owners[expert] = index }
    }
    let measured = run.ledger.expertLoads
    var loads = measured.isEmpty ? Array(repeating: 1, count: model.expertCount) : measured
    // The rows of copied experts stay with their units, so their owners have no load from them.
    for expert in copied { loads[expert] = 0 }
    let placed = ExpertPlacement.place(loads: loads, owners: owners, workers: workers.count)
    return workers.indices.map { worker in placed.indices.filter { placed[$0] == worker } }
  }
}
