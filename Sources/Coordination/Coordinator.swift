// The coordinator as a value: events in, actions out. It opens no socket, reads no clock and touches no disk, so the
// simulation drives it through schedules that no cluster would show in a year. The daemon's whole loop is
//
//     for event in messages + ticks + finished disk work { for action in coordinator.step(event, at: now) { run(action) } }
//
// A run goes queued → placing → running → paused | finished | failed | cancelled; every change has a reason. A generation is
// one membership of one run; whatever changes the membership makes a new one (Coordinator+Generations.swift).
//
// What must survive a dead coordinator is in `RunRecord`s. Each turn begins its actions with the changes to store, and the
// daemon commits them before it does anything else: whatever was answered is remembered.

import Configuration
import Wire

package enum Event: Equatable, Sendable {
  case received(PeerID, Request)
  case tick
  /// The process's connection was closed, and it has not spoken over another one since.
  case disconnected(PeerID)
  /// A process that has been silent for so long that nothing more is kept for it.
  case forgotten(PeerID)
  case prepared(RunID, Preparation)
  case committed(RunID, step: Int, path: String)
  /// `isFinal`: its files are gone or damaged, so that trying again is of no use.
  case commitFailed(RunID, step: Int, reason: String, isFinal: Bool = false)
  /// The run's metrics file could not be written, or was written again from the store; a sentence for the run's story.
  case noted(RunID, String)
  /// Another coordinator has taken the run's folder while this one was away.
  case folderTaken(RunID, reason: String)

  package enum Preparation: Equatable, Sendable {
    /// `notes` are sentences for the log: skipped checkpoints, say. `proof` is what the next step gave when it was first run.
    /// `data` is what the checkpoint was trained on. The last `leftOut` steps before the checkpoint were not applied. `token` is in a file
    /// of the folder.
    case ready(
      folder: String, checkpoint: String?, firstStep: Int, proof: StepMark?, notes: [String], data: DataIdentity? = nil,
      leftOut: Int = 0, token: String? = nil)
    case refused(reason: String)
  }
}

/// What a step came to, for comparison: equal steps have equal bits.
package struct StepMark: Codable, Equatable, Sendable {
  package var step: Int
  package var loss: Double
  package var gradientNorm: Double

  package init(step: Int, loss: Double, gradientNorm: Double) {
    self.step = step
    self.loss = loss
    self.gradientNorm = gradientNorm
  }

  /// Bits, so that what is not a number equals itself.
  func agrees(with other: StepMark) -> Bool {
    step == other.step && loss.bitPattern == other.loss.bitPattern
      && gradientNorm.bitPattern == other.gradientNorm.bitPattern
  }
}

package enum Action: Equatable, Sendable {
  /// Commit these before anything that follows.
  case store([StoreChange])
  case send(PeerID, Reply)
  /// A page of a run's events, of which there are `count`; `ended`: no more will come.
  case sendEvents(PeerID, RunID, after: Int, count: Int, ended: Bool)
  /// What `status` says at the moment of sending.
  case sendStatus(PeerID)
  /// Look at the run's folder: remove unfinished saves, find the checkpoint to begin from, refuse to overwrite. With `again`
  /// the folder is the run's own already, and recorded steps stay.
  case prepareRun(RunID, Submission, again: Bool)
  /// All files of a checkpoint are on disk: write its manifest and make it count.
  case commit(RunID, CheckpointManifest, folder: String)
  /// Write what the step after a checkpoint gave beside it.
  case prove(checkpoint: String, StepMark)
  /// Bring the run's metrics file up to its stored events: the coordinator before may have died between the two.
  case completeMetrics(RunID, folder: String)
  /// The run's folder is this coordinator's until it is released: another one may write there otherwise.
  case takeFolder(RunID, folder: String)
  case releaseFolder(RunID, folder: String)
  /// Append to the run's metrics file.
  case record(RunID, RunEvent, folder: String)
  case log(String)
  /// A line about something refused, of which a hostile peer can cause any number.
  case complain(String)
}

package struct Coordinator: Sendable {
  /// A worker that is connected, by the peer it speaks as.
  struct Member: Equatable, Sendable {
    var id: WorkerID
    var peer: PeerID
    var description: WorkerDescription
    var joinedAt: Instant
    var lastHeard: Instant
    var heartbeat = Heartbeat()
    var run: RunID?
    /// When its count of progress last moved.
    var progressAt: Instant
    /// Since when its heartbeats have belonged to another generation than the one it is counted on for.
    var strayedAt: Instant?
    var closedAt: Instant?
    /// Runs that do not want it, and until when.
    var aside: [RunID: Instant] = [:]
  }

  /// A run's record, and what a new coordinator can do without.
  struct Run: Equatable, Sendable {
    var record: RunRecord
    /// Who waits for events after which one.
    var followers: [PeerID: Int] = [:]
    /// When the present phase began, or this coordinator did.
    var since: Instant
    /// Training was interrupted by a fault then.
    var faultAt: Instant?
    var lastStepAt: Instant?
    /// Recorded steps, to compare those that are computed again.
    var marks: [Int: StepMark] = [:]
    /// What the ledger has said already.
    var said: Set<String> = []
    /// Steps of this generation, and by place the seconds of computing, fading.
    var generationSteps = 0
    var busy: [Double] = []
    /// Since when one worker has been much slower than the others, by place.
    var slowSince: [Int: Instant] = [:]
    /// Somebody asked for more workers: it need not wait for others that may come too.
    var growsAtOnce = false
    /// How many times the usual gain a move of experts must promise: more, after moves that did not keep what they promised.
    var moveCaution = 1.0
    /// What was seen of its router.
    var clinic = RouterClinic()
    /// How long the last change of generation took.
    var changeSeconds = 1.0
    /// The checkpoint that the disk is at work on, and when those that failed are tried again.
    var commitUnderWay: Int?
    var commitRetries: [Int: CommitRetry] = [:]
    /// Its last worker was lost to silence, and not to a closed connection: it may be alive.
    var lostToSilence = false
    /// All its workers fell silent, so they may come back with what they hold.
    var awaitsReunion = false
    /// When enough of them for the run were back.
    var reunionSince: Instant?
    /// Since when all its workers have waited for each other.
    var deadlockedSince: Instant?

    var id: RunID { record.id }
    var patience: Duration { .nanoseconds(Int64(record.configuration.cluster.patienceSeconds * 1e9)) }
  }

  struct Counters: Codable, Equatable, Sendable {
    var worker: UInt32 = 0
    var generation: UInt32 = 0
    var submissions: UInt64 = 0
    var place = 0
  }

  /// A worker that is not here any more.
  struct Gone: Equatable, Sendable {
    var description: WorkerDescription
    var run: String?
    var reason: String
    var at: Instant
  }

  var members: [PeerID: Member] = [:]
  /// Lately, the newest last, for those who look: `goneLimit` of them at most, each for an hour or until one of its name joins.
  var gone: [Gone] = []
  static let goneLimit = 20
  static let goneFor = Duration.seconds(3600)
  /// In order of submission.
  var runs: [Run] = []
  var counters = Counters()
  /// MPI worlds that have lost a rank: nobody of them comes back.
  var brokenWorlds: Set<UInt64> = []
  /// All times in here are this clock's: what the coordinator itself slept through is nobody's silence.
  private var clock = SteadyClock()
  /// When the coordinator last went on after it had stood still.
  var wokeAt: Instant?
  let seed: UInt64
  let patience: Duration
  let program: String
  /// Folders that runs may use; none: all.
  let roots: [String]
  /// What the store holds.
  private var stored: [RunID: RunRecord] = [:]
  private var storedCounters = Counters()
  /// When the last turn was.
  private var lastTurn = Instant(nanoseconds: 0)
  /// Runs that have ended are kept for those who ask, up to this many.
  static let endedRunLimit = 100
  /// Steps that can be compared when they are computed again.
  static let markLimit = 10_000

  /// - Parameters:
  ///   - seed: random, so that run identifiers of two coordinators differ.
  ///   - patience: silence after which a worker is lost; a run's own setting decides about its work.
  ///   - program: name and version, written into checkpoints.
  ///   - roots: folders that runs may use, for workers to hold their files to; none: all.
  package init(seed: UInt64, patience: Duration, program: String, roots: [String] = []) {
    self.roots = roots
    self.seed = seed
    self.patience = patience
    self.program = program
  }

  /// Name of the stored value that holds the counters.
  package static let countersName = "counters"

  /// Takes over from a coordinator that is gone: its records, and the actions that may not have been done. Workers come back by
  /// themselves; those that do not within the patience are lost.
  package mutating func restore(records: [[UInt8]], counters stored: [UInt8]?, at now: Instant) throws(WireError)
    -> [Action]
  {
    if let stored { counters = try RecordCodec.decode(Counters.self, from: stored) }
    storedCounters = counters
    var turn = Turn(now: clock.now(at: now))
    lastTurn = turn.now
    for bytes in records {
      let record = try RecordCodec.decode(RunRecord.self, from: bytes)
      runs.append(Run(record: record, since: turn.now))
      self.stored[record.id] = record
    }
    for run in runs {
      if !run.record.folder.isEmpty && !run.record.state.isAtRest {
        turn.add(.takeFolder(run.id, folder: run.record.folder))
      }
      if !run.record.folder.isEmpty && !run.record.state.isEnd {
        turn.add(.completeMetrics(run.id, folder: run.record.folder))
      }
      commitNext(run.id, &turn)
      if run.record.phase == .preparing { prepare(run.id, again: run.record.wasEverPrepared, &turn) }
    }
    storeChanges(&turn)
    return turn.ended()
  }

  /// Every run that has not ended waits for somebody to resume it.
  package mutating func pauseAll(_ reason: String) -> [Action] {
    var turn = Turn(now: lastTurn)
    for run in runs where !run.record.state.isAtRest { rest(run.id, reason, &turn) }
    storeChanges(&turn)
    return turn.ended()
  }

  package mutating func step(_ event: Event, at now: Instant) -> [Action] {
    let stoodStill = clock.turn(at: now)
    var turn = Turn(now: clock.time(at: now))
    lastTurn = turn.now
    if stoodStill > .zero {
      wokeAt = turn.now
      turn.add(
        .log("the coordinator stood still for \(stoodStill.spoken), which does not count as silence of its workers"))
    }
    switch event {
    case .received(let peer, let request): receive(request, from: peer, &turn)
    case .tick: tick(&turn)
    case .disconnected(let peer): members[peer]?.closedAt = turn.now
    case .forgotten(let peer): for index in runs.indices { runs[index].followers[peer] = nil }
    case .prepared(let id, let preparation): finishPreparing(id, preparation, &turn)
    case .committed(let id, let step, let path): committed(id, step: step, path: path, &turn)
    case .commitFailed(let id, let step, let reason, let isFinal):
      commitFailed(id, step: step, reason, isFinal: isFinal, &turn)
    case .noted(let id, let sentence): tell(id, .said(sentence), &turn)
    case .folderTaken(let id, let reason):
      if let index = index(of: id), !runs[index].record.state.isAtRest { rest(id, reason, &turn) }
    }
    schedule(&turn)
    sendPages(&turn)
    storeChanges(&turn)
    return turn.ended()
  }

  /// Adds to the turn what the store does not know yet.
  private mutating func storeChanges(_ turn: inout Turn) {
    for run in runs where stored[run.id] != run.record {
      stored[run.id] = run.record
      turn.store(.run(run.id, RecordCodec.encode(run.record)))
    }
    for id in stored.keys.sorted() where index(of: id) == nil {
      stored[id] = nil
      turn.store(.forget(id))
    }
    if counters != storedCounters {
      storedCounters = counters
      turn.store(.value(Coordinator.countersName, RecordCodec.encode(counters)))
    }
  }

  private mutating func receive(_ request: Request, from peer: PeerID, _ turn: inout Turn) {
    if let problem = request.problem {
      turn.add(.complain("a message of \(peer) was refused: \(problem)"))
      return turn.add(.send(peer, .refused(reason: "the message cannot be meant: \(problem)")))
    }
    members[peer]?.lastHeard = turn.now
    members[peer]?.closedAt = nil
    switch request {
    case .hello(let description, let heartbeat): join(description, heartbeat, peer, &turn)
    case .heartbeat(let heartbeat):
      guard members[peer] != nil else { return strangeWorker(peer, &turn) }
      heard(heartbeat, from: peer, &turn)
      let (generation, noted) = standing(peer)
      turn.add(.send(peer, .alive(generation: generation, noted: noted)))
    case .report(let generation, let number, let report):
      guard members[peer] != nil else { return strangeWorker(peer, &turn) }
      take(report, number, generation, from: peer, &turn)
    case .goodbye(let reason):
      guard let member = members[peer] else { return }
      lose(member, "left: \(reason)", &turn)

    case .submit(let submission): submit(submission, from: peer, &turn)
    case .follow(let run, let after): follow(run, after: after, peer, &turn)
    case .change(let run, let change): self.change(run, change, from: peer, &turn)
    case .status: turn.add(.sendStatus(peer))
    }
  }

  /// Runs `body` for the next report of a worker about the generation it works in; what was taken before, and what is about
  /// other generations, is too late to matter.
  private mutating func take(
    _ report: Report, _ number: Int, _ generation: UInt32, from peer: PeerID, _ turn: inout Turn
  ) {
    guard let member = members[peer], let index = member.run.flatMap({ index(of: $0) }),
      let current = runs[index].record.generation, current.number == generation,
      let place = current.peers.firstIndex(of: member.description), place < current.noted.count,
      number == current.noted[place] + 1
    else { return }
    runs[index].record.generation!.noted[place] = number
    let id = runs[index].id
    switch report {
    case .reads(let data): workerReads(id, place, data, &turn)
    case .ready: workerReady(id, place, &turn)
    case .stepDone(let record) where runs[index].record.phase == .loading: recordMissing(id, record, &turn)
    case .stepDone(let record): stepDone(id, record, &turn)
    case .evaluated(let record): evaluated(id, record, &turn)
    case .examined(let record): examined(id, record, &turn)
    case .saved(let step, let files): saved(id, place, step: step, files, &turn)
    case .saveFailed(let step, let reason):
      tell(
        id,
        .said(
          "worker \(member.description.spoken) could not write its part of the checkpoint of step \(step): \(reason); "
            + "it tries again, and training goes on"), &turn)
    case .halted(let step, let held):
      members[peer]!.heartbeat.held = held
      workerHalted(id, place, step: step, &turn)
    case .disagreed(let disagreement): disagreed(id, disagreement, &turn)
    case .lacking(let reason):
      recover(id, "worker \(member.description.spoken): \(reason)", &turn)
    case .folderUnseen(let reason): folderUnseen(id, member, reason, &turn)
    case .finished: workerFinished(id, place, &turn)
    case .failed(let reason): end(id, .failed, "worker \(member.description.spoken): \(reason)", &turn)
    }
  }

  /// The generation a worker is counted on for, and how many of its reports were taken in it.
  func standing(_ peer: PeerID) -> (generation: UInt32, noted: Int) {
    guard let member = members[peer], let index = member.run.flatMap({ index(of: $0) }),
      let generation = runs[index].record.generation,
      let place = generation.peers.firstIndex(of: member.description)
    else { return (0, 0) }
    return (generation.number, place < generation.noted.count ? generation.noted[place] : 0)
  }

  /// A worker that this coordinator does not know, or has given up: it must introduce itself again.
  private func strangeWorker(_ peer: PeerID, _ turn: inout Turn) {
    turn.add(.send(peer, .refused(reason: Coordinator.unknownWorker)))
  }

  /// What a worker is told that must say hello first.
  package static let unknownWorker = "this coordinator does not know the worker; say hello first"

  // MARK: queries

  /// By identifier, else the newest of that name. Every question about a run goes through here: what a user may do is judged by the run
  /// that it is then done to.
  func find(_ text: String) -> Run? {
    runs.first { $0.id.description == text } ?? runs.last { $0.record.name == text }
  }

  /// The last step that a run has recorded; nil where there is no such run.
  package func recordedStep(_ id: RunID) -> Int? { index(of: id).map { runs[$0].record.step } }

  func index(of id: RunID) -> Int? { runs.firstIndex { $0.id == id } }

  /// The connected worker of a place in a run's generation.
  func member(_ run: Run, _ place: Int) -> Member? {
    guard let peers = run.record.generation?.peers, place < peers.count else { return nil }
    return members.values.first { $0.run == run.id && $0.description == peers[place] }
  }

  package func status(at now: Instant) -> ClusterStatus {
    let now = clock.time(at: now)
    return ClusterStatus(
      runs: runs.map { run in
        let record = run.record
        var shown = ClusterStatus.Run(
          id: run.id, name: record.name, state: record.state, reason: record.reason, step: record.step,
          steps: record.configuration.training.steps, priority: record.configuration.cluster.priority,
          generation: record.generation?.number ?? 0, workers: record.roster.map(\.worker.name),
          minimumWorkers: record.configuration.cluster.minimumWorkers,
          wantedWorkers: record.configuration.cluster.workers, checkpointStep: record.checkpointStep,
          goodput: record.goodput)
        shown.memberships = record.memberships ?? (record.generation == nil ? 0 : nil)
        shown.forecast = record.submission.forecast
        shown.eventCount = record.eventCount
        shown.actual = Forecast(
          stepSeconds: record.stepSeconds > 0 ? record.stepSeconds : nil, memoryBytes: record.memoryBytes,
          sentBytes: record.sentBytes.map { Int($0) }, checkpointBytes: record.checkpointBytes)
        return shown
      },
      workers: members.values.sorted { $0.id < $1.id }.map { member in
        ClusterStatus.Worker(
          description: member.description, run: member.run.flatMap { index(of: $0) }.map { runs[$0].record.name },
          silentSeconds: (now - member.lastHeard).inSeconds, waiting: member.heartbeat.waiting)
      },
      gone: gone.filter { now < $0.at + Coordinator.goneFor }.map {
        ClusterStatus.Gone(
          description: $0.description, run: $0.run, reason: $0.reason, secondsAgo: (now - $0.at).inSeconds)
      })
  }

  func refuseRun(_ name: String, _ peer: PeerID, _ turn: inout Turn) {
    let known = runs.map(\.record.name)
    let hint = known.isEmpty ? "no run was submitted to this coordinator" : "it knows \(known.joined(separator: ", "))"
    turn.add(.send(peer, .refused(reason: "no run '\(name)'; \(hint)")))
  }

  // MARK: a run's story

  /// Adds to a run's story.
  mutating func tell(_ id: RunID, _ event: RunEvent, _ turn: inout Turn) {
    guard let index = index(of: id) else { return }
    runs[index].record.eventCount += 1
    turn.store(.event(id, number: runs[index].record.eventCount, RecordCodec.encode(event)))
    switch event {
    case .stepped, .evaluated, .examined: turn.add(.record(id, event, folder: runs[index].record.folder))
    case .began, .state, .placed, .saved, .said: break
    }
  }

  mutating func change(_ id: RunID, to state: RunState, _ reason: String, _ turn: inout Turn) {
    guard let index = index(of: id), runs[index].record.state != state || runs[index].record.reason != reason else {
      return
    }
    runs[index].record.state = state
    runs[index].record.reason = reason
    turn.add(.log("run \(runs[index].record.name): \(state.rawValue): \(reason)"))
    tell(id, .state(state, reason: reason), &turn)
  }

  private mutating func follow(_ name: String, after: Int, _ peer: PeerID, _ turn: inout Turn) {
    guard let run = find(name), let index = index(of: run.id) else { return refuseRun(name, peer, &turn) }
    runs[index].followers[peer] = min(max(0, after), run.record.eventCount)
  }

  /// Pages for those whose events have come. Who wants the next page asks for it, so nobody is sent more than it can take.
  private mutating func sendPages(_ turn: inout Turn) {
    for index in runs.indices {
      let record = runs[index].record
      let ended = record.state.isEnd
      for (peer, after) in runs[index].followers.sorted(by: { $0.key < $1.key }) {
        guard after < record.eventCount || ended else { continue }
        runs[index].followers[peer] = nil
        turn.add(.sendEvents(peer, record.id, after: after, count: record.eventCount, ended: ended))
      }
    }
  }
}
