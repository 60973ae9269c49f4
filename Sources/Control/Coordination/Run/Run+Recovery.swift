// What a run does when a worker is lost or computes wrongly: the others stop at once and report the shards that they
// hold (`collecting`). A new generation begins from the newest step of which all shards are in memory, or else from the
// newest checkpoint that verifies.

import Wire

extension Run {
  /// Largest number of generations in a row without a new step.
  private static let fruitlessLimit = 6

  /// A worker that the generation counts on is gone.
  mutating func missing(_ index: Int, _ reason: String, _ members: inout Members, _ turn: inout Turn) {
    switch phase {
    case .collecting: collected(index, &members, &turn)
    case .training(let generation, _) where index >= generation.roster.count || generation.allFinished: break
    case .loading, .training, .halting: recover(reason, &members, &turn)
    case .idle, .preparing, .waiting, .saving: break
    }
  }

  /// Ends the generation at once, to begin another one from what is left.
  mutating func recover(_ reason: String, _ members: inout Members, _ turn: inout Turn) {
    guard var generation = phase.generation else { return }
    account.fault(since: since)
    fruitless += 1
    checkpoints.forgetSaves()
    guard fruitless <= Run.fruitlessLimit else {
      return end(
        .failed, "\(Run.fruitlessLimit) generations in a row did not get a step done; the last one: \(reason)",
        &members, &turn)
    }
    let waits = workers(in: members).compactMap { _, member in
      member.heartbeat.waiting.map { "\(member.description.name) waits for \($0)" }
    }
    change(to: .placing, reason + (waits.isEmpty ? "" : "; " + waits.joined(separator: ", ")), &turn)
    var awaited: [(index: Int, member: Member)] = []
    for index in generation.peers.indices {
      guard let member = worker(index, in: members) else { continue }
      awaited.append((index, member))
      turn.send(.stop(generation: generation.number, reason: reason), to: member.peer)
    }
    generation.awaited = Set(awaited.map(\.index))
    enter(.collecting(generation, then: phase.pending), at: turn.now)
    // Workers that have left the generation already.
    for (index, member) in awaited where member.heartbeat.generation != generation.number {
      collected(index, &members, &turn)
    }
    if awaited.isEmpty { replace(&members, &turn) }
  }

  /// One more worker has stopped and reported its shards, or is lost.
  mutating func collected(_ index: Int, _ members: inout Members, _ turn: inout Turn) {
    guard case .collecting(var generation, let pending) = phase, generation.awaited.remove(index) != nil else {
      return
    }
    phase = .collecting(generation, then: pending)
    if generation.awaited.isEmpty { replace(&members, &turn) }
  }

  /// The next generation begins from memory if that state is not older than the newest checkpoint, otherwise from disk.
  /// If all workers fell silent at the same time, the connection to the coordinator is the likely cause, so they get
  /// time to return before steps are computed again from a checkpoint.
  private mutating func replace(_ members: inout Members, _ turn: inout Turn) {
    let mayReturn = lostToSilence && members.peers(of: id).isEmpty
    members.forget(run: id)
    let isInMemory = mayReturn || Placement.usefulState(of: self, among: members) != nil
    enter(
      .waiting(.memory(mayReturn ? .init() : nil), after: phase.generation, then: phase.pending), at: turn.now)
    if !isInMemory { prepare(again: true, &turn) }
  }

  /// The state that was in the workers' memory is no longer there.
  mutating func memoryIsGone(_ members: Members, _ turn: inout Turn) {
    guard case .waiting(.memory(let reunion?), let generation, let pending) = phase else {
      return prepare(again: true, &turn)
    }
    let since = reunion.since ?? turn.now
    phase = .waiting(.memory(.init(since: since)), after: generation, then: pending)
    // A worker of the last generation has not returned, and no other process has its name.
    let isIncomplete = (generations.last?.peers ?? []).contains { members.named($0.name) == nil }
    guard isIncomplete, since + min(patience, Run.reunionWithin) > turn.now else { return prepare(again: true, &turn) }
    change(to: .placing, "waits for the workers that were silent, which may still hold its newest state", &turn)
  }

  /// If all workers of a generation fell silent, they return within this time of each other.
  private static let reunionWithin = Duration.seconds(3)

  /// Two workers computed different results for one unit. If a third worker agrees with one of them, the other one is
  /// put aside.
  mutating func disagreed(_ disagreement: Disagreement, _ members: inout Members, _ turn: inout Turn) {
    guard phase.isTraining || phase.isHalting else { return }
    let roster = roster
    let names = zip(disagreement.voters, disagreement.hashes).filter { roster.indices.contains($0.0) }.map {
      "\(roster[$0].worker.name) got \(String($1, radix: 16))"
    }
    let what = "unit \(disagreement.unit) of step \(disagreement.step + 1): " + names.joined(separator: ", ")
    let counts = Dictionary(grouping: zip(disagreement.voters, disagreement.hashes), by: \.1)
    guard let majority = counts.values.first(where: { $0.count > 1 && 2 * $0.count > disagreement.voters.count }) else {
      return rest(
        "two workers computed a unit with different results, and one of them is wrong (\(what)); "
          + "`ress doctor` on both machines may tell which", &members, &turn)
    }
    let wrong = disagreement.voters.filter { voter in
      !majority.contains { $0.0 == voter } && roster.indices.contains(voter)
    }
    for index in wrong {
      if let member = worker(index, in: members) { putAsideForGood(member, &members, turn) }
    }
    let spoken = wrong.map { roster[$0].worker.spoken }.joined(separator: ", ")
    recover("worker \(spoken) computed wrongly and is put aside: \(what)", &members, &turn)
  }
}
