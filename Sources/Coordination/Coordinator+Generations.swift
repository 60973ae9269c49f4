// Generations: who works for a run, from a step on. A generation is placed, loads, trains, and ends in one of two ways.
//
//   halting     something is to change (a worker came, a scale, a pause, a move of experts): all workers stop together at a
//               boundary of a step, and the next generation takes the state from where it lies
//   collecting  a worker was lost: the others stop at once and say what they hold; the newest whole state in their memory is
//               where the next generation begins, or else the newest checkpoint that verifies
//
// Either way the next steps have the bits that they would have had.

import Configuration
import Wire

extension Coordinator {
  /// Generations in a row that may end without a step done.
  private static let fruitlessLimit = 6
  /// A run waits this long for workers that are about to be free before others of lower priority save and go; half its patience, where
  /// that is shorter.
  private static let graceBeforeGivingWay = Duration.milliseconds(500)
  /// Workers of a generation that fell silent as a whole come back within this of each other.
  private static let reunionWithin = Duration.seconds(3)
  /// Joins within this are one change.
  private static let growAfter = Duration.seconds(1)

  // MARK: placing

  /// Gives the run its workers, or says what it waits for.
  mutating func place(_ id: RunID, _ turn: inout Turn) {
    guard let index = index(of: id) else { return }
    let run = runs[index]
    let state = run.record.startsFromMemory ? usefulState(run) : nil
    let cluster = run.record.configuration.cluster
    let free = candidates(run, at: turn.now)
    let pool = pool(run, of: free, home: state == nil ? nil : home(run), at: turn.now)
    let waited = run.record.wasPlaced || run.since + run.patience < turn.now
    let needed = waited ? cluster.minimumWorkers : cluster.workers
    guard pool.workers.count >= needed else {
      makeRoom(for: run, missing: cluster.minimumWorkers - pool.workers.count, &turn)
      let names = free.map(\.description.name).joined(separator: ", ")
      let present = free.isEmpty ? "none is free" : "\(free.count) \(free.count == 1 ? "is" : "are") free: \(names)"
      let state: RunState = run.record.wasPlaced || run.record.state != .queued ? .placing : .queued
      let workers = "\(needed) worker\(needed == 1 ? "" : "s")"
      return change(
        id, to: state,
        pool.lack.map { "waits for \(workers) of one MPI world; \($0)" } ?? "waits for \(workers); \(present)", &turn
      )
    }
    // Only now: whoever was cut off for a while has had the time to come back and say what it holds.
    if run.record.startsFromMemory && state == nil {
      let since = run.reunionSince ?? turn.now
      runs[index].reunionSince = since
      if run.awaitsReunion, since + min(run.patience, Coordinator.reunionWithin) > turn.now, isIncomplete(run) {
        return change(
          id, to: .placing, "waits for the workers that were silent, which may still hold its newest state", &turn)
      }
      return prepare(id, again: true, &turn)
    }
    // One fingerprint: workers whose arithmetic differs in a bit would make the curve depend on the cluster.
    let groups = Dictionary(grouping: pool.workers, by: \.description.fingerprint)
    let fitting = groups.values.filter { $0.count >= needed }.min { ($1.count, $0[0].id) < ($0.count, $1[0].id) }
    guard let group = fitting else {
      let first = pool.workers[0]
      let other = pool.workers.first { $0.description.fingerprint != first.description.fingerprint }!
      let reason =
        "\(needed) workers with equal arithmetic are needed: \(first.description.spoken) computes as "
        + "\(first.description.fingerprint), \(other.description.spoken) as \(other.description.fingerprint)"
      return change(id, to: .placing, reason, &turn)
    }
    assign(index, workers: Array(group.prefix(cluster.workers)), state, &turn)
  }

  /// Whether a worker of the run's last generation is still away, and no other process has taken its name.
  private func isIncomplete(_ run: Run) -> Bool {
    (run.record.generations.last?.peers ?? []).contains { peer in
      !members.values.contains { $0.description.name == peer.name }
    }
  }

  /// Workers that the run could have: those of its last generation first, in their order, then the others as they came.
  private func candidates(_ run: Run, at now: Instant) -> [Member] {
    let before = run.record.generations.last?.roster.map(\.worker) ?? []
    func rank(_ member: Member) -> Int { before.firstIndex(of: member.description) ?? before.count }
    return members.values.filter { member in
      (member.run == nil || member.run == run.id) && (member.aside[run.id].map { $0 < now } ?? true)
        && member.closedAt == nil
    }.sorted { (rank($0), $0.id) < (rank($1), $1.id) }
  }

  /// What workers hold of a run's present submission.
  private func newestState(_ run: Run) -> (generation: Generation, step: Int, holders: [WorkerID])? {
    let home = home(run)
    let reachable = members.values.filter {
      ($0.run == nil || $0.run == run.id) && (home == nil || $0.description.mpi?.world == home)
    }
    let held = reachable.flatMap { member in
      member.heartbeat.held.filter { $0.run == run.id && $0.generation >= run.record.firstGeneration }
        .map { (holder: member.id, shard: $0) }
    }
    return NewestState.find(held, generations: run.record.generations)
  }

  /// The same, unless a checkpoint is newer or what is held was never recorded.
  private func usefulState(_ run: Run) -> (generation: Generation, step: Int, holders: [WorkerID])? {
    guard !run.record.distrustsMemory, let state = newestState(run), state.step >= run.record.checkpointStep ?? 0 else {
      return nil
    }
    return state
  }

  private mutating func assign(
    _ index: Int, workers: [Member], _ state: (generation: Generation, step: Int, holders: [WorkerID])?,
    _ turn: inout Turn
  ) {
    let record = runs[index].record
    let configuration = record.configuration
    counters.generation += 1
    let units = evenShares(of: configuration.training.unitCount, among: workers.count)
    let experts = experts(record, workers.map(\.description))
    let roster = workers.enumerated().map { place, member in
      RosterEntry(worker: member.description, units: units[place], experts: experts[place])
    }
    // Who holds a part of the state and has no place any more hands it over and is let go.
    let holders = state?.holders.map { id in members.values.first { $0.id == id }! } ?? []
    var helpers: [Member] = []
    for holder in holders where !workers.contains(where: { $0.id == holder.id }) {
      if !helpers.contains(where: { $0.id == holder.id }) { helpers.append(holder) }
    }
    let firstStep = state?.step ?? record.firstStep
    if let state {
      let peers = workers + helpers
      runs[index].record.start = .memory(
        MemoryState(
          generation: state.generation.number, step: state.step, units: state.generation.roster.map(\.units),
          experts: state.generation.roster.map(\.experts),
          holders: holders.map { holder in peers.firstIndex { $0.id == holder.id }! }))
    }
    let generation = Generation(
      number: counters.generation, roster: roster, helpers: helpers.map(\.description), firstStep: firstStep,
      noted: Array(repeating: 0, count: workers.count + helpers.count), promise: runs[index].record.generation?.promise)
    runs[index].record.generation = generation
    runs[index].record.memberships = (record.memberships ?? 0) + 1
    // Two back: copies of the one before are kept until the new one has its own.
    runs[index].record.generations = runs[index].record.generations.suffix(3) + [generation]
    runs[index].record.saves = [:]
    runs[index].generationSteps = 0
    runs[index].busy = []
    runs[index].slowSince = [:]
    runs[index].said = []
    enter(.loading, index, at: turn.now)
    let id = record.id
    let from =
      state.map { "step \($0.step) in the workers' memory" }
      ?? (firstStep > 0 ? "the checkpoint of step \(firstStep)" : "the seed")
    change(
      id, to: .placing, "\(workers.count) worker\(workers.count == 1 ? " loads" : "s load") from \(from)", &turn)
    tell(id, .placed(generation: generation.number, roster: roster), &turn)
    for (place, member) in (workers + helpers).enumerated() {
      members[member.peer]!.run = id
      members[member.peer]!.strayedAt = nil
      members[member.peer]!.progressAt = turn.now
      turn.add(.send(member.peer, .assigned(assignment(runs[index], place))))
    }
    // Workers of the generation before that have neither a place nor a part of the state.
    let kept = Set((workers + helpers).map(\.peer))
    for peer in members.keys.sorted() where members[peer]!.run == id && !kept.contains(peer) {
      release(peer, members[peer]!.heartbeat.generation, "the run goes on with others", &turn)
    }
  }

  /// The experts of each worker: where they were, as far as that is balanced.
  private func experts(_ record: RunRecord, _ workers: [WorkerDescription]) -> [[Int]] {
    let model = record.configuration.model
    guard let before = record.generations.last, model.expertCount > 0 else {
      return ExpertPlacement.even(model, workers: workers.count)
    }
    var owners = [Int?](repeating: nil, count: model.expertCount)
    for entry in before.roster {
      guard let place = workers.firstIndex(of: entry.worker) else { continue }
      for expert in entry.experts { owners[expert] = place }
    }
    let loads = record.expertLoads.isEmpty ? Array(repeating: 1, count: model.expertCount) : record.expertLoads
    let placed = ExpertPlacement.place(loads: loads, owners: owners, workers: workers.count)
    return workers.indices.map { worker in placed.indices.filter { placed[$0] == worker } }
  }

  /// What the worker at a place is told.
  func assignment(_ run: Run, _ place: Int) -> Assignment {
    let generation = run.record.generation!
    var assignment = Assignment(
      run: run.id, generation: generation.number, configuration: run.record.configuration, roster: generation.roster,
      helpers: generation.helpers, index: place, threads: run.record.configuration.cluster.threads,
      start: run.record.start, firstStep: generation.firstStep,
      recorded: run.record.step, noted: generation.noted[place], folder: run.record.folder, data: run.record.data,
      token: run.record.token)
    assignment.roots = roots.isEmpty ? nil : roots
    return assignment
  }

  mutating func workerReady(_ id: RunID, _ place: Int, _ turn: inout Turn) {
    guard let index = index(of: id), runs[index].record.phase == .loading else { return }
    runs[index].record.generation!.ready.insert(place)
    let generation = runs[index].record.generation!
    guard generation.ready.count == generation.roster.count else { return }
    // Whoever knew of unrecorded steps has told of them before it was ready.
    guard runs[index].record.step >= generation.firstStep else {
      runs[index].record.distrustsMemory = true
      return recover(
        id, "steps \(runs[index].record.step + 1) to \(generation.firstStep) died unrecorded with their worker",
        &turn)
    }
    runs[index].record.distrustsMemory = false
    // It was to stop behind its first step already, as those have told who knew of it.
    if case .pause(let reason)? = runs[index].record.wish,
      runs[index].record.leftOutInARow(generation.firstStep) > runs[index].record.configuration.training.skipAtMost
    {
      return rest(id, reason, &turn)
    }
    let seconds = (turn.now - runs[index].since).inSeconds
    runs[index].changeSeconds = seconds
    if let fault = runs[index].faultAt {
      runs[index].record.goodput.fault += (turn.now - fault).inSeconds
      runs[index].faultAt = nil
    } else {
      runs[index].record.goodput.start += seconds
    }
    let from = generation.firstStep > 0 ? "goes on from step \(generation.firstStep)" : "begins"
    let count = generation.roster.count
    enter(.training, index, at: turn.now)
    runs[index].lastStepAt = turn.now
    runs[index].record.wasPlaced = true
    change(id, to: .running, "\(from) with \(count) worker\(count == 1 ? "" : "s")", &turn)
    for place in generation.roster.indices {
      guard let member = member(runs[index], place) else { continue }
      members[member.peer]!.progressAt = turn.now
      turn.add(.send(member.peer, begin(runs[index])))
    }
    for place in generation.helpers.indices.map({ $0 + count }) {
      guard let member = member(runs[index], place) else { continue }
      release(member.peer, generation.number, "its part is done", &turn)
    }
  }

  /// A worker looks for the coordinator's token in the run's folder and does not find it: whatever it saved would be lost. At first this
  /// says that the cluster is not set up for the run; later the run goes on without that worker.
  mutating func folderUnseen(
    _ id: RunID, _ member: Member, _ reason: String, _ turn: inout Turn
  ) {
    guard let index = index(of: id) else { return }
    let sentence = "worker \(member.description.spoken): \(reason)"
    guard runs[index].record.wasPlaced else { return end(id, .failed, sentence, &turn) }
    members[member.peer]!.aside[id] = turn.now + runs[index].patience * 20
    recover(id, sentence, &turn)
  }

  func begin(_ run: Run) -> Reply {
    let generation = run.record.generation!
    return .begin(
      generation: generation.number, leftOut: run.record.leftOutToCountFrom(generation.firstStep))
  }

  // MARK: changing

  /// A free worker that a run may have makes it grow, when nobody else waits for one.
  mutating func grow(_ turn: inout Turn) {
    for run in runs where run.record.phase == .training && run.record.wish == nil {
      let count = run.record.roster.count
      guard count < run.record.configuration.cluster.workers, run.growsAtOnce || run.since + Coordinator.growAfter < turn.now
      else { continue }
      let fingerprint = run.record.roster[0].worker.fingerprint
      let free = candidates(run, at: turn.now).filter {
        $0.run == nil && $0.description.fingerprint == fingerprint && isReachable($0.description, from: run)
      }
      guard !free.isEmpty, let index = index(of: run.id) else { continue }
      let names = free.prefix(run.record.configuration.cluster.workers - count).map(\.description.name)
      runs[index].growsAtOnce = false
      runs[index].record.wish = .renew(reason: names.joined(separator: ", ") + (names.count == 1 ? " joins" : " join"))
    }
  }

  /// A run of higher priority takes the workers of the lowest ones that work, as many as it needs.
  private mutating func makeRoom(for run: Run, missing: Int, _ turn: inout Turn) {
    var missing = missing
    guard missing > 0, run.since + min(Coordinator.graceBeforeGivingWay, run.patience / 2) <= turn.now else { return }
    let lower = runs.filter { $0.record.phase.hasWorkers && $0.record.priority < run.record.priority }
      .sorted { ($0.record.priority, $1.record.place) < ($1.record.priority, $0.record.place) }
    for other in lower where missing > 0 {
      missing -= other.record.roster.count
      if let index = index(of: other.id), other.record.wish?.isFarewell != true {
        runs[index].record.wish = .giveWay(
          reason: "gives way to run \(run.record.name) of priority \(run.record.priority)")
      }
    }
  }

  func halt(_ run: Run) -> Reply {
    .halt(
      generation: run.record.generation!.number, saving: run.record.wish?.isFarewell ?? false,
      reason: run.record.wish?.reason ?? "")
  }

  mutating func beginHalt(_ id: RunID, _ turn: inout Turn) {
    guard let index = index(of: id) else { return }
    // Who is done soon is left alone.
    guard runs[index].record.generation!.finished.isEmpty else {
      if runs[index].record.wish?.isFarewell == false { runs[index].record.wish = nil }
      return
    }
    enter(.halting, index, at: turn.now)
    tell(id, .said("changes at the end of a step: \(runs[index].record.wish!.reason)"), &turn)
    for place in runs[index].record.roster.indices {
      if let member = member(runs[index], place) { turn.add(.send(member.peer, halt(runs[index]))) }
    }
    endHalt(id, &turn)
  }

  /// A worker has stopped at a boundary: because it was asked to, or by itself behind too many steps that were not applied, which the
  /// coordinator may hear of later.
  mutating func workerHalted(_ id: RunID, _ place: Int, step: Int, _ turn: inout Turn) {
    guard let index = index(of: id), [.training, .halting].contains(runs[index].record.phase) else { return }
    runs[index].record.generation!.halted[place] = step
    let generation = runs[index].record.generation!
    if generation.halted.count == generation.roster.count, runs[index].record.wish == nil {
      // Steps are reported before halts, so the reason is known; should it not be, the run must not stand there for ever.
      runs[index].record.wish = .pause(reason: "the workers stopped by themselves after step \(step)")
    }
    endHalt(id, &turn)
  }

  private mutating func endHalt(_ id: RunID, _ turn: inout Turn) {
    guard let index = index(of: id), runs[index].record.phase == .halting,
      runs[index].record.generation!.halted.count == runs[index].record.roster.count
    else { return }
    if runs[index].record.wish?.isFarewell == true {
      enter(.saving, index, at: turn.now)
      restIfSaved(id, &turn)
    } else {
      runs[index].record.startsFromMemory = true
      runs[index].record.wish = nil
      enter(.waiting, index, at: turn.now)
    }
  }

  /// The end of a pause: everything is on disk.
  mutating func restIfSaved(_ id: RunID, _ turn: inout Turn) {
    guard let index = index(of: id), runs[index].record.phase == .saving, runs[index].record.commits.isEmpty,
      runs[index].record.saves.isEmpty
    else { return }
    switch runs[index].record.wish {
    case .pause(let reason)?: rest(id, reason, &turn)
    case .giveWay(let reason)?:
      end(id, .paused, reason, &turn)
      enqueue(id, reason, &turn)
    case .renew?, nil: preconditionFailure("a run that saves for nothing")
    }
  }

  // MARK: recovering

  /// A worker that the generation counts on is gone.
  mutating func missing(_ id: RunID, _ place: Int, _ reason: String, _ turn: inout Turn) {
    guard let index = index(of: id), let generation = runs[index].record.generation else { return }
    switch runs[index].record.phase {
    case .collecting: collected(id, place, &turn)
    case .training where place >= generation.roster.count: break
    case .training where generation.finished.count == generation.roster.count: break
    case .loading, .training, .halting: recover(id, reason, &turn)
    case .idle, .preparing, .waiting, .saving: break
    }
  }

  /// Ends the generation at once, to begin another one from what is left.
  mutating func recover(_ id: RunID, _ reason: String, _ turn: inout Turn) {
    guard let index = index(of: id), let generation = runs[index].record.generation else { return }
    // Since the last step that was heard of, nothing useful was done.
    runs[index].faultAt = runs[index].faultAt ?? runs[index].lastStepAt ?? runs[index].since
    runs[index].record.fruitless += 1
    runs[index].record.saves = [:]
    guard runs[index].record.fruitless <= Coordinator.fruitlessLimit else {
      return end(
        id, .failed,
        "\(Coordinator.fruitlessLimit) generations in a row did not get a step done; the last one: \(reason)",
        &turn)
    }
    let waiting = runs[index].record.roster.indices.compactMap { member(runs[index], $0) }
      .compactMap { other in other.heartbeat.waiting.map { "\(other.description.name) waits for \($0)" } }
    let ledger = waiting.isEmpty ? "" : "; " + waiting.joined(separator: ", ")
    change(id, to: .placing, reason + ledger, &turn)
    enter(.collecting, index, at: turn.now)
    var awaited: Set<Int> = []
    for place in generation.peers.indices {
      guard let member = member(runs[index], place) else { continue }
      awaited.insert(place)
      turn.add(.send(member.peer, .stop(generation: generation.number, reason: reason)))
    }
    runs[index].record.generation!.awaited = awaited
    // Those that have let it go already.
    for place in awaited.sorted() {
      if let member = member(runs[index], place), member.heartbeat.generation != generation.number {
        collected(id, place, &turn)
      }
    }
    if awaited.isEmpty { replace(id, &turn) }
  }

  /// One more has stopped and said what it holds, or will not.
  mutating func collected(_ id: RunID, _ place: Int, _ turn: inout Turn) {
    guard let index = index(of: id), runs[index].record.phase == .collecting,
      runs[index].record.generation!.awaited.remove(place) != nil,
      runs[index].record.generation!.awaited.isEmpty
    else { return }
    replace(id, &turn)
  }

  /// From memory, if that is not older than the newest checkpoint; else from disk. Where all workers fell silent at once, the line to
  /// the coordinator is at fault rather than each of them, so they are heard before anything on the disk is given up.
  private mutating func replace(_ id: RunID, _ turn: inout Turn) {
    guard let index = index(of: id) else { return }
    let mayReturn = runs[index].lostToSilence && !members.values.contains { $0.run == id }
    for peer in members.keys.sorted() where members[peer]!.run == id { members[peer]!.run = nil }
    enter(.waiting, index, at: turn.now)
    runs[index].awaitsReunion = mayReturn
    runs[index].reunionSince = nil
    runs[index].record.startsFromMemory = mayReturn || usefulState(runs[index]) != nil
    if !runs[index].record.startsFromMemory { prepare(id, again: true, &turn) }
  }

  /// Two workers computed one unit to different results. Where a third agrees with one of them, the other is put aside.
  mutating func disagreed(_ id: RunID, _ disagreement: Disagreement, _ turn: inout Turn) {
    guard let index = index(of: id), runs[index].record.phase == .training || runs[index].record.phase == .halting
    else {
      return
    }
    let roster = runs[index].record.roster
    let names = zip(disagreement.voters, disagreement.hashes).filter { roster.indices.contains($0.0) }.map {
      "\(roster[$0].worker.name) got \(String($1, radix: 16))"
    }
    let what = "unit \(disagreement.unit) of step \(disagreement.step + 1): " + names.joined(separator: ", ")
    let counts = Dictionary(grouping: zip(disagreement.voters, disagreement.hashes), by: \.1)
    guard let majority = counts.values.first(where: { $0.count > 1 && 2 * $0.count > disagreement.voters.count }) else {
      return rest(
        id,
        "two workers computed a unit with different results, and one of them is wrong (\(what)); "
          + "`ress doctor` on both machines may tell which", &turn)
    }
    let wrong = disagreement.voters.filter { voter in
      !majority.contains { $0.0 == voter } && roster.indices.contains(voter)
    }
    for place in wrong {
      if let member = member(runs[index], place) {
        members[member.peer]!.aside[id] = turn.now + .seconds(1_000_000_000)
      }
    }
    let spoken = wrong.map { roster[$0].worker.spoken }.joined(separator: ", ")
    recover(id, "worker \(spoken) computed wrongly and is put aside: \(what)", &turn)
  }
}
