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
  var preparations: [(RunID, Submission)] = []
  var records: [RunEvent] = []

  static let client = PeerID("client")

  mutating func step(_ event: Event) {
    for action in coordinator.step(event, at: now) {
      switch action {
      case .send(let peer, let reply): sent[peer, default: []].append(reply)
      case .log(let line): log.append(line)
      case .commit(let run, let manifest, let folder): commits.append((run, manifest, folder))
      case .prepareRun(let run, let submission): preparations.append((run, submission))
      case .record(_, let event, _): records.append(event)
      }
    }
  }

  mutating func say(_ request: Request, from peer: PeerID) { step(.received(peer, request)) }

  mutating func wait(_ duration: Duration, alive: [PeerID] = []) {
    let end = now + duration
    while now < end {
      now = now + .milliseconds(250)
      for peer in alive { say(.heartbeat(Heartbeat()), from: peer) }
      step(.tick)
    }
  }

  mutating func join(_ name: String, fingerprint: String = "F") -> PeerID {
    let peer = PeerID("peer-" + name)
    say(.hello(Cluster.worker(name, fingerprint: fingerprint)), from: peer)
    return peer
  }

  static func worker(_ name: String, fingerprint: String = "F") -> WorkerDescription {
    WorkerDescription(
      name: name, host: "host-" + name, process: 100 + name.utf8.count, dataAddress: "ipc:///" + name, threads: 1,
      fingerprint: fingerprint, program: "ress test")
  }

  static func submission(_ run: String = "run", workers: Int = 2, steps: Int = 10) -> Submission {
    var configuration = RunConfiguration()
    configuration.run = run
    configuration.cluster.workers = workers
    configuration.training.steps = steps
    configuration.data.path = "text.h5"
    return Submission(configuration: configuration, resume: .no)
  }

  /// Submits, and answers for the disk.
  @discardableResult
  mutating func submit(_ submission: Submission = submission(), firstStep: Int = 0) -> RunID? {
    let before = preparations.count
    say(.submit(submission), from: Cluster.client)
    guard
      case .submitted(let run, let name)? = sent[Cluster.client]?.last(where: {
        if case .submitted = $0 { true } else { false }
      })
    else { return nil }
    say(.follow(run: run.description), from: Cluster.client)
    if preparations.count > before { prepare(run, name, firstStep: firstStep) }
    return run
  }

  mutating func prepare(_ run: RunID, _ name: String, firstStep: Int = 0) {
    step(.prepared(run, .ready(folder: "/runs/" + name, checkpoint: nil, firstStep: firstStep, notes: [])))
  }

  /// Two workers, a submitted run, everyone ready.
  mutating func startRun(_ submission: Submission = submission()) -> (run: RunID, workers: [PeerID]) {
    let workers = (0..<submission.configuration.cluster.workers).map { join("w\($0)") }
    let run = submit(submission)!
    for worker in workers { say(.ready(generation: assignment(worker)!.generation), from: worker) }
    return (run, workers)
  }

  func assignment(_ peer: PeerID) -> Assignment? {
    sent[peer]?.reversed().lazy.compactMap { if case .assigned(let assignment) = $0 { assignment } else { nil } }.first
  }

  func stops(_ peer: PeerID) -> [String] {
    (sent[peer] ?? []).compactMap { if case .stop(_, let reason) = $0 { reason } else { nil } }
  }

  func begins(_ peer: PeerID) -> Int { (sent[peer] ?? []).count { if case .begin = $0 { true } else { false } } }

  /// What the client was told of the run's states.
  var story: [(RunState, String)] {
    (sent[Cluster.client] ?? []).compactMap { reply in
      if case .event(.state(let state, let reason)) = reply { (state, reason) } else { nil }
    }
  }

  var refusals: [String] {
    (sent[Cluster.client] ?? []).compactMap { if case .refused(let reason) = $0 { reason } else { nil } }
  }
}

func record(_ step: Int, loss: Double = 2) -> StepRecord {
  StepRecord(
    step: step, loss: loss, task: loss, smooth: 0, balance: 1, routerZ: 1, gradientNorm: 1, learningRate: 1e-3,
    tokens: 10,
    seconds: 0.1, loads: [])
}
