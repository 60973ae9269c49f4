// The coordinator as a value: events in, actions out. It opens no socket, reads no clock and touches no disk, so the
// simulation drives it through schedules that no cluster would show in a year. The daemon's whole loop is
//
//     for action in coordinator.step(messages + finished disk work + tick, at: now) { run(action) }
//
// The coordinator itself only finds the run or the worker that an event is about. `Members` holds the workers, `Runs`
// the runs; a `Run` decides about itself, and `Placement` chooses its workers. The state that must survive a crash is
// in `RunRecord`s. The actions of each turn begin with the changes to store, and the daemon commits them before it
// carries out the others, so that every reply that was sent is based on stored state.

import Configuration
import Wire

package struct Coordinator: Sendable {
  struct Counters: Codable, Equatable, Sendable {
    var worker: UInt32 = 0
    var generation: UInt32 = 0
    var submissions: UInt64 = 0
    /// The last `Run.queueNumber`.
    var place = 0
  }

  let settings: Settings
  var members = Members()
  var runs = Runs()
  var counters = Counters()
  /// All times in this type are of this clock: time in which the coordinator itself did not run does not count as
  /// silence of its workers.
  private var clock = SteadyClock()
  /// The time of the last turn.
  private var lastTurn = Instant(nanoseconds: 0)
  /// When the coordinator last continued after it had been stopped.
  private(set) var wokeAt: Instant?
  /// The content of the store, as this program would write it.
  private var stored: [RunID: RunRecord] = [:]
  private var storedCounters = Counters()

  /// - Parameters:
  ///   - seed: random, so that run identifiers of two coordinators differ.
  ///   - patience: silence after which a worker is lost; a run's own setting decides about its work.
  ///   - program: name and version, written into checkpoints.
  ///   - roots: folders that runs may use, which workers check as well; none: all.
  package init(seed: UInt64, patience: Duration, program: String, roots: [String] = []) {
    settings = Settings(seed: seed, patience: patience, program: program, roots: roots)
  }

  /// Name of the stored value that holds the counters.
  package static let countersName = "counters"

  /// Restores the state of the previous process from its records, and repeats the actions that it may not have
  /// completed. Workers return by themselves; those that do not return within the patience are lost.
  package mutating func restore(records: [[UInt8]], counters stored: [UInt8]?, at now: Instant) throws(WireError)
    -> [Action]
  {
    if let stored { counters = try RecordCodec.decode(Counters.self, from: stored) }
    storedCounters = counters
    var turn = beginTurn(at: clock.now(at: now))
    for bytes in records {
      let record = try RecordCodec.decode(RunRecord.self, from: bytes)
      let run = Run(record, since: turn.now)
      runs.restore(run)
      self.stored[run.id] = run.record
    }
    for id in runs.ids { runs[id].repeatUnfinished(&turn) }
    return turn.ended()
  }

  /// Pauses every run that has not ended.
  package mutating func pauseAll(_ reason: String) -> [Action] {
    var turn = beginTurn(at: lastTurn)
    for id in runs.ids where !runs[id].state.isAtRest { runs[id].rest(reason, &members, &turn) }
    return endTurn(&turn)
  }

  package mutating func step(_ event: Event, at now: Instant) -> [Action] { step([event], at: now) }

  /// Handles events in order, as one turn: what several of them change is stored once.
  package mutating func step(_ events: [Event], at now: Instant) -> [Action] {
    let stoodStill = clock.turn(at: now)
    var turn = beginTurn(at: clock.time(at: now))
    if stoodStill > .zero {
      wokeAt = turn.now
      turn.log("the coordinator was stopped for \(stoodStill.spoken), which does not count as silence of its workers")
    }
    for event in events { handle(event, &turn) }
    return endTurn(&turn)
  }

  private mutating func handle(_ event: Event, _ turn: inout Turn) {
    switch event {
    case .received(let peer, let request): receive(request, from: peer, &turn)
    case .tick: tick(&turn)
    case .disconnected(let peer): members[peer]?.closedAt = turn.now
    case .forgotten(let peer): for id in runs.ids { runs[id].followers[peer] = nil }
    case .prepared(let id, .ready(let beginning)) where !runs.contains(id):
      turn.add(.releaseFolder(id, folder: beginning.folder))
    case .prepared(let id, _), .committed(let id, _, _), .commitFailed(let id, _, _, _), .noted(let id, _),
      .folderTaken(let id, _):
      if runs.contains(id) { finished(event, id, &turn) }
    }
    // With hundreds of workers nearly all events are heartbeats. What these change for the queue waits for the next
    // tick, which every turn of the daemon has.
    if !event.isHeartbeat {
      concludeSaving(&turn)
      schedule(&turn)
      concludeSaving(&turn)
    }
    for id in runs.ids(where: { !$0.followers.isEmpty }) { runs[id].sendPages(&turn) }
  }

  // MARK: turns

  private mutating func beginTurn(at now: Instant) -> Turn {
    lastTurn = now
    return Turn(settings, now: now)
  }

  /// Adds the changes that are not stored yet to the turn.
  private mutating func endTurn(_ turn: inout Turn) -> [Action] {
    for run in runs.takeTouched() {
      let record = run.record
      guard stored[run.id] != record else { continue }
      stored[run.id] = record
      turn.store(.run(run.id, RecordCodec.encode(record)))
    }
    for id in stored.keys.sorted() where !runs.contains(id) {
      stored[id] = nil
      turn.store(.forget(id))
    }
    if counters != storedCounters {
      storedCounters = counters
      turn.store(.value(Coordinator.countersName, RecordCodec.encode(counters)))
    }
    return turn.ended()
  }

  // MARK: events

  private mutating func receive(_ request: Request, from peer: PeerID, _ turn: inout Turn) {
    if let problem = request.problem {
      turn.add(.complain("a message of \(peer) was refused: \(problem)"))
      return turn.refuse("invalid message: \(problem)", to: peer)
    }
    members[peer]?.lastHeard = turn.now
    members[peer]?.closedAt = nil
    switch request {
    case .hello(let description, let heartbeat): join(description, heartbeat, peer, &turn)
    case .heartbeat(let heartbeat):
      guard let member = members[peer] else { return turn.send(.unknownWorker, to: peer) }
      heard(heartbeat, from: member, &turn)
    case .report(let generation, let number, let report):
      guard let member = members[peer] else { return turn.send(.unknownWorker, to: peer) }
      take(report, number, of: generation, from: member, &turn)
    case .goodbye(let reason):
      if let member = members[peer] { lose(member, "left: \(reason)", &turn) }

    case .submit(let submission): submit(submission, from: peer, &turn)
    case .follow(let name, let after):
      guard let run = runs.find(name) else { return refuseRun(name, peer, &turn) }
      runs[run.id].followers[peer] = min(max(0, after), run.eventCount)
    case .change(let name, let change): self.change(name, change, from: peer, &turn)
    case .status: turn.add(.sendStatus(peer))
    case .describe(let name):
      guard let run = runs.find(name) else { return refuseRun(name, peer, &turn) }
      turn.add(.sendDetails(peer, run.id))
    }
  }

  /// Work on the disk has finished or failed.
  private mutating func finished(_ event: Event, _ id: RunID, _ turn: inout Turn) {
    switch event {
    case .prepared(_, let preparation): runs[id].finishPreparing(preparation, &members, &turn)
    case .committed(_, let step, let path): runs[id].committed(step, path: path, &members, &turn)
    case .commitFailed(_, let step, let reason, let isFinal):
      runs[id].commitFailed(step, reason, isFinal: isFinal, &members, &turn)
    case .noted(_, let sentence): runs[id].say(sentence, &turn)
    case .folderTaken(_, let reason): if !runs[id].state.isAtRest { runs[id].rest(reason, &members, &turn) }
    case .received, .tick, .disconnected, .forgotten: break
    }
  }

  /// Takes the next report of a worker about its present generation. A report that was taken before, or that is about
  /// another generation, is ignored.
  private mutating func take(
    _ report: Report, _ number: Int, of generation: UInt32, from member: Member, _ turn: inout Turn
  ) {
    guard let id = run(of: member), let index = runs[id].takeNumber(number, of: generation, from: member) else {
      return
    }
    // Its next heartbeat can be far behind: after a pause of the coordinator the reports of many steps arrive first.
    members.progressed(member.peer, at: turn.now)
    switch report {
    case .reads(let data): runs[id].workerReads(index, data, &members, &turn)
    case .ready: runs[id].workerReady(index, &members, &turn)
    case .stepDone(let record) where runs[id].phase.isLoading: runs[id].recordMissing(record, &members, &turn)
    case .stepDone(let record): runs[id].stepDone(record, &members, &turn)
    case .evaluated(let record): runs[id].evaluated(record, &turn)
    case .examined(let record): runs[id].examined(record, &turn)
    case .measured(let line): runs[id].measured(line)
    case .saved(let step, let files): runs[id].saved(index, step: step, files, &turn)
    case .saveFailed(let step, let reason):
      runs[id].say(
        "worker \(member.description.spoken) could not write its part of the checkpoint of step \(step): \(reason); "
          + "it tries again while training continues", &turn)
    case .halted(let step, let held):
      members[member.peer]!.heartbeat.held = held
      runs[id].workerHalted(index, step: step, &turn)
    case .disagreed(let disagreement): runs[id].disagreed(disagreement, &members, &turn)
    case .lacking(let reason): runs[id].recover("worker \(member.description.spoken): \(reason)", &members, &turn)
    case .folderUnseen(let reason): runs[id].folderUnseen(member, reason, &members, &turn)
    case .finished: runs[id].workerFinished(index, &members, &turn)
    case .failed(let reason):
      runs[id].end(.failed, "worker \(member.description.spoken): \(reason)", &members, &turn)
    }
  }

  // MARK: questions

  /// The run of a worker.
  func run(of member: Member) -> RunID? { member.run.flatMap { runs.contains($0) ? $0 : nil } }

  /// The public key of the user who submitted a run, by its name or identifier; nil where the user had none, or there
  /// is no such run.
  package func owner(of run: String) -> PublicKey? { runs.find(run)?.submission.owner }

  /// The last step that a run has recorded; nil where there is no such run.
  package func recordedStep(_ id: RunID) -> Int? { runs.contains(id) ? runs[id].steps.step : nil }

  package func status(at now: Instant) -> ClusterStatus { status(steady: clock.time(at: now)) }
}
