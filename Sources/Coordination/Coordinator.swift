// The coordinator as a value: events in, actions out. It opens no socket, reads no clock and touches no disk, so the
// simulation drives it through schedules that no cluster would show in a year. The daemon's whole loop is
//
//     for event in messages + ticks + finished disk work { for action in coordinator.step(event, at: now) { run(action) } }
//
// A run goes queued → placing → running → finished | failed | cancelled; every change has a reason. A generation is one
// membership of one run. Today a lost worker ends its run; the newest checkpoint is what `--resume` goes on from.

import Configuration
import Wire

package enum Event: Equatable, Sendable {
  case received(PeerID, Request)
  case tick
  /// A process that has been silent for so long that nothing more is kept for it.
  case forgotten(PeerID)
  /// The disk has been looked at for a run that `prepareRun` named.
  case prepared(RunID, Preparation)
  case committed(RunID, step: Int, path: String)
  case commitFailed(RunID, step: Int, reason: String)

  package enum Preparation: Equatable, Sendable {
    /// `notes` are sentences for the log: skipped checkpoints, say.
    case ready(folder: String, checkpoint: String?, firstStep: Int, notes: [String])
    case refused(reason: String)
  }
}

package enum Action: Equatable, Sendable {
  case send(PeerID, Reply)
  /// Look at the run's folder: remove unfinished saves, find the checkpoint to resume from, refuse to overwrite.
  case prepareRun(RunID, Submission)
  /// All files of a checkpoint are on disk: write its manifest and make it count.
  case commit(RunID, CheckpointManifest, folder: String)
  /// Append to the run's metrics file.
  case record(RunID, RunEvent, folder: String)
  case log(String)
}

package struct Coordinator: Sendable {
  /// A worker that is connected, by the peer it speaks as.
  struct Member: Equatable, Sendable {
    var id: WorkerID
    var peer: PeerID
    var description: WorkerDescription
    var lastHeard: Instant
    var heartbeat = Heartbeat()
    var run: RunID?
    /// Since when its heartbeats have belonged to another generation than the one it is counted on for.
    var strayedAt: Instant?
  }

  /// One submission, from its first event to its last.
  struct Run: Equatable, Sendable {
    var id: RunID
    var submission: Submission
    var state = RunState.queued
    var reason = ""
    /// All that happened, for those who begin to follow late.
    var events: [RunEvent] = []
    /// Steps are missing from `events`.
    var hasGaps = false
    var followers: [PeerID] = []
    var folder = ""
    var checkpoint: String?
    var firstStep = 0
    var step = 0
    var generation: UInt32 = 0
    /// Workers of the generation, in roster order.
    var roster: [WorkerID] = []
    var ready: Set<WorkerID> = []
    var finished: Set<WorkerID> = []
    /// Files of checkpoints that are being saved, by step and worker.
    var saves: [Int: [WorkerID: [CheckpointManifest.File]]] = [:]
    /// Checkpoints handed to the disk and not yet confirmed.
    var committing: Set<Int> = []
    var losses: [Int: Double] = [:]

    var name: String { submission.configuration.run }
  }

  var members: [PeerID: Member] = [:]
  /// In order of submission.
  var runs: [Run] = []
  var lastWorker: UInt32 = 0
  var lastGeneration: UInt32 = 0
  /// Waits for the disk to answer `prepareRun`.
  var preparing: RunID?
  let seed: UInt64
  let patience: Duration
  let program: String
  var submissions: UInt64 = 0
  /// Runs that have ended are kept for those who ask, up to this many.
  static let endedRunLimit = 100
  /// Events of one run that are kept in memory for late followers: steps of a long run would fill it.
  static let eventLimit = 200_000

  /// - Parameters:
  ///   - seed: random, so that run identifiers of two coordinators differ.
  ///   - program: name and version, written into checkpoints.
  package init(seed: UInt64, patience: Duration, program: String) {
    self.seed = seed
    self.patience = patience
    self.program = program
  }

  package mutating func step(_ event: Event, at now: Instant) -> [Action] {
    var actions: [Action] = []
    switch event {
    case .received(let peer, let request): receive(request, from: peer, at: now, &actions)
    case .tick: findLost(at: now, &actions)
    case .forgotten(let peer):
      for index in runs.indices { runs[index].followers.removeAll { $0 == peer } }
    case .prepared(let id, let preparation): finishPreparing(id, preparation, &actions)
    case .committed(let id, let step, let path): committed(id, step: step, path: path, &actions)
    case .commitFailed(let id, let step, let reason):
      end(id, .failed, "the checkpoint of step \(step) could not be written: \(reason)", &actions)
    }
    placeNext(&actions)
    return actions
  }

  private mutating func receive(_ request: Request, from peer: PeerID, at now: Instant, _ actions: inout [Action]) {
    members[peer]?.lastHeard = now
    switch request {
    case .hello(let description): join(description, peer, at: now, &actions)
    case .submit(let submission): submit(submission, from: peer, &actions)
    case .follow(let run): follow(run, peer, &actions)
    case .cancel(let name):
      guard let run = find(name) else { return refuseRun(name, peer, &actions) }
      if run.state.isEnd {
        actions.append(.send(peer, .refused(reason: "run \(run.name) has ended: \(run.reason)")))
      } else {
        actions.append(.send(peer, .submitted(run: run.id, name: run.name)))
        end(run.id, .cancelled, "cancelled on request", &actions)
      }
    case .status: actions.append(.send(peer, .status(status(at: now))))

    case .heartbeat(let heartbeat):
      guard members[peer] != nil else { return strangeWorker(peer, &actions) }
      heard(heartbeat, from: peer, at: now)
      actions.append(.send(peer, .alive))
    case .goodbye(let reason):
      guard let member = members.removeValue(forKey: peer) else { return }
      actions.append(.log("worker \(member.description.spoken) left: \(reason)"))
      if let run = member.run {
        end(
          run, .failed, "worker \(member.description.spoken) left at step \(member.heartbeat.step): \(reason)", &actions
        )
      }
    case .ready(let generation): report(peer, generation, &actions) { $0.workerReady($1, &$2) }
    case .stepDone(let generation, let record): report(peer, generation, &actions) { $0.stepDone($1, record, &$2) }
    case .evaluated(let generation, let record):
      report(peer, generation, &actions) { $0.tell($1.run!, .evaluated(record), &$2) }
    case .saved(let generation, let step, let files):
      report(peer, generation, &actions) { $0.saved($1, step: step, files, &$2) }
    case .finished(let generation): report(peer, generation, &actions) { $0.workerFinished($1, &$2) }
    case .failed(let generation, let reason):
      report(peer, generation, &actions) { coordinator, member, actions in
        coordinator.end(member.run!, .failed, "worker \(member.description.spoken): \(reason)", &actions)
      }
    }
  }

  /// Runs `body` for a report of a member about the generation it works in; reports about others are too late to matter.
  private mutating func report(
    _ peer: PeerID, _ generation: UInt32, _ actions: inout [Action],
    _ body: (inout Coordinator, Member, inout [Action]) -> Void
  ) {
    guard let member = members[peer] else { return strangeWorker(peer, &actions) }
    guard let id = member.run, let run = runs.first(where: { $0.id == id }), run.generation == generation,
      !run.state.isEnd
    else { return }
    body(&self, member, &actions)
  }

  /// A worker that this coordinator does not know, or has given up: it must introduce itself again.
  private func strangeWorker(_ peer: PeerID, _ actions: inout [Action]) {
    actions.append(.send(peer, .refused(reason: Coordinator.unknownWorker)))
  }

  /// What a worker is told that must say hello first.
  package static let unknownWorker = "this coordinator does not know the worker; say hello first"

  // MARK: queries

  /// By name (the newest of that name) or identifier.
  func find(_ name: String) -> Run? {
    runs.last { $0.name == name } ?? runs.first { $0.id.description == name }
  }

  func index(of id: RunID) -> Int? { runs.firstIndex { $0.id == id } }

  func status(at now: Instant) -> ClusterStatus {
    ClusterStatus(
      runs: runs.map { run in
        ClusterStatus.Run(
          id: run.id, name: run.name, state: run.state, reason: run.reason, step: run.step,
          steps: run.submission.configuration.training.steps)
      },
      workers: members.values.sorted { $0.id < $1.id }.map { member in
        ClusterStatus.Worker(
          description: member.description, run: member.run.flatMap { id in runs.first { $0.id == id }?.name },
          silentSeconds: (now - member.lastHeard).inSeconds)
      })
  }

  func refuseRun(_ name: String, _ peer: PeerID, _ actions: inout [Action]) {
    let known = runs.map(\.name)
    let hint = known.isEmpty ? "no run was submitted to this coordinator" : "it knows \(known.joined(separator: ", "))"
    actions.append(.send(peer, .refused(reason: "no run '\(name)'; \(hint)")))
  }

  /// Adds to a run's story and tells its followers.
  mutating func tell(_ id: RunID, _ event: RunEvent, _ actions: inout [Action]) {
    guard let index = index(of: id) else { return }
    keep(event, at: index)
    for follower in runs[index].followers { actions.append(.send(follower, .event(event))) }
    switch event {
    case .stepped, .evaluated: actions.append(.record(id, event, folder: runs[index].folder))
    case .began, .state, .placed, .saved, .said: break
    }
  }

  /// Steps past the limit are not kept; everything else is, so that who follows late hears of the end.
  private mutating func keep(_ event: RunEvent, at index: Int) {
    switch event {
    case .stepped where runs[index].events.count >= Coordinator.eventLimit:
      if !runs[index].hasGaps {
        runs[index].hasGaps = true
        runs[index].events.append(.said("later steps are not kept for late followers; metrics.jsonl has them all"))
      }
    case .stepped, .began, .state, .placed, .evaluated, .saved, .said: runs[index].events.append(event)
    }
  }

  mutating func change(_ id: RunID, to state: RunState, _ reason: String, _ actions: inout [Action]) {
    guard let index = index(of: id), runs[index].state != state || runs[index].reason != reason else { return }
    runs[index].state = state
    runs[index].reason = reason
    actions.append(.log("run \(runs[index].name): \(state.rawValue): \(reason)"))
    tell(id, .state(state, reason: reason), &actions)
  }
}
