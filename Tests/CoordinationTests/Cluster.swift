// A coordinator and pretend workers, without a network: events in, actions out.

import Configuration
import Coordination
import Wire

/// Drives one coordinator and keeps what it did.
struct Cluster {
  var coordinator = Coordinator(seed: 1, patience: .seconds(10), program: "ress test")
  var now = Instant(nanoseconds: 0)
  /// Everything sent, by receiver, oldest first.
  var sent: [PeerID: [Reply]] = [:]
  var log: [String] = []
  var commits: [(RunID, CheckpointManifest, String)] = []
  var preparations: [(RunID, Submission, again: Bool)] = []
  var records: [RunEvent] = []
  /// Commands of `cluster.on_end` that were to be run.
  var endings: [Ending] = []
  var proofs: [(String, StepMark)] = []
  /// What the store holds.
  var stored: [RunID: [UInt8]] = [:]
  var counters: [UInt8]?
  var events: [RunID: [RunEvent]] = [:]
  /// Reports of each worker in its generation.
  private var reported: [PeerID: (generation: UInt32, count: Int)] = [:]
  /// What workers report that they hold.
  var held: [PeerID: [HeldShard]] = [:]
  /// For scenarios: the names of runs, the workers, and what was done, in words.
  var names: [RunID: String] = [:]
  var descriptions: [PeerID: WorkerDescription] = [:]
  var transcript: [String] = []

  static let client = PeerID("client")

  mutating func step(_ event: Event) { run(coordinator.step(event, at: now)) }

  private mutating func run(_ actions: [Action]) {
    for action in actions {
      write(action)
      switch action {
      case .store(let changes): for change in changes { keep(change) }
      case .send(let peer, let reply): sent[peer, default: []].append(reply)
      case .sendEvents(let peer, let id, let after, let count, let ended):
        let page = Array((events[id] ?? []).dropFirst(after))
        sent[peer, default: []].append(
          .events(run: id, first: after + 1, page, isEnd: ended && after + page.count >= count))
      case .sendStatus(let peer): sent[peer, default: []].append(.status(coordinator.status(at: now)))
      case .sendDetails(let peer, let id):
        if let details = coordinator.details(of: id) { sent[peer, default: []].append(.described(details)) }
      case .log(let line), .complain(let line): log.append(line)
      case .commit(let run, let manifest, let folder): commits.append((run, manifest, folder))
      case .prove(let checkpoint, let mark): proofs.append((checkpoint, mark))
      case .prepareRun(let run, let submission, let again, _): preparations.append((run, submission, again))
      case .runCommand(_, let ending): endings.append(ending)
      case .completeMetrics, .takeFolder, .releaseFolder: break
      case .record(_, let event, _): records.append(event)
      }
    }
  }

  private mutating func keep(_ change: StoreChange) {
    switch change {
    case .run(let id, let record): stored[id] = record
    case .forget(let id): (stored[id], events[id]) = (nil, nil)
    case .event(let id, let number, let bytes):
      if number != (events[id]?.count ?? 0) + 1 {
        fatalError("event \(number) after \(events[id]?.count ?? 0) of \(id)")
      }
      events[id, default: []].append(try! RecordCodec.decode(RunEvent.self, from: bytes))
    case .value(_, let value): counters = value
    }
  }

  /// kill -9 and a new process: all that it knows is in the store.
  mutating func restartCoordinator() {
    coordinator = Coordinator(seed: 2, patience: .seconds(10), program: "ress test")
    let records = stored.sorted { $0.key < $1.key }.map(\.value)
    run(try! coordinator.restore(records: records, counters: counters, at: now))
  }

  mutating func say(_ request: Request, from peer: PeerID) { step(.received(peer, request)) }

  /// The next report of a worker in its generation.
  mutating func report(_ report: Report, from peer: PeerID) {
    guard let generation = assignment(peer)?.generation else { return }
    let count = reported[peer].map { $0.generation == generation ? $0.count : 0 } ?? 0
    reported[peer] = (generation, count + 1)
    say(.report(generation: generation, number: count + 1, report), from: peer)
  }

  /// A heartbeat of a worker that does what it was told.
  func heartbeat(_ peer: PeerID) -> Heartbeat {
    var heartbeat = Heartbeat()
    for reply in sent[peer] ?? [] {
      switch reply {
      case .assigned(let assignment): heartbeat = Heartbeat(generation: assignment.generation)
      case .begin: heartbeat.hasBegun = true
      case .stop(let generation, _) where generation == heartbeat.generation: heartbeat = Heartbeat()
      default: break
      }
    }
    heartbeat.held = held[peer] ?? []
    return heartbeat
  }

  /// Time goes by; who is alive works on.
  mutating func wait(_ duration: Duration, alive: [PeerID] = []) {
    let end = now + duration
    var beat = 0
    while now < end {
      now = now + .milliseconds(250)
      beat += 1
      for peer in alive {
        var heartbeat = heartbeat(peer)
        heartbeat.progress = beat
        say(.heartbeat(heartbeat), from: peer)
      }
      step(.tick)
    }
  }

  mutating func join(_ name: String, fingerprint: String = "F", mpi: MPIPlace? = nil) -> PeerID {
    let peer = PeerID("peer-" + name)
    var worker = Cluster.worker(name, fingerprint: fingerprint)
    worker.mpi = mpi
    say(.hello(worker, Heartbeat()), from: peer)
    return peer
  }

  static func worker(_ name: String, fingerprint: String = "F") -> WorkerDescription {
    WorkerDescription(
      name: name, host: "host-" + name, process: 100 + name.utf8.count, dataAddress: "ipc:///" + name, threads: 1,
      fingerprint: fingerprint, program: "ress test")
  }

  static func submission(_ run: String = "run", workers: Int = 2, minimum: Int? = nil, steps: Int = 10) -> Submission {
    var configuration = RunConfiguration()
    configuration.run = run
    configuration.cluster.workers = workers
    configuration.cluster.minimumWorkers = minimum ?? workers
    configuration.training.steps = steps
    configuration.data.path = "text.h5"
    // Tests of the choice set it; in the others it would only add a line.
    configuration.cluster.experts = .travel
    return Submission(configuration: configuration, resume: .no)
  }

  /// Submits, and answers for the disk.
  @discardableResult
  mutating func submit(_ submission: Submission = submission(), firstStep: Int = 0) -> RunID? {
    let before = preparations.count
    say(.submit(submission), from: Cluster.client)
    guard
      case .submitted(let run, let name, _)? = sent[Cluster.client]?.last(where: {
        if case .submitted = $0 { true } else { false }
      })
    else { return nil }
    if preparations.count > before { prepare(run, name, firstStep: firstStep) }
    return run
  }

  mutating func prepare(_ run: RunID, _ name: String, firstStep: Int = 0) {
    step(
      .prepared(
        run,
        .ready(
          .init(
            folder: "/runs/" + name, checkpoint: firstStep > 0 ? "/c" : nil, firstStep: firstStep, proof: nil, notes: []
          )))
    )
  }

  /// Workers, a submitted run, everyone ready.
  mutating func startRun(_ submission: Submission = submission()) -> (run: RunID, workers: [PeerID]) {
    let workers = (0..<submission.configuration.cluster.workers).map { join("w\($0)") }
    let run = submit(submission)!
    for worker in workers { report(.ready, from: worker) }
    return (run, workers)
  }

  func assignment(_ peer: PeerID) -> Assignment? {
    sent[peer]?.reversed().lazy.compactMap { if case .assigned(let assignment) = $0 { assignment } else { nil } }.first
  }

  func stops(_ peer: PeerID) -> [String] {
    (sent[peer] ?? []).compactMap { if case .stop(_, let reason) = $0 { reason } else { nil } }
  }

  func halts(_ peer: PeerID) -> [Bool] {
    (sent[peer] ?? []).compactMap { if case .halt(_, let saving, _) = $0 { saving } else { nil } }
  }

  func begins(_ peer: PeerID) -> Int { (sent[peer] ?? []).count { if case .begin = $0 { true } else { false } } }

  /// The states of the newest run, with their reasons.
  var story: [(RunState, String)] { story(of: preparations.last?.0 ?? events.keys.first!) }

  func story(of run: RunID) -> [(RunState, String)] {
    (events[run] ?? []).compactMap { if case .state(let state, let reason) = $0 { (state, reason) } else { nil } }
  }

  func said(_ run: RunID) -> [String] {
    (events[run] ?? []).compactMap { if case .said(let sentence) = $0 { sentence } else { nil } }
  }

  var refusals: [String] {
    (sent[Cluster.client] ?? []).compactMap { reply in
      if case .refused(let reason) = reply { reason } else { nil }
    }
  }
}

func record(_ step: Int, loss: Double = 2) -> StepRecord {
  StepRecord(
    step: step, loss: loss, task: loss, smooth: 0, balance: 1, routerZ: 1, gradientNorm: 1, learningRate: 1e-3,
    tokens: 10, seconds: 0.1, loads: [])
}
