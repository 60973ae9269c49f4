// The exchange of rows as one team of a worker sees it: the rows of its units go to the experts of other workers, and
// rows of others through the experts here.

import Kernels
import Model
import Training
import Wire

/// Results that a unit waits for, with the places in `into` where each peer's results belong.
struct ExpectedRows {
  var phase: DataPhase
  var site: ExpertSite
  var pieces: [Int: [ExpertPiece]]
  var into: Matrix
}

package final class TeamExchange: ExpertExchange {
  private unowned let exchange: PeerExchange
  private let team: Int
  private let experts: LocalExperts
  /// The two units under way of this team; nil where all experts are here.
  private let relay: Relay?

  init(_ exchange: PeerExchange, team: Int, _ experts: LocalExperts, _ relay: Relay?) {
    (self.exchange, self.team, self.experts, self.relay) = (exchange, team, experts, relay)
  }

  package func forward(_ site: ExpertSite, pieces: [ExpertPiece], rows: Matrix, into out: Matrix, keep: Bool) throws {
    let waits = expect(.combineForward, site, pieces, into: out)
    if waits { try request(keep ? .dispatchForward : .dispatchEvaluation, site, rows: rows, pieces) }
    experts.forward(site, pieces: mine(pieces), rows: rows, into: out, keep: keep)
    if waits { try collect(.combineForward) }
  }

  package func backward(_ site: ExpertSite, pieces: [ExpertPiece], dout: Matrix, into drows: Matrix) throws {
    let waits = expect(.combineBackward, site, pieces, into: drows)
    if waits { try request(.dispatchBackward, site, rows: dout, pieces) }
    experts.backward(site, pieces: mine(pieces), dout: dout, into: drows)
    if waits { try collect(.combineBackward) }
  }

  /// The places of this team's unit that has the turn, and of its other one.
  private var places: (own: Int, other: Int) {
    let lane = relay?.lane ?? 0, first = team * Relay.laneCount
    return (first + lane, first + Relay.laneCount - 1 - lane)
  }

  /// Notes where results belong, before any row is sent: another team may receive them while this one still computes.
  /// Returns whether there are any.
  private func expect(_ phase: DataPhase, _ site: ExpertSite, _ pieces: [ExpertPiece], into out: Matrix) -> Bool {
    let computers = exchange.computers
    var waiting: [Int: [ExpertPiece]] = [:]
    for piece in pieces where computers[piece.expert] != exchange.plan.index {
      waiting[computers[piece.expert], default: []].append(piece)
    }
    guard !waiting.isEmpty else { return false }
    let own = places.own, expected = ExpectedRows(phase: phase, site: site, pieces: waiting, into: out)
    exchange.lock.hold { exchange.expected[own] = expected }
    return true
  }

  private func mine(_ pieces: [ExpertPiece]) -> [ExpertPiece] {
    pieces.filter { exchange.computers[$0.expert] == exchange.plan.index }
  }

  /// Sends every peer the rows for its experts; rows for experts of which this worker has a copy stay here. The
  /// payload is a list of the row counts of all experts (Int32), then the rows (`RowEncoding`).
  private func request(_ phase: DataPhase, _ site: ExpertSite, rows: Matrix, _ pieces: [ExpertPiece]) throws {
    let expertCount = exchange.plan.expertOwners.count, encoding = exchange.encoding
    for peer in exchange.peers {
      let theirs = pieces.filter { exchange.computers[$0.expert] == peer }
      guard !theirs.isEmpty else { continue }
      let rowCount = theirs.reduce(0) { $0 + $1.rows.count }
      let payload = Payload(byteCount: 4 * expertCount + encoding.byteCount(rows: rowCount))
      let counts = payload.words
      counts.update(repeating: 0, count: expertCount)
      var place = UnsafeMutableRawPointer(counts + expertCount)
      for piece in theirs {
        counts[piece.expert] = Int32(piece.rows.count)
        place = encoding.write(rows.row(piece.rows.lowerBound), count: piece.rows.count, at: place)
      }
      try exchange.send(phase, DataSubject(site), rows: rowCount, payload, to: peer)
    }
  }

  /// Waits until the results of all rows for experts elsewhere are there. Meanwhile the team's other unit computes,
  /// and where that waits too, the team receives messages and serves others.
  private func collect(_ phase: DataPhase) throws {
    let (own, other) = places
    while true {
      switch try exchange.lock.hold({ try nextMove(own, other) }) {
      case .goOn: return
      case .pass: try relay!.pass()
      case .receive(let awaited): try receive(awaited, in: phase)
      case .lookAgain: continue
      }
    }
  }

  private enum Move {
    /// The rows are here.
    case goOn
    /// The team's other unit can compute.
    case pass
    /// Receive a message, for all teams that wait.
    case receive(awaited: [Int])
    /// A message has been processed.
    case lookAgain
  }

  /// What to do in a wait. Sleeps while another team receives. The calling thread holds the exchange's lock.
  private func nextMove(_ own: Int, _ other: Int) throws -> Move {
    if let failure = exchange.failure { throw failure }
    if exchange.expected[own]!.pieces.isEmpty {
      exchange.expected[own] = nil
      return .goOn
    }
    if let relay, relay.hasOther, exchange.expected[other]?.pieces.isEmpty ?? true { return .pass }
    if exchange.isReceiving {
      let begun = ContinuousClock.now
      experts.team.measure(.waiting) { exchange.lock.wait() }
      noteWait(begun.duration(to: .now).inSeconds)
      return .lookAgain
    }
    exchange.isReceiving = true
    let late = exchange.expected.reduce(into: Set<Int>()) { late, expected in
      if let expected { late.formUnion(expected.pieces.keys) }
    }
    return .receive(awaited: late.sorted())
  }

  /// Receives a message and processes it. While it is processed another team may receive, unless it has rows for which
  /// a team waits: that team must not begin to wait for a message when its last one is being processed here.
  private func receive(_ awaited: [Int], in phase: DataPhase) throws {
    let link = exchange.link
    do {
      let before = link.waitedSeconds
      let message = try experts.team.measure(.waiting) { try exchange.receive(awaited: awaited, in: phase) }
      // The calls below read the payload through pointers, which do not keep it alive.
      defer { withExtendedLifetime(message) {} }
      func process() throws {
        try exchange.process(ofUnit: message, from: try exchange.sender(of: message), experts)
      }
      func release() {
        exchange.lock.hold {
          noteWait(link.waitedSeconds - before)
          exchange.isReceiving = false
          exchange.lock.announce()
        }
      }
      switch message.header.phase {
      case .combineForward, .combineBackward:
        try process()
        release()
      default:
        release()
        try process()
      }
    } catch {
      exchange.lock.hold {
        exchange.isReceiving = false
        exchange.failure = exchange.failure ?? error
        exchange.lock.announce()
      }
      throw error
    }
  }

  /// Meanwhile the other teams may have computed. The calling thread holds the exchange's lock.
  private func noteWait(_ seconds: Double) { exchange.waited += seconds / Double(exchange.teams.count) }
}

extension PeerExchange {
  /// Results that a peer computed for this worker.
  func take(rows message: DataMessage, from sender: Int) throws {
    let found = lock.hold {
      expected.firstIndex { expected in
        guard let expected else { return false }
        return expected.phase == message.header.phase && DataSubject(expected.site) == message.header.subject
          && expected.pieces[sender] != nil
      }.map { (place: $0, rows: expected[$0]!) }
    }
    guard let found, let pieces = found.rows.pieces[sender] else {
      throw message.header.refusal("these rows were not requested")
    }
    let count = pieces.reduce(0) { $0 + $1.rows.count }
    guard message.payload.bytes.count == 4 * count * width else {
      throw message.header.refusal("\(count) rows were expected")
    }
    var place = message.payload.reals
    for piece in pieces {
      found.rows.into.row(piece.rows.lowerBound).update(from: place, count: piece.rows.count * width)
      place += piece.rows.count * width
    }
    lock.hold {
      expected[found.place]!.pieces[sender] = nil
      lock.announce()
    }
  }

  /// Computes this worker's experts for a peer's rows and sends the results back.
  /// - Parameter own: the experts for the threads that compute them.
  func answer(_ message: DataMessage, from sender: Int, _ own: LocalExperts) throws {
    let header = message.header
    guard let site = ExpertSite(header.subject) else { throw header.refusal("it has no site") }
    let experts = plan.expertOwners.count
    let rowCount = Int(header.rows)
    guard message.payload.bytes.count == 4 * experts + encoding.byteCount(rows: rowCount) else {
      throw header.refusal("wrong length")
    }
    var pieces: [ExpertPiece] = []
    ExpertPiece.split(UnsafeBufferPointer(start: message.payload.words, count: experts), into: &pieces)
    guard pieces.allSatisfy({ plan.computer(of: $0.expert, forUnitsOf: sender) == plan.index }),
      pieces.last?.rows.upperBound == rowCount
    else {
      throw header.refusal("rows for experts of another worker")
    }
    guard header.phase != .dispatchBackward || own.hasForward(site, rows: rowCount) else {
      throw header.refusal("\(rowCount) gradients for rows that this worker has not computed")
    }
    let reply = Payload(byteCount: 4 * rowCount * width)
    let out = Matrix(reply.reals, rows: rowCount, columns: width)
    let place = UnsafeMutableRawPointer(message.payload.words + experts)
    encoding.withRows(at: place, count: rowCount, pool: own.pool) { rows in
      if header.phase == .dispatchBackward {
        own.backward(site, pieces: pieces, dout: rows, into: out)
      } else {
        own.forward(site, pieces: pieces, rows: rows, into: out, keep: header.phase == .dispatchForward)
      }
    }
    try send(
      header.phase == .dispatchBackward ? .combineBackward : .combineForward, header.subject, rows: rowCount, reply,
      to: sender)
  }
}

extension DataSubject {
  init(_ site: ExpertSite) {
    self = .site(
      unit: site.unit, sequence: site.sequence, segment: site.segment, recurrence: site.recurrence)
  }
}

extension ExpertSite {
  init?(_ subject: DataSubject) {
    guard case .site(let unit, let sequence, let segment, let recurrence) = subject else { return nil }
    self.init(unit: unit, sequence: sequence, segment: segment, recurrence: recurrence)
  }
}
