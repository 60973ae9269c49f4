// The coordinator's side of the exchange benchmark: lets the workers of one generation join, and sends them the
// messages that they need to begin. It decides nothing else.

import Configuration
import Foundation
import Transport
import Wire

final class BenchHost {
  private let port: ControlPort
  private let ranks: Int
  private let exchange: Exchange
  private let sharesMemory: Bool
  private var workers: [PeerID: WorkerDescription] = [:]
  private var order: [PeerID] = []
  private var ready = 0
  private var gone = 0

  init(_ arguments: BenchArguments) throws {
    ranks = Int(arguments.text("--ranks")) ?? 2
    sharesMemory = arguments.text("--shared-memory", "false") == "true"
    exchange = Exchange(rawValue: arguments.text("--exchange")) ?? .zeromq
    port = try ControlPort(
      listen: arguments.text("--address"), insecure: false, incarnation: UInt64.random(in: 1...UInt64.max),
      SocketContext())
  }

  func run() throws {
    while gone < ranks {
      port.wait(nil, timeoutMilliseconds: 20)
      let now = MonotonicClock.now
      port.receive(at: now) { peer, _, request in
        hear(request, from: peer, at: now)
      } unreadable: { _, error in
        FileHandle.standardError.write(Data("\(error)\n".utf8))
      }
      port.tick(at: now)
    }
    let deadline = MonotonicClock.now + .milliseconds(200)
    while !port.isIdle, MonotonicClock.now < deadline { port.tick(at: MonotonicClock.now) }
  }

  private func hear(_ request: Request, from peer: PeerID, at now: Instant) {
    switch request {
    case .hello(let worker, let heartbeat):
      if workers.updateValue(worker, forKey: peer) == nil { order.append(peer) }
      let welcome = Reply.welcome(
        worker: WorkerID(UInt32(order.count)), patienceSeconds: 60, asked: heartbeat.generation,
        keep: heartbeat.generation, noted: 0)
      port.send(welcome, to: peer, at: now)
      if order.count == ranks { assign(at: now) }
    case .heartbeat(let heartbeat): port.send(.alive(generation: heartbeat.generation, noted: 0), to: peer, at: now)
    case .report(_, _, .ready):
      ready += 1
      if ready == ranks { for peer in order { port.send(.begin(generation: 1, leftOut: 0), to: peer, at: now) } }
    case .report(_, _, let report): FileHandle.standardError.write(Data("\(report)\n".utf8))
    case .goodbye: gone += 1
    case .submit, .follow, .change, .status, .describe: break
    }
  }

  private func assign(at now: Instant) {
    var configuration = RunConfiguration()
    configuration.cluster.exchange = exchange
    configuration.cluster.sameMachine = sharesMemory ? .memory : .messages
    // Rank 0 is first; it prints the results.
    order.sort { (workers[$0]!.mpi?.rank ?? 0, workers[$0]!.name) < (workers[$1]!.mpi?.rank ?? 0, workers[$1]!.name) }
    let roster = order.enumerated().map { RosterEntry(worker: workers[$1]!, units: $0..<$0 + 1, experts: [$0]) }
    for (place, peer) in order.enumerated() {
      let assignment = Assignment(
        run: RunID(1), generation: 1, configuration: configuration, roster: roster, index: place, threads: 1,
        start: .fresh, firstStep: 0, folder: "")
      port.send(.assigned(assignment), to: peer, at: now)
    }
  }
}
