// What a run does when a worker is lost or wrong: the others stop at once and report what they hold (`collecting`), and a new generation
// begins from the newest whole state in their memory, or else from the newest checkpoint that verifies.

import Wire

extension Run {
  /// Generations in a row that may end without a step done.
  private static let fruitlessLimit = 6

  /// A worker that the generation counts on is gone.
  mutating func missing(_ place: Int, _ reason: String, _ members: inout Members, _ turn: inout Turn) {
    switch phase {
    case .collecting: collected(place, &members, &turn)
    case .training(let generation, _) where place >= generation.roster.count || generation.allFinished: break
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
    var awaited: [(place: Int, member: Member)] = []
    for place in generation.peers.indices {
      guard let member = worker(place, in: members) else { continue }
      awaited.append((place, member))
      turn.send(.stop(generation: generation.number, reason: reason), to: member.peer)
    }
    generation.awaited = Set(awaited.map(\.place))
    enter(.collecting(generation, then: phase.pending), at: turn.now)
    // Those that have left the generation already.
    for (place, member) in awaited where member.heartbeat.generation != generation.number {
      collected(place, &members, &turn)
    }
    if awaited.isEmpty { replace(&members, &turn) }
  }

  /// One more worker has stopped and reported what it holds, or never will.
  mutating func collected(_ place: Int, _ members: inout Members, _ turn: inout Turn) {
    guard case .collecting(var generation, let pending) = phase, generation.awaited.remove(place) != nil else {
      return
    }
    phase = .collecting(generation, then: pending)
    if generation.awaited.isEmpty { replace(&members, &turn) }
  }

  /// The next generation begins from memory, if that is not older than the newest checkpoint; else from disk. Where all workers fell silent
  /// at once, the line to the coordinator is at fault rather than each of them, so they are given time to come back before anything is
  /// computed again from the disk.
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
    // A worker of the last generation is still away, and no other process has taken its name.
    let isIncomplete = (generations.last?.peers ?? []).contains { members.named($0.name) == nil }
    guard isIncomplete, since + min(patience, Run.reunionWithin) > turn.now else { return prepare(again: true, &turn) }
    change(to: .placing, "waits for the workers that were silent, which may still hold its newest state", &turn)
  }

  /// Workers of a generation that fell silent as a whole come back within this of each other.
  private static let reunionWithin = Duration.seconds(3)

  /// Two workers computed one unit with different results. Where a third agrees with one of them, the other is put aside.
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
    for place in wrong {
      if let member = worker(place, in: members) { putAsideForGood(member, &members, turn) }
    }
    let spoken = wrong.map { roster[$0].worker.spoken }.joined(separator: ", ")
    recover("worker \(spoken) computed wrongly and is put aside: \(what)", &members, &turn)
  }
}
