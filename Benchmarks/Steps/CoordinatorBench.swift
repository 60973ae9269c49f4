// The time that the coordinator's decisions take with many workers, without network, store and disk: simulated workers
// join, a run is placed on all of them, they work, one dies, and a run that needs all of them waits. Times are those of
// one thread.

import Configuration
import Coordination
import Foundation
import Wire

struct CoordinatorBench {
  private var coordinator = Coordinator(seed: 1, patience: .seconds(10), program: "ress-bench")
  private var now = Instant(nanoseconds: 0)
  private var assignments: [PeerID: Assignment] = [:]
  private var begun: Set<PeerID> = []
  private var reported: [PeerID: Int] = [:]
  private var preparing: RunID?
  /// Bytes of the replies.
  private var sentBytes = 0

  static func run(_ arguments: BenchArguments) throws {
    let counts = arguments.text("--workers", "16,64,256,1000").split(separator: ",").compactMap { Int($0) }
    guard !counts.isEmpty, counts.allSatisfy({ (2...4096).contains($0) }) else {
      arguments.fail("--workers must be numbers from 2 to 4096, separated by commas")
    }
    print(
      "workers   join, µs each   placing, ms   to workers, MB   a step, ms   a second of heartbeats, ms   death, ms"
        + "   a second of waiting, ms")
    for count in counts {
      var bench = CoordinatorBench()
      print(try bench.measure(count))
    }
  }

  private mutating func measure(_ count: Int) throws -> String {
    let peers = (0..<count).map { PeerID("worker-\($0)") }
    let joining = milliseconds { bench in bench.join(peers) }
    let placing = try milliseconds { bench in try bench.place(on: peers, minimum: 2) }
    let placed = sentBytes
    let steps = 100
    let stepping = milliseconds { bench in
      for number in 1...steps {
        let record = StepRecord(
          step: number, loss: 1, task: 1, smooth: 0, balance: 0, routerZ: 0, gradientNorm: 1, learningRate: 0.008,
          tokens: 1024 * count, seconds: 1, loads: [Int](repeating: 100, count: count),
          busy: [Double](repeating: 1, count: count), sent: [Double](repeating: 1, count: count))
        bench.report(.stepDone(record), from: peers[0])
        bench.step(.tick)
      }
    }
    let beating = milliseconds { bench in bench.beat(peers) }
    let dying = milliseconds { bench in bench.lose(peers[count / 2]) }
    let waiting = try CoordinatorBench.wait(for: peers)
    return String(
      format: "%7d   %13.1f   %11.1f   %14.2f   %10.3f   %25.1f   %9.1f   %23.1f", count,
      joining * 1000 / Double(count), placing, Double(placed) / 1e6, stepping / Double(steps), beating, dying, waiting)
  }

  /// Milliseconds that a second of heartbeats takes while a run that has lost a worker waits for another one.
  private static func wait(for peers: [PeerID]) throws -> Double {
    var bench = CoordinatorBench()
    bench.join(peers)
    try bench.place(on: peers, minimum: peers.count)
    let lost = peers[peers.count / 2]
    bench.lose(lost)
    // The others have stopped, so that the run has only to wait.
    let rest = peers.filter { $0 != lost }
    bench.assignments = [:]
    bench.beat(rest)
    bench.prepare()
    return bench.milliseconds { bench in bench.beat(rest) }
  }

  private mutating func join(_ peers: [PeerID]) {
    for (index, peer) in peers.enumerated() {
      let worker = WorkerDescription(
        name: "w\(index)", host: "host-\(index)", process: index,
        dataAddress: "tcp://10.0.\(index / 250).\(index % 250):7000",
        threads: 1, fingerprint: "F", program: "ress-bench")
      step(.received(peer, .hello(worker, Heartbeat())))
    }
  }

  /// Submits a run for all workers, which are ready at once.
  private mutating func place(on peers: [PeerID], minimum: Int) throws {
    var configuration = RunConfiguration()
    configuration.run = "bench"
    configuration.data.path = "text.h5"
    configuration.model.experts = peers.count
    configuration.training.batchSequences = peers.count
    configuration.training.steps = 1000
    configuration.cluster.workers = peers.count
    configuration.cluster.minimumWorkers = minimum
    sentBytes = 0
    step(.received(PeerID("client"), .submit(Submission(configuration: configuration, resume: .no))))
    prepare()
    for peer in peers { report(.ready, from: peer) }
    guard begun.count == peers.count else { throw BenchError.notBegun(begun.count, of: peers.count) }
  }

  /// The run's folder has been examined, if the coordinator asked for it.
  private mutating func prepare() {
    guard let run = preparing else { return }
    preparing = nil
    step(
      .prepared(run, .ready(.init(folder: "/runs/bench", checkpoint: nil, firstStep: 0, proof: nil, notes: []))))
  }

  private mutating func lose(_ peer: PeerID) {
    step(.received(peer, .goodbye(reason: "it was ended")))
    step(.tick)
  }

  /// A second of a cluster's life: four heartbeats of each worker and ten ticks.
  private mutating func beat(_ peers: [PeerID]) {
    for _ in 0..<4 {
      now = now + .milliseconds(250)
      for peer in peers {
        var heartbeat = Heartbeat(generation: assignments[peer]?.generation ?? 0)
        heartbeat.hasBegun = true
        step(.received(peer, .heartbeat(heartbeat)))
      }
      step(.tick)
    }
    for _ in 0..<6 { step(.tick) }
  }

  private mutating func report(_ report: Report, from peer: PeerID) {
    guard let assignment = assignments[peer] else { return }
    reported[peer, default: 0] += 1
    step(.received(peer, .report(generation: assignment.generation, number: reported[peer]!, report)))
  }

  private mutating func step(_ event: Event) {
    for action in coordinator.step(event, at: now) {
      switch action {
      case .send(let peer, let reply):
        sentBytes += ControlCodec.encode(reply).count
        switch reply {
        case .assigned(let assignment):
          assignments[peer] = assignment
          reported[peer] = 0
        case .begin: begun.insert(peer)
        default: break
        }
      case .prepareRun(let run, _, _, _): preparing = run
      default: break
      }
    }
  }

  private enum BenchError: Error, CustomStringConvertible {
    case notBegun(Int, of: Int)

    var description: String {
      switch self {
      case .notBegun(let begun, let count): "only \(begun) of \(count) workers were told to begin"
      }
    }
  }

  /// Runs a part and returns its time.
  private mutating func milliseconds(_ part: (inout CoordinatorBench) throws -> Void) rethrows -> Double {
    let clock = ContinuousClock()
    let began = clock.now
    try part(&self)
    return (clock.now - began) / .milliseconds(1)
  }
}
