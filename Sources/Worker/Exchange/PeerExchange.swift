// Exchanges rows of experts and gradients with the other workers of a generation: the implementation of
// `ExpertExchange` (Model) and `GradientExchange` (Training) over messages between peers.
//
// The work is divided into rounds; a training step, an evaluation and an audit are one round each. All workers
// count the same rounds, and every message carries its round's number. Within a round there is no barrier. A worker
// computes its own units, and whenever it has to wait it serves the others (`serve`): it puts their rows through
// its experts and returns the results, and it records their reports and sums. The round ends for a worker when it
// has the reports of all units. Messages of the next round wait (`RoundInbox`).
//
// The order in which requests arrive depends on chance but does not affect any number: activations are stored by
// site, gradients by unit, and sums are formed in the order of the units' tree (`UnitTree`).
//
// While units are computed, each team of the worker uses the exchange through a `TeamExchange` of its own, and several
// may wait at the same time. One of the waiting teams receives messages, for all of them; each team computes the
// requests that it has received itself, with its own threads. Before and after, the training thread alone uses the
// exchange.
//
// Rows are in TeamExchange.swift, sums and parameters in PeerExchange+Gradients.swift, the measurement of the
// connections in PeerExchange+Probe.swift.

import Kernels
import Model
import Training
import Wire

/// The exchange of one worker with all others of its generation.
package final class PeerExchange {
  let held: HeldModel
  let peers: [Int]
  let pool = BufferPool()
  let link: any PeerLink
  private var inbox: RoundInbox
  var round = Round(number: 0, step: 0, purpose: .training, unitCount: 0)
  /// The report of each unit of the round, nil until it arrives.
  var reported: [UnitReport?] = []
  /// For each part of the dense parameters that this worker updates, the tree of the gradients' sums.
  var denseTrees: [UnitTree<GradientSum>] = []
  /// The total of the gradients of the dense parameters that this worker updates.
  var denseTotal: PooledBuffer?
  /// Sums of squares of gradients by worker.
  var squares: [Int: [Double]] = [:]
  /// The parts of the dense parameters that have arrived, by the worker that updated them.
  var updatedParts: [Int: Set<Int>] = [:]
  /// The parts of experts copied here whose updated parameters have arrived.
  var updatedCopies: Set<ExpertPart> = []
  /// The worker that computes each expert for this worker's units.
  let computers: [Int]
  /// Held for everything below that teams use at the same time, and for `send`; announced when a message is processed.
  let lock = Lock()
  /// The rows that the units under way wait for, by place; nil for a unit that does not wait.
  var expected: [ExpectedRows?] = []
  /// Whether a team is receiving, for all teams that wait.
  var isReceiving = false
  /// The first error of a team, which ends the waits of the others.
  var failure: (any Error)?
  /// Seconds of waits, divided by the number of teams where only one of them waited.
  var waited = 0.0
  /// By team.
  package private(set) var teams: [TeamExchange] = []
  /// Each team has two units under way where rows travel; empty where all experts are here.
  package let relays: [Relay]
  /// Answers to measurements of a connection that have arrived in the round.
  var echoes = 0
  /// The last note of each worker of the roster: busy times and wishes to stop, which travel with the norms.
  package internal(set) var notes: [StepNote]
  package internal(set) var sentBytes = 0
  /// Whether all workers try to use a board, which they decide alike; this worker's part of it until they have agreed;
  /// and the board, where they use it.
  let usesBoardIfPossible: Bool
  var offered: Board?
  package internal(set) var board: Board?
  /// Number of sums of squares that each worker sends.
  let normCount: Int

  var plan: WorkPlan { held.plan }
  var width: Int { held.sizes.width }
  var encoding: RowEncoding { RowEncoding(held.sizes.model) }
  package var waitedSeconds: Double { waited }

  /// - Parameter sharing: the workers as members of a board, where all of them try to use one, and this worker's
  ///   memory.
  package init(_ held: HeldModel, _ link: any PeerLink, sharing: BoardOffer? = nil) {
    self.held = held
    self.link = link
    inbox = RoundInbox(link)
    let normCount = Optimizer.chunkCount(held.layout)
    self.normCount = normCount
    usesBoardIfPossible = sharing != nil
    offered = sharing.flatMap { offer in
      offer.memory.flatMap { Board(offer.members, held, norms: normCount, in: $0, mostBytes: offer.mostBytes) }
    }
    notes = Array(repeating: StepNote(), count: held.plan.workerCount)
    peers = (0..<held.plan.workerCount).filter { $0 != held.plan.index }
    computers = held.plan.expertOwners.indices.map {
      held.plan.computer(of: $0, forUnitsOf: held.plan.index)
    }
    relays =
      computers.allSatisfy { $0 == held.plan.index } ? [] : held.division.teams.map { Relay($0) }
    expected = Array(repeating: nil, count: held.division.teams.count * Relay.laneCount)
    teams = held.division.teams.indices.map {
      TeamExchange(self, team: $0, held.teamExperts[$0], relays.isEmpty ? nil : relays[$0])
    }
  }

  package func begin(_ round: Round) throws {
    self.round = round
    inbox.round = UInt64(round.number)
    reported = Array(repeating: nil, count: round.unitCount)
    denseTrees = parts(of: plan.index).map { _ in UnitTree(unitCount: round.unitCount) }
    squares = [:]
    updatedParts = [:]
    updatedCopies = []
    echoes = 0
    for place in expected.indices { expected[place] = nil }
    failure = nil
  }

  func send(_ phase: DataPhase, _ subject: DataSubject, rows: Int, _ payload: Payload, to peer: Int) throws {
    var header = DataHeader(phase: phase, sender: plan.index, subject)
    header.round = UInt64(round.number)
    header.rows = UInt32(rows)
    header.columns = UInt32(width)
    try lock.hold {
      if round.purpose == .training { sentBytes += DataHeader.byteCount + payload.bytes.count }
      try link.send(DataMessage(header: header, payload: payload), to: peer)
    }
  }

  /// Receives one message of this round. One thread at a time may call it.
  func receive(awaited: [Int], in phase: DataPhase) throws -> DataMessage {
    try inbox.next(awaited: awaited, in: phase)
  }

  /// Receives one message of this round and processes it, while no team computes units.
  func serve(awaited: [Int], in phase: DataPhase) throws {
    let before = link.waitedSeconds
    let message = try held.team.measure(.waiting) { try receive(awaited: awaited, in: phase) }
    waited += link.waitedSeconds - before
    // The calls below read the payload through pointers, which do not keep it alive.
    defer { withExtendedLifetime(message) {} }
    let header = message.header
    let sender = try sender(of: message)
    switch (header.phase, header.subject) {
    case (.gradient, .node(let level, let index, let part)):
      try take(sum: message, UnitNode(level: level, index: index), part: part)
    case (.expertGradient, .expertNode(let level, let index, let expert, let part)):
      try take(
        sum: message, UnitNode(level: level, index: index), of: ExpertPart(expert: expert, part: part), from: sender)
    case (.expertParameters, .expertPart(let expert, let part)):
      try take(parameters: message, of: ExpertPart(expert: expert, part: part), from: sender)
    case (.probe, _): try send(.echo, .step, rows: 0, message.payload, to: sender)
    case (.echo, _): echoes += 1
    case (.norms, _): try take(norms: message, from: sender)
    case (.parameters, .part(let part)): try take(parameters: message, part: part, from: sender)
    default: try process(ofUnit: message, from: sender, held.experts)
    }
  }

  /// Processes a message of the kinds that arrive while teams compute units.
  /// - Parameter experts: those of the team that has received it.
  func process(ofUnit message: DataMessage, from sender: Int, _ experts: LocalExperts) throws {
    switch (message.header.phase, message.header.subject) {
    case (.dispatchForward, .site), (.dispatchEvaluation, .site), (.dispatchBackward, .site):
      try answer(message, from: sender, experts)
    case (.combineForward, .site), (.combineBackward, .site): try take(rows: message, from: sender)
    case (.unitFinished, .unit(let unit)):
      try take(report: message, of: unit, from: sender, UnitEnd(team: experts.team))
    default: throw message.header.refusal("it is not part of a step")
    }
  }

  func sender(of message: DataMessage) throws -> Int {
    let sender = Int(message.header.sender)
    guard sender != plan.index, sender < plan.workerCount else { throw message.header.refusal("no such sender") }
    return sender
  }
}

extension Exchanges {
  /// The exchanges of a worker with its peers.
  package static func withPeers(
    of held: HeldModel, over link: any PeerLink, sharing: BoardOffer? = nil
  ) -> Exchanges {
    let exchange = PeerExchange(held, link, sharing: sharing)
    return Exchanges(exchange, experts: exchange.teams, relays: exchange.relays)
  }
}
