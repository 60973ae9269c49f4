// The exchange of rows: those of this worker's units go to the experts of other workers, and rows of others through
// the experts here.

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

extension PeerExchange: ExpertExchange {
  package func forward(_ site: ExpertSite, pieces: [ExpertPiece], rows: Matrix, into out: Matrix, keep: Bool) throws {
    try request(keep ? .dispatchForward : .dispatchEvaluation, site, rows: rows, pieces)
    held.experts.forward(site, pieces: mine(pieces), rows: rows, into: out, keep: keep)
    try collect(.combineForward, site, pieces, into: out)
  }

  package func backward(_ site: ExpertSite, pieces: [ExpertPiece], dout: Matrix, into drows: Matrix) throws {
    try request(.dispatchBackward, site, rows: dout, pieces)
    held.experts.backward(site, pieces: mine(pieces), dout: dout, into: drows)
    try collect(.combineBackward, site, pieces, into: drows)
  }

  private func mine(_ pieces: [ExpertPiece]) -> [ExpertPiece] {
    pieces.filter { computers[$0.expert] == plan.index }
  }

  /// Sends every peer the rows for its experts; rows for experts of which this worker has a copy stay here. The
  /// payload is a list of the row counts of all experts (Int32), then the rows.
  private func request(_ phase: DataPhase, _ site: ExpertSite, rows: Matrix, _ pieces: [ExpertPiece]) throws {
    let expertCount = plan.expertOwners.count
    for peer in peers {
      let theirs = pieces.filter { computers[$0.expert] == peer }
      guard !theirs.isEmpty else { continue }
      let rowCount = theirs.reduce(0) { $0 + $1.rows.count }
      let payload = Payload(byteCount: 4 * (expertCount + rowCount * width))
      let counts = payload.words
      counts.update(repeating: 0, count: expertCount)
      var place = payload.reals + expertCount
      for piece in theirs {
        counts[piece.expert] = Int32(piece.rows.count)
        place.update(from: rows.row(piece.rows.lowerBound), count: piece.rows.count * width)
        place += piece.rows.count * width
      }
      try send(phase, DataSubject(site), rows: rowCount, payload, to: peer)
    }
  }

  /// Waits until the results of all rows for experts elsewhere are in `out`. Meanwhile the other unit under way
  /// computes, and where that waits too, this worker serves others.
  private func collect(_ phase: DataPhase, _ site: ExpertSite, _ pieces: [ExpertPiece], into out: Matrix) throws {
    var waiting: [Int: [ExpertPiece]] = [:]
    for piece in pieces where computers[piece.expert] != plan.index {
      waiting[computers[piece.expert], default: []].append(piece)
    }
    guard !waiting.isEmpty else { return }
    let lane = relay?.lane ?? 0, other = Relay.laneCount - 1 - lane
    expected[lane] = ExpectedRows(phase: phase, site: site, pieces: waiting, into: out)
    while let pieces = expected[lane]?.pieces, !pieces.isEmpty {
      if let relay, relay.hasOther, expected[other]?.pieces.isEmpty ?? true {
        try relay.pass()
      } else {
        let late = Set(pieces.keys).union(expected[other]?.pieces.keys ?? [:].keys)
        try serve(awaited: late.sorted(), in: phase)
      }
    }
    expected[lane] = nil
  }

  /// Results that a peer computed for this worker.
  func take(rows message: DataMessage, from sender: Int) throws {
    let lane = expected.firstIndex { expected in
      guard let expected else { return false }
      return expected.phase == message.header.phase && DataSubject(expected.site) == message.header.subject
        && expected.pieces[sender] != nil
    }
    guard let lane, let expected = expected[lane], let pieces = expected.pieces[sender] else {
      throw message.header.refusal("these rows were not requested")
    }
    let count = pieces.reduce(0) { $0 + $1.rows.count }
    guard message.payload.bytes.count == 4 * count * width else {
      throw message.header.refusal("\(count) rows were expected")
    }
    var place = message.payload.reals
    for piece in pieces {
      expected.into.row(piece.rows.lowerBound).update(from: place, count: piece.rows.count * width)
      place += piece.rows.count * width
    }
    self.expected[lane]!.pieces[sender] = nil
  }

  /// Computes this worker's experts for a peer's rows and sends the results back.
  func answer(_ message: DataMessage, from sender: Int) throws {
    let header = message.header
    guard let site = ExpertSite(header.subject) else { throw header.refusal("it has no site") }
    let experts = plan.expertOwners.count
    let rowCount = Int(header.rows)
    guard message.payload.bytes.count == 4 * (experts + rowCount * width) else { throw header.refusal("wrong length") }
    var pieces: [ExpertPiece] = []
    ExpertPiece.split(UnsafeBufferPointer(start: message.payload.words, count: experts), into: &pieces)
    guard pieces.allSatisfy({ plan.computer(of: $0.expert, forUnitsOf: sender) == plan.index }),
      pieces.last?.rows.upperBound == rowCount
    else {
      throw header.refusal("rows for experts of another worker")
    }
    guard header.phase != .dispatchBackward || held.experts.hasForward(site, rows: rowCount) else {
      throw header.refusal("\(rowCount) gradients for rows that this worker has not computed")
    }
    let rows = Matrix(message.payload.reals + experts, rows: rowCount, columns: width)
    let reply = Payload(byteCount: 4 * rowCount * width)
    let out = Matrix(reply.reals, rows: rowCount, columns: width)
    if header.phase == .dispatchBackward {
      held.experts.backward(site, pieces: pieces, dout: rows, into: out)
      try send(.combineBackward, header.subject, rows: rowCount, reply, to: sender)
    } else {
      held.experts.forward(site, pieces: pieces, rows: rows, into: out, keep: header.phase == .dispatchForward)
      try send(.combineForward, header.subject, rows: rowCount, reply, to: sender)
    }
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
