// One run, from its submission to its last event, over all generations, pauses and resumes. It owns its state; the coordinator finds the
// run that an event is about and calls it. What a run decides goes into the turn; what it does with workers, into the members.
//
//   Phase          what happens now, with the data that are meaningful now
//   StepLog        the steps that were recorded
//   Checkpoints    files on their way to the disk
//   Ledger         which worker is late, which experts should move
//   Account        where the time goes
//   Run+…          what the run does with them: Preparation, Generations, Recovery, Progress, Saving, Ledger, Data
//
// `RunRecord` is the stored form: what a coordinator that comes after this one must know.

import Configuration
import Wire

struct Run: Equatable, Sendable {
  let id: RunID
  var submission: Submission
  private(set) var state: RunState
  private(set) var reason: String
  var phase: Phase
  /// When the present phase began, or this coordinator did.
  private(set) var since: Instant
  /// Order among runs of one priority. A run that is resumed gets a new number, after those that already wait.
  private(set) var queueNumber: Int
  private(set) var eventCount: Int

  var folder: String
  /// What the coordinator wrote into the folder for the workers to find; nil in the records of older programs.
  var token: String?
  /// The folder was looked at and is the run's own. The run then goes on from its newest checkpoint, or else from what it was submitted to
  /// begin from, which `submission.resume` keeps.
  var wasEverPrepared: Bool
  /// The checkpoint whose weights the run began with, once its folder was looked at; nil: those of the seed.
  var from: WeightSource?
  /// What the run reads; nil before its first workers or checkpoint have reported it.
  var data: DataIdentity?

  var steps: StepLog
  var checkpoints: Checkpoints
  var ledger: Ledger
  var account: Account
  var clinic = RouterClinic()

  /// Whether it once had all its workers: only a first placement waits for more than the minimum.
  var wasPlaced: Bool
  /// Generations in a row that did not add a step.
  var fruitless: Int
  /// How many generations it has had; nil before the first, and in the records of older programs.
  var memberships: Int?
  /// The number of its first generation since it was last put into the queue: older ones hold the state of another submission.
  private(set) var firstGeneration: UInt32
  /// The generations whose shards workers may still hold.
  var generations: [Generation]
  /// What workers hold is newer than what was recorded, and no worker that could report the difference is left.
  var distrustsMemory: Bool
  /// Its last worker was lost to silence, and not to a closed connection: it may be alive.
  var lostToSilence = false
  /// A user asked for more workers: the run does not wait for others that may join as well.
  var growsAtOnce = false
  /// Clients that wait for events, and the number of the last event that each has.
  var followers: [PeerID: Int] = [:]

  var name: String { submission.configuration.run }
  var configuration: RunConfiguration { submission.configuration }
  var priority: Int { configuration.cluster.priority }
  var patience: Duration { .nanoseconds(Int64(configuration.cluster.patienceSeconds * 1e9)) }
  var generation: Generation? { phase.generation }
  var roster: [RosterEntry] { phase.generation?.roster ?? [] }

  init(_ record: RunRecord, since now: Instant) {
    id = record.id
    submission = record.submission
    state = record.state
    reason = record.reason
    phase = Phase(record)
    since = now
    queueNumber = record.place
    eventCount = record.eventCount
    folder = record.folder
    token = record.token
    wasEverPrepared = record.wasEverPrepared
    data = record.data
    from = record.from
    steps = StepLog(record)
    checkpoints = Checkpoints(record)
    ledger = Ledger(record)
    account = Account(record)
    wasPlaced = record.wasPlaced
    fruitless = record.fruitless
    memberships = record.memberships
    firstGeneration = record.firstGeneration
    generations = record.generations
    distrustsMemory = record.distrustsMemory
  }

  /// The connected worker of a place in the run's generation.
  func worker(_ place: Int, in members: Members) -> Member? {
    generation?.peer(at: place).flatMap { members.worker($0, of: id) }
  }

  /// The connected workers of the roster, with their places.
  func workers(in members: Members) -> [(place: Int, member: Member)] {
    roster.enumerated().compactMap { place, entry in members.worker(entry.worker, of: id).map { (place, $0) } }
  }

  // MARK: its story

  /// Adds an event to the run's story.
  mutating func tell(_ event: RunEvent, _ turn: inout Turn) {
    eventCount += 1
    turn.store(.event(id, number: eventCount, RecordCodec.encode(event)))
    switch event {
    case .stepped, .evaluated, .examined: turn.add(.record(id, event, folder: folder))
    case .began, .state, .placed, .saved, .said: break
    }
  }

  mutating func say(_ sentence: String, _ turn: inout Turn) { tell(.said(sentence), &turn) }

  /// Every change of the state has a reason, and a new reason is a change.
  mutating func change(to state: RunState, _ reason: String, _ turn: inout Turn) {
    guard self.state != state || self.reason != reason else { return }
    self.state = state
    self.reason = reason
    turn.log("run \(name): \(state.rawValue): \(reason)")
    tell(.state(state, reason: reason), &turn)
  }

  /// Pages for the followers that lack events. A follower asks for each page, so none is sent more than it can take.
  mutating func sendPages(_ turn: inout Turn) {
    for (peer, after) in followers.sorted(by: { $0.key < $1.key }) where after < eventCount || state.isEnd {
      followers[peer] = nil
      turn.add(.sendEvents(peer, id, after: after, count: eventCount, ended: state.isEnd))
    }
  }

  // MARK: what users change

  mutating func scale(to workers: Int, _ turn: inout Turn) {
    submission.configuration.cluster.workers = workers
    submission.configuration.cluster.minimumWorkers = min(workers, configuration.cluster.minimumWorkers)
    growsAtOnce = true
    say("scaled to \(workers) workers on request", &turn)
    if phase.hasWorkers, roster.count > workers, phase.pending == nil {
      phase.pending = .renew(reason: "scaled to \(workers) workers")
    }
  }

  // MARK: its phases

  /// Begins a phase now.
  mutating func enter(_ phase: Phase, at now: Instant) {
    self.phase = phase
    since = now
  }

  /// Another coordinator has taken over: does what the one before may not have done.
  mutating func goOn(_ turn: inout Turn) {
    if !folder.isEmpty && !state.isAtRest { turn.add(.takeFolder(id, folder: folder)) }
    if !folder.isEmpty && !state.isEnd { turn.add(.completeMetrics(id, folder: folder)) }
    commitNext(&turn)
    if phase.isPreparing { prepare(again: wasEverPrepared, &turn) }
  }

  /// The run waits at the end of the queue. `firstGeneration` is the number that its next generation will have at least.
  mutating func enqueue(_ reason: String, number: Int, firstGeneration: UInt32, _ turn: inout Turn) {
    queueNumber = number
    fruitless = 0
    wasPlaced = false
    self.firstGeneration = firstGeneration
    generations = []
    account.forgetFault()
    enter(.idle, at: turn.now)
    change(to: .queued, reason, &turn)
  }

  /// The run is paused until a user resumes it.
  mutating func rest(_ reason: String, _ members: inout Members, _ turn: inout Turn) {
    end(.paused, reason, &members, &turn)
  }

  /// The run's last event, unless it is resumed. Its workers are told to stop and are free again.
  mutating func end(_ state: RunState, _ reason: String, _ members: inout Members, _ turn: inout Turn) {
    guard !self.state.isEnd else { return }
    let number = generation?.number ?? 0
    for peer in members.peers(of: id) { members.release(peer, number, reason, &turn) }
    phase = .idle
    generations = []
    checkpoints.forgetSaves()
    account.forgetFault()
    let isNews = self.state != state
    change(to: state, reason, &turn)
    if isNews, state.isAtRest, !configuration.cluster.onEnd.isEmpty {
      turn.add(
        .runCommand(
          id,
          Ending(
            command: configuration.cluster.onEnd, name: name, state: state, reason: reason, folder: folder)))
    }
    if state.isAtRest, !folder.isEmpty { turn.add(.releaseFolder(id, folder: folder)) }
  }
}
