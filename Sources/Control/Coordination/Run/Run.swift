// One run, from its submission to its last event, over all generations, pauses and resumes. It owns its state; the
// coordinator finds the run that an event is about and calls it. What a run decides goes into the turn; what it does
// with workers, into the members.
//
//   Phase          what happens now, with the data that are meaningful now
//   StepLog        the steps that were recorded
//   Checkpoints    files on their way to the disk
//   Ledger         which worker is late, which experts should move
//   Account        where the time goes
//   Run+…          what the run does with them: Preparation, Generations, Recovery, Progress, Saving, Ledger, Data
//
// `RunRecord` is the stored form: what a coordinator needs to know after a restart.

import Configuration
import Wire

struct Run: Equatable, Sendable {
  let id: RunID
  var submission: Submission
  private(set) var state: RunState
  private(set) var reason: String
  var phase: Phase
  /// The later of two times: when the present phase began, and when this coordinator started.
  private(set) var since: Instant
  /// Order among runs of one priority. A run that is resumed gets a new number, after those that already wait.
  private(set) var queueNumber: Int
  private(set) var eventCount: Int

  var folder: String
  /// The content of the file by which workers check that they see the same folder (`Assignment.tokenName`); nil in
  /// records of older versions.
  var token: String?
  /// Whether the folder was examined and is the run's own. If so, the run continues from its newest checkpoint, or else
  /// from the start that `submission.resume` names.
  var wasEverPrepared: Bool
  /// The checkpoint whose weights the run began with, known after its folder was examined; nil where the weights come
  /// from the seed.
  var from: WeightSource?
  /// The data that the run reads; nil until a worker or a checkpoint has reported them.
  var data: DataIdentity?

  var steps: StepLog
  var checkpoints: Checkpoints
  var ledger: Ledger
  var account: Account
  var clinic = RouterClinic()

  /// Whether the run had all its workers once. Only the first placement waits for more than the minimum.
  var wasPlaced: Bool
  /// Generations in a row that did not add a step.
  var fruitless: Int
  /// Number of generations so far; nil before the first, and in records of older versions.
  var memberships: Int?
  /// The number of the first generation since the run was last put into the queue. Older generations hold the state of
  /// another submission.
  private(set) var firstGeneration: UInt32
  /// The generations whose shards workers may still hold.
  var generations: [Generation]
  /// Whether the workers' state is newer than the recorded steps, and no worker is left that could report the missing
  /// ones.
  var distrustsMemory: Bool
  /// Whether the last worker was lost because of its silence and not because its connection closed: it may be alive.
  var lostToSilence = false
  /// Whether a user asked for more workers. The run then does not wait for further workers that may join.
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

  /// The connected worker with that index in the run's generation.
  func worker(_ index: Int, in members: Members) -> Member? {
    generation?.peer(at: index).flatMap { members.worker($0, of: id) }
  }

  /// The connected workers of the roster, with their indices.
  func workers(in members: Members) -> [(index: Int, member: Member)] {
    roster.enumerated().compactMap { index, entry in members.worker(entry.worker, of: id).map { (index, $0) } }
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

  /// Every change of the state has a reason. A new reason for the same state is a change as well.
  mutating func change(to state: RunState, _ reason: String, _ turn: inout Turn) {
    guard self.state != state || self.reason != reason else { return }
    self.state = state
    self.reason = reason
    turn.log("run \(name): \(state.rawValue): \(reason)")
    tell(.state(state, reason: reason), &turn)
  }

  /// Sends a page of events to each follower that lacks some. A follower requests each page, so it is never sent more
  /// than it can take.
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
    let scaled = "scaled to \(SpokenNumbers.count(workers, "worker"))"
    say("\(scaled) on request", &turn)
    if phase.hasWorkers, roster.count > workers, phase.pending == nil {
      phase.pending = .renew(reason: scaled)
    }
  }

  // MARK: its phases

  /// Begins a phase now.
  mutating func enter(_ phase: Phase, at now: Instant) {
    self.phase = phase
    since = now
  }

  /// The coordinator was restarted: repeats the actions that the previous process may not have completed.
  mutating func repeatUnfinished(_ turn: inout Turn) {
    if !folder.isEmpty && !state.isAtRest { turn.add(.takeFolder(id, folder: folder)) }
    if !folder.isEmpty && !state.isEnd { turn.add(.completeMetrics(id, folder: folder)) }
    commitNext(&turn)
    if phase.isPreparing { prepare(again: wasEverPrepared, &turn) }
  }

  /// The run waits at the end of the queue. `firstGeneration` is the number that its next generation will have at
  /// least.
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

  /// Ends the run, which only a resume can continue. Its workers are asked to stop and are free again.
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
