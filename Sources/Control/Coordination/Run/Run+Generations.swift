// Generations: which workers a run has, from a step on. A generation is assigned, loads, trains, and ends in one of two
// ways.
//
//   halting     something is to change (a worker joined, a scale, a pause, a move of experts): all workers stop
//               together at the end of a step, and the next generation takes the state from where it lies
//   collecting  a worker was lost: the others stop at once and report what they hold; the newest whole state in their
//               memory is where the next generation begins, or else the newest checkpoint that verifies
//               (Run+Recovery.swift)
//
// In both cases the next steps have the bits that they would have had.

import Configuration
import Wire

extension Run {
  // MARK: loading

  /// Gives the run its workers.
  /// - Parameters:
  ///   - workers: the workers of the roster, in its order.
  ///   - state: the state to begin from, where it is in the memory of workers.
  mutating func assign(
    _ number: UInt32, _ workers: [Member], from state: NewestState.Whole?, _ members: inout Members,
    _ turn: inout Turn
  ) {
    guard case .waiting(let origin, let before, let pending) = phase else { return }
    let roster = Placement.roster(of: workers.map(\.description), for: self)
    // A worker that holds a part of the state and is not in the roster only sends that part; then it is released.
    let holders = state?.holders.map { id in members.inOrder.first { $0.id == id }! } ?? []
    var helpers: [Member] = []
    for holder in holders where !(workers + helpers).contains(where: { $0.id == holder.id }) { helpers.append(holder) }
    let peers = workers + helpers
    var start = StartState.fresh
    var firstStep = 0
    if let state {
      firstStep = state.step
      start = .memory(
        MemoryState(
          generation: state.generation.number, step: state.step, units: state.generation.roster.map(\.units),
          experts: state.generation.roster.map(\.experts),
          holders: holders.map { holder in peers.firstIndex { $0.id == holder.id }! }))
    } else if case .disk(let found, let step) = origin {
      (start, firstStep) = (found, step)
    }
    let generation = Generation(
      number: number, roster: roster, helpers: helpers.map(\.description), firstStep: firstStep,
      promise: before?.promise)
    memberships = (memberships ?? 0) + 1
    // The three generations before this one are kept: workers keep the copies of a generation until the next one has
    // its own.
    generations = generations.suffix(3) + [generation]
    checkpoints.forgetSaves()
    ledger.beginGeneration()
    enter(.loading(generation, from: start, then: pending), at: turn.now)
    change(
      to: .placing,
      "\(workers.count) worker\(workers.count == 1 ? " loads" : "s load") from \(Run.spoken(start, firstStep))", &turn)
    tell(.placed(generation: number, roster: roster), &turn)
    tellChoice(of: generation, &turn)
    for (index, member) in peers.enumerated() {
      members.assign(member.peer, to: id, at: turn.now)
      turn.send(.assigned(assignment(index, turn)!), to: member.peer)
    }
    // Workers of the previous generation that are neither in the roster nor hold a part of the state.
    let kept = Set(peers.map(\.peer))
    for peer in members.peers(of: id) where !kept.contains(peer) {
      members.release(peer, members[peer]!.heartbeat.generation, "the run continues with other workers", &turn)
    }
  }

  private static func spoken(_ start: StartState, _ firstStep: Int) -> String {
    switch start {
    case .fresh: "the seed"
    case .weights(let source): source.path
    case .checkpoint: "the checkpoint of step \(firstStep)"
    case .memory(let state): "step \(state.step) in the workers' memory"
    }
  }

  /// Reports where the experts compute and the expected cost, where the coordinator decided that.
  private mutating func tellChoice(of generation: Generation, _ turn: inout Turn) {
    let workers = generation.roster.map(\.worker)
    guard workers.count > 1, configuration.cluster.experts == .auto, configuration.model.routedExperts > 0 else {
      return
    }
    let copies = ledger.copies(configuration, workers)
    say(copies.forecast(generation.copiedExperts, isMeasured: ledger.line != nil), &turn)
  }

  /// The assignment that the worker with that index gets while the generation loads.
  func assignment(_ index: Int, _ turn: Turn) -> Assignment? {
    guard case .loading(let generation, let start, _) = phase else { return nil }
    var assignment = Assignment(
      run: id, generation: generation.number, configuration: configuration, roster: generation.roster,
      helpers: generation.helpers, index: index, threads: configuration.cluster.threads, start: start,
      firstStep: generation.firstStep, recorded: steps.step, noted: generation.acknowledged[index], folder: folder,
      data: data, token: token)
    assignment.$roster = generation.$roster
    assignment.roots = turn.settings.roots.isEmpty ? nil : turn.settings.roots
    assignment.acceptsOtherNumerics = submission.acceptsOtherNumerics
    return assignment
  }

  mutating func workerReady(_ index: Int, _ members: inout Members, _ turn: inout Turn) {
    guard case .loading(var generation, let start, let pending) = phase else { return }
    generation.ready.insert(index)
    phase = .loading(generation, from: start, then: pending)
    guard generation.allReady else { return }
    // A worker that knows steps that were not recorded has reported them before it was ready.
    guard steps.step >= generation.firstStep else {
      distrustsMemory = true
      return recover(
        "steps \(steps.step + 1) to \(generation.firstStep) were lost with the only worker that could report them",
        &members, &turn)
    }
    distrustsMemory = false
    // Workers reported steps that were not recorded before, and after one of them the run was to stop.
    let skipAtMost = configuration.training.skipAtMost
    if case .pause(let reason)? = pending, steps.leftOutInARow(generation.firstStep) > skipAtMost {
      return rest(reason, &members, &turn)
    }
    account.begin(after: (turn.now - since).inSeconds, at: turn.now)
    enter(.training(generation, then: pending), at: turn.now)
    wasPlaced = true
    let from = generation.firstStep > 0 ? "continues from step \(generation.firstStep)" : "begins"
    let count = generation.roster.count
    change(to: .running, "\(from) with \(count) worker\(count == 1 ? "" : "s")", &turn)
    for (_, member) in workers(in: members) {
      members.progressed(member.peer, at: turn.now)
      turn.send(begin(generation), to: member.peer)
    }
    for index in generation.helpers.indices.map({ $0 + count }) {
      guard let member = worker(index, in: members) else { continue }
      members.release(member.peer, generation.number, "its part is done", &turn)
    }
  }

  private func begin(_ generation: Generation) -> Reply {
    .begin(
      generation: generation.number,
      leftOut: steps.leftOutToCountFrom(generation.firstStep, atMost: configuration.training.skipAtMost),
      evaluations: steps.standing(at: generation.firstStep))
  }

  /// A worker did not find the coordinator's token in the run's folder, so the checkpoints that it would write there
  /// would be lost. Before the first step this means that the cluster has no shared folder, and the run fails; later
  /// the run continues without that worker.
  mutating func folderUnseen(_ member: Member, _ reason: String, _ members: inout Members, _ turn: inout Turn) {
    let sentence = "worker \(member.description.spoken): \(reason)"
    guard wasPlaced else { return end(.failed, sentence, &members, &turn) }
    putAside(member, &members, turn)
    recover(sentence, &members, &turn)
  }

  /// Excludes a worker from the run for a time.
  func putAside(_ member: Member, _ members: inout Members, _ turn: Turn) {
    members.putAside(member.peer, from: id, until: turn.now + patience * 20)
  }

  /// Excludes a worker from the run for as long as its process lives, because it computes or reads something else.
  func putAsideForGood(_ member: Member, _ members: inout Members, _ turn: Turn) {
    members.putAside(member.peer, from: id, until: turn.now + .seconds(1_000_000_000))
  }

  // MARK: halting

  /// Asks the workers of a run that is training to stop at the end of a step, for the change that is pending.
  mutating func beginHalt(_ members: inout Members, _ turn: inout Turn) {
    guard case .training(let generation, let pending?) = phase else { return }
    // A run that is about to finish is not interrupted.
    guard generation.finished.isEmpty else {
      if !pending.releasesWorkers { phase.pending = nil }
      return
    }
    enter(.halting(generation, then: pending), at: turn.now)
    say("changes at the end of a step: \(pending.reason)", &turn)
    for (_, member) in workers(in: members) { turn.send(halt(generation, pending), to: member.peer) }
    endHalt(turn)
  }

  /// The run is to be paused. Workers that were asked to stop without a checkpoint are asked again, with one; those
  /// that have stopped by then save nothing.
  mutating func pause(_ reason: String, _ members: Members, _ turn: inout Turn) {
    phase.pending = .pause(reason: reason)
    guard case .halting(let generation, let pending) = phase else { return }
    for (_, member) in workers(in: members) { turn.send(halt(generation, pending), to: member.peer) }
  }

  private func halt(_ generation: Generation, _ pending: PendingChange) -> Reply {
    .halt(generation: generation.number, saving: pending.releasesWorkers, reason: pending.reason)
  }

  /// A worker has stopped at the end of a step: because it was asked to, or by itself after too many steps that were
  /// not applied. Their reports may arrive later.
  mutating func workerHalted(_ index: Int, step: Int, _ turn: inout Turn) {
    guard phase.isTraining || phase.isHalting, var generation = phase.generation else { return }
    generation.halted[index] = step
    phase.generation = generation
    if generation.allHalted, phase.pending == nil {
      // Steps are reported before halts, so the reason is known. If it were not, the run would have to continue
      // nevertheless.
      phase.pending = .pause(reason: "the workers stopped by themselves after step \(step)")
    }
    endHalt(turn)
  }

  private mutating func endHalt(_ turn: Turn) {
    guard case .halting(let generation, let pending) = phase, generation.allHalted else { return }
    if pending.releasesWorkers {
      // Workers report their files before they report the halt, so a checkpoint of which files are missing now will
      // never be complete. This happens when workers have stopped for another change, for which they need no
      // checkpoint, before a user paused the run.
      checkpoints.forgetSaves()
      enter(.saving(generation, then: pending), at: turn.now)
    } else {
      enter(.waiting(.memory(nil), after: generation, then: nil), at: turn.now)
    }
  }

  // MARK: workers that come back

  /// Sends a worker that joined again the messages that it may not have received.
  mutating func synchronize(_ member: Member, _ members: inout Members, _ turn: inout Turn) {
    guard var generation = phase.generation, let index = generation.index(of: member.description) else { return }
    let isIn = member.heartbeat.generation == generation.number
    switch phase {
    case .loading:
      guard !isIn else { return }
      generation.ready.remove(index)
      phase.generation = generation
      turn.send(.assigned(assignment(index, turn)!), to: member.peer)
    case .training, .halting:
      if index >= generation.roster.count {
        return members.release(member.peer, generation.number, "its part is done", &turn)
      }
      guard isIn else {
        if !generation.finished.contains(index) && generation.halted[index] == nil {
          missing(index, "worker \(member.description.spoken) returned without its generation", &members, &turn)
        }
        return
      }
      if !member.heartbeat.hasBegun { turn.send(begin(generation), to: member.peer) }
      if case .halting(_, let pending) = phase { turn.send(halt(generation, pending), to: member.peer) }
    case .collecting:
      if isIn {
        turn.send(.stop(generation: generation.number, reason: reason), to: member.peer)
      } else {
        collected(index, &members, &turn)
      }
    case .idle, .preparing, .waiting, .saving: break
    }
  }

  /// Acknowledges a worker's report by its number. Returns the worker's index, or nil where the report is not the next
  /// one of the generation.
  mutating func takeNumber(_ number: Int, of generationNumber: UInt32, from member: Member) -> Int? {
    guard var generation = phase.generation, generation.number == generationNumber,
      let index = generation.index(of: member.description), index < generation.acknowledged.count,
      number == generation.acknowledged[index] + 1
    else { return nil }
    generation.acknowledged[index] = number
    phase.generation = generation
    return index
  }

  /// A worker of the run has sent a heartbeat.
  mutating func heard(_ member: Member, _ members: inout Members, _ turn: inout Turn) {
    guard let generation = phase.generation else { return }
    if generation.number == member.heartbeat.generation {
      ledger.weigh(memory: member.heartbeat.memoryBytes)
    } else if phase.isCollecting, let index = generation.index(of: member.description) {
      collected(index, &members, &turn)
    }
  }
}
