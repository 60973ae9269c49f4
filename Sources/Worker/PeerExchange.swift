// Exchanges rows of experts and gradients with the other workers of a generation: the implementation of
// `ExpertExchange` (Model) and `GradientExchange` (Training) over messages between peers.
//
// The work is divided into rounds; a training step, an evaluation and an audit are one round each. All workers
// count the same rounds, and every message carries its round's number. Within a round there is no barrier. A worker
// computes its own units, and whenever it has to wait it serves the others (`serve`): it puts their rows through
// its experts and returns the results, and it records their reports and sums. The round ends for a worker when it
// has the reports of all units.
//
// Early messages: a faster peer may already send messages of the next round. They are kept (`early`) until this
// worker begins that round, because its experts still have the weights of the current one.
//
// The order in which requests arrive depends on chance but does not affect any number: activations are stored by
// site, gradients by unit, and sums are formed in the order of the units' tree (`UnitTree`).
//
// Fields of a header by phase. Rows and unit reports use unit, sequence, segment and recurrence as their names say.
// A gradient sum has the index of its tree node in `unit` and its level in `segment`. Norms and parameters belong
// to the whole step and have zeros.

import Configuration
import Kernels
import Model
import Training
import Wire

/// A worker's connection to its peers in one generation. It delivers each message once and in order, or throws an
/// error.
package protocol PeerLink: AnyObject {
  func send(_ message: DataMessage, to worker: Int) throws
  /// Blocks until a message arrives, of any phase. Throws when the generation is stopped. `awaited` (roster
  /// indices) and `phase` tell for what this worker waits; they are shown to users when the wait is long.
  func receive(awaited: [Int], in phase: DataPhase) throws -> DataMessage
}

/// A peer has sent a message that does not fit the round's state.
package enum ExchangeError: Error, Equatable, CustomStringConvertible {
  case unexpectedMessage(phase: String, sender: Int, detail: String)

  package var description: String {
    switch self {
    case .unexpectedMessage(let phase, let sender, let detail):
      "worker \(sender) of the roster sent a '\(phase)' message that does not fit: \(detail); "
        + "all workers of a run must be of one version"
    }
  }
}

/// The exchange of one worker with all others of its generation. Only the training thread uses it.
package final class PeerExchange: ExpertExchange, GradientExchange {
  private let plan: WorkPlan
  private let link: any PeerLink
  private let experts: LocalExperts
  private let expertGradients: ExpertGradients
  private let sizes: Sizes
  private var width: Int { sizes.width }
  private let pool = BufferPool()
  private let peers: [Int]
  private var round = Round(number: 0, step: 0, purpose: .training, unitCount: 0)
  /// Messages of rounds that have not begun here, in order of arrival.
  private var early: [DataMessage] = []
  /// The report of each unit of the round, nil until it arrives.
  private var reported: [UnitReport?] = []
  /// The tree of gradient sums of the dense parameters that this worker owns (updates).
  private var denseTree = UnitTree<PooledBuffer>(unitCount: 1)
  /// Sums of squares of gradients by worker.
  private var squares: [Int: [Double]] = [:]
  /// The last note of each worker of the roster: busy times and wishes to stop, which travel with the norms.
  package private(set) var notes: [StepNote]
  /// Bytes of payloads and headers sent in training rounds.
  package private(set) var sentBytes = 0
  /// Number of sums of squares that each worker sends.
  private let norms: Int
  /// Updated parameters by sender. A peer that has all norms sends them while this worker may still wait for other
  /// norms.
  private var updates: [Int: Payload] = [:]
  /// The rows that this worker waits for, with the places in `into` where each peer's results belong.
  private var expected: (phase: DataPhase, site: ExpertSite, rows: [Int: [ExpertPiece]], into: Matrix)?

  package init(
    plan: WorkPlan, link: any PeerLink, experts: LocalExperts, expertGradients: ExpertGradients, sizes: Sizes,
    norms: Int
  ) {
    self.plan = plan
    self.link = link
    self.experts = experts
    self.expertGradients = expertGradients
    self.sizes = sizes
    self.norms = norms
    notes = Array(repeating: StepNote(), count: plan.workerCount)
    peers = (0..<plan.workerCount).filter { $0 != plan.index }
  }

  // MARK: experts

  package func forward(_ site: ExpertSite, pieces: [ExpertPiece], rows: Matrix, into out: Matrix, keep: Bool) throws {
    try request(keep ? .dispatchForward : .dispatchEvaluation, site, rows: rows, pieces)
    experts.forward(site, pieces: mine(pieces), rows: rows, into: out, keep: keep)
    try collect(.combineForward, site, pieces, into: out)
  }

  package func backward(_ site: ExpertSite, pieces: [ExpertPiece], dout: Matrix, into drows: Matrix) throws {
    try request(.dispatchBackward, site, rows: dout, pieces)
    experts.backward(site, pieces: mine(pieces), dout: dout, into: drows)
    try collect(.combineBackward, site, pieces, into: drows)
  }

  private func mine(_ pieces: [ExpertPiece]) -> [ExpertPiece] {
    pieces.filter { plan.expertOwners[$0.expert] == plan.index }
  }

  /// Sends every peer the rows for its experts. The payload is a list of the row counts of all experts (Int32),
  /// then the rows.
  private func request(_ phase: DataPhase, _ site: ExpertSite, rows: Matrix, _ pieces: [ExpertPiece]) throws {
    let expertCount = plan.expertOwners.count
    for peer in peers {
      let theirs = pieces.filter { plan.expertOwners[$0.expert] == peer }
      guard !theirs.isEmpty else { continue }
      let rowCount = theirs.reduce(0) { $0 + $1.rows.count }
      let payload = Payload(byteCount: 4 * (expertCount + rowCount * width))
      let header = payload.bytes.baseAddress!.assumingMemoryBound(to: Int32.self)
      header.update(repeating: 0, count: expertCount)
      var place = (header + expertCount).withMemoryRebound(to: Real.self, capacity: rowCount * width) { $0 }
      for piece in theirs {
        header[piece.expert] = Int32(piece.rows.count)
        place.update(from: rows.row(piece.rows.lowerBound), count: piece.rows.count * width)
        place += piece.rows.count * width
      }
      try send(phase, site, rows: rowCount, payload, to: peer)
    }
  }

  /// Waits until the results of all rows for experts elsewhere are in `out`, and serves other workers meanwhile.
  private func collect(_ phase: DataPhase, _ site: ExpertSite, _ pieces: [ExpertPiece], into out: Matrix) throws {
    var waiting: [Int: [ExpertPiece]] = [:]
    for piece in pieces where plan.expertOwners[piece.expert] != plan.index {
      waiting[plan.expertOwners[piece.expert], default: []].append(piece)
    }
    expected = (phase, site, waiting, out)
    while let rows = expected?.rows, !rows.isEmpty { try serve(awaited: rows.keys.sorted(), in: phase) }
    expected = nil
  }

  // MARK: gradients

  package func begin(_ round: Round) throws {
    self.round = round
    reported = Array(repeating: nil, count: round.unitCount)
    for (_, buffer) in denseTree.pending { buffer.map(pool.give) }
    denseTree.begin(unitCount: round.unitCount)
    squares = [:]
    updates = [:]
  }

  package func finish(unit: Int, _ report: UnitReport) throws {
    let payload = Payload(byteCount: 8 * (LossSums.numberCount + report.routing.numberCount))
    payload.bytes.withMemoryRebound(to: Double.self) { values in
      for (index, value) in (report.losses.numbers + report.routing.numbers).enumerated() {
        values[index] = value
      }
    }
    let site = ExpertSite(unit: unit, sequence: 0, segment: 0, recurrence: 0)
    for peer in peers { try send(.unitFinished, site, rows: 0, payload, to: peer) }
    note(unit: unit, report)
  }

  private func note(unit: Int, _ report: UnitReport) {
    reported[unit] = report
    switch round.purpose {
    case .training: expertGradients.close(unit: unit)
    case .audit: expertGradients.discard(unit: unit)
    case .evaluation: break
    }
  }

  package func reports() throws -> [UnitReport] {
    while reported.contains(where: { $0 == nil }) {
      // In an audit, which worker computes a unit depends on which opinion is asked for, so all peers are named.
      let units: [Range<Int>]? =
        switch round.purpose {
        case .training: plan.units
        case .evaluation: evenShares(of: round.unitCount, among: plan.workerCount)
        case .audit: nil
        }
      let late = units.map { units in peers.filter { units[$0].contains { reported[$0] == nil } } } ?? peers
      try serve(awaited: late, in: .unitFinished)
    }
    return reported.map { $0! }
  }

  package func reduce(_ sums: [(node: UnitNode, value: PooledBuffer?)]) throws -> RealPointer {
    for peer in peers {
      let part = plan.denseRanges[peer]
      for (node, value) in sums {
        guard let values = value else { continue }
        let payload = Payload(copying: values.pointer + part.lowerBound, count: part.count)
        let site = ExpertSite(unit: node.index, sequence: 0, segment: node.level, recurrence: 0)
        try send(.gradient, site, rows: 1, payload, to: peer)
      }
    }
    for (node, value) in sums { if let value { add(value.pointer + plan.myDense.lowerBound, at: node) } }
    while !denseTree.isComplete { try serve(awaited: peers, in: .gradient) }
    return denseTree.total!.pointer
  }

  /// Inserts a copy of a subtree's sum. The tree adds siblings in a fixed order, so that the total does not depend
  /// on arrival order.
  private func add(_ values: RealPointer, at node: UnitNode) {
    let count = plan.myDense.count
    let buffer = pool.take(count)
    buffer.pointer.update(from: values, count: count)
    denseTree.insert(buffer, at: node) { left, right in
      left.add(right, count: count)
      pool.give(right)
      return left
    }
  }

  package func gather(_ mine: [Double], _ note: StepNote) throws -> [Double] {
    let numbers = mine + note.encoded
    let payload = Payload(byteCount: 8 * numbers.count)
    numbers.withUnsafeBytes { payload.bytes.copyMemory(from: $0) }
    for peer in peers { try send(.norms, .wholeStep, rows: 1, payload, to: peer) }
    squares[plan.index] = mine
    notes[plan.index] = note
    while squares.count < plan.workerCount {
      try serve(awaited: peers.filter { squares[$0] == nil }, in: .norms)
    }
    var total = mine
    for peer in peers { for index in total.indices { total[index] += squares[peer]![index] } }
    return total
  }

  /// Sends the parameters that this worker updated, and waits for those of all others.
  package func share(_ parameters: ParameterBuffer) throws {
    let part = plan.myDense
    let payload = Payload(copying: parameters.dense + part.lowerBound, count: part.count)
    for peer in peers { try send(.parameters, .wholeStep, rows: 1, payload, to: peer) }
    for peer in peers {
      while updates[peer] == nil { try serve(awaited: peers.filter { updates[$0] == nil }, in: .parameters) }
      let theirs = plan.denseRanges[peer]
      (parameters.dense + theirs.lowerBound).update(from: updates[peer]!.reals, count: theirs.count)
    }
    updates = [:]
  }

  // MARK: messages

  private func send(_ phase: DataPhase, _ site: ExpertSite, rows: Int, _ payload: Payload, to peer: Int) throws {
    var header = DataHeader(phase: phase, sender: plan.index)
    header.round = UInt64(round.number)
    header.unit = UInt32(site.unit)
    header.sequence = UInt32(site.sequence)
    header.segment = UInt32(site.segment)
    header.recurrence = UInt16(site.recurrence)
    header.rows = UInt32(rows)
    header.columns = UInt32(width)
    if round.purpose == .training { sentBytes += DataHeader.byteCount + payload.bytes.count }
    try link.send(DataMessage(header: header, payload: payload), to: peer)
  }

  /// Receives one message of this round and processes it.
  private func serve(awaited: [Int], in phase: DataPhase) throws {
    let message = try nextOfRound(awaited: awaited, in: phase)
    // The cases below read the payload through pointers, which do not keep it alive.
    defer { withExtendedLifetime(message) {} }
    let header = message.header
    let sender = Int(header.sender)
    let site = ExpertSite(
      unit: Int(header.unit), sequence: Int(header.sequence), segment: Int(header.segment),
      recurrence: Int(header.recurrence))
    func refuse(_ detail: String) -> ExchangeError {
      .unexpectedMessage(phase: header.phase.description, sender: sender, detail: detail)
    }
    guard sender != plan.index, sender < plan.workerCount else { throw refuse("no such sender") }
    switch header.phase {
    case .dispatchForward, .dispatchEvaluation, .dispatchBackward:
      try answer(message, site, refuse)
    case .combineForward, .combineBackward:
      guard var expected, expected.phase == header.phase, expected.site == site,
        let pieces = expected.rows.removeValue(forKey: sender)
      else { throw refuse("these rows were not requested") }
      var place = message.payload.reals
      let count = pieces.reduce(0) { $0 + $1.rows.count }
      guard message.payload.bytes.count == 4 * count * width else { throw refuse("\(count) rows were expected") }
      for piece in pieces {
        expected.into.row(piece.rows.lowerBound).update(from: place, count: piece.rows.count * width)
        place += piece.rows.count * width
      }
      self.expected = expected
    case .unitFinished:
      let values = message.payload.doubles
      var routing = Routing(sizes)
      guard site.unit < reported.count, reported[site.unit] == nil,
        round.purpose != .training || plan.units[sender].contains(site.unit),
        let losses = LossSums(values.prefix(LossSums.numberCount)),
        routing.take(values.dropFirst(LossSums.numberCount))
      else { throw refuse("a report of unit \(site.unit) with \(values.count) numbers") }
      note(unit: site.unit, UnitReport(losses: losses, routing: routing))
    case .gradient:
      guard message.payload.bytes.count == 4 * plan.myDense.count else { throw refuse("wrong length") }
      guard denseTree.accepts(UnitNode(level: site.segment, index: site.unit)) else {
        throw refuse("a sum that is not expected: node \(site.unit) of level \(site.segment)")
      }
      add(message.payload.reals, at: UnitNode(level: site.segment, index: site.unit))
    case .norms:
      let numbers = message.payload.doubles
      guard numbers.count >= norms, let note = StepNote(numbers[norms...]) else { throw refuse("wrong length") }
      squares[sender] = Array(numbers[..<norms])
      notes[sender] = note
    case .parameters:
      guard message.payload.bytes.count == 4 * plan.denseRanges[sender].count else { throw refuse("wrong length") }
      updates[sender] = message.payload
    case .state, .mirror, .mirrored: throw refuse("it is not part of a step")
    }
  }

  /// Computes this worker's experts for a peer's rows and sends the results back.
  private func answer(_ message: DataMessage, _ site: ExpertSite, _ refuse: (String) -> ExchangeError) throws {
    let header = message.header
    let experts = plan.expertOwners.count
    let rowCount = Int(header.rows)
    guard message.payload.bytes.count == 4 * (experts + rowCount * width) else { throw refuse("wrong length") }
    var pieces: [ExpertPiece] = []
    ExpertPiece.split(UnsafeBufferPointer(start: message.payload.words, count: experts), into: &pieces)
    guard pieces.allSatisfy({ plan.expertOwners[$0.expert] == plan.index }), pieces.last?.rows.upperBound == rowCount
    else {
      throw refuse("rows for experts of another worker")
    }
    guard header.phase != .dispatchBackward || self.experts.hasForward(site, rows: rowCount) else {
      throw refuse("\(rowCount) gradients for rows that this worker has not computed")
    }
    let rows = Matrix(message.payload.reals + experts, rows: rowCount, columns: width)
    let reply = Payload(byteCount: 4 * rowCount * width)
    let out = Matrix(reply.reals, rows: rowCount, columns: width)
    switch header.phase {
    case .dispatchBackward:
      self.experts.backward(site, pieces: pieces, dout: rows, into: out)
      try send(.combineBackward, site, rows: rowCount, reply, to: Int(header.sender))
    default:
      self.experts.forward(site, pieces: pieces, rows: rows, into: out, keep: header.phase == .dispatchForward)
      try send(.combineForward, site, rows: rowCount, reply, to: Int(header.sender))
    }
  }

  /// The next message of this round: an early one that was kept, or one from the link. Messages of later rounds are
  /// kept.
  private func nextOfRound(awaited: [Int], in phase: DataPhase) throws -> DataMessage {
    if let index = early.firstIndex(where: { $0.header.round == UInt64(round.number) }) {
      return early.remove(at: index)
    }
    while true {
      let message = try experts.team.measure(.waiting) { try link.receive(awaited: awaited, in: phase) }
      if message.header.round == UInt64(round.number) { return message }
      guard message.header.round > UInt64(round.number) else {
        throw ExchangeError.unexpectedMessage(
          phase: message.header.phase.description, sender: Int(message.header.sender),
          detail: "it belongs to round \(message.header.round), this is round \(round.number)")
      }
      early.append(message)
    }
  }
}

extension ExpertSite {
  /// The site in messages that belong to no unit.
  fileprivate static let wholeStep = ExpertSite(unit: 0, sequence: 0, segment: 0, recurrence: 0)
}
