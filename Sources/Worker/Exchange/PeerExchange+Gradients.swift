// The exchange of reports, sums of gradients, norms and updated parameters. A sum goes to the worker that owns
// (updates) the parameters, which completes the units' tree.

import Configuration
import Kernels
import Model
import Training
import Wire

/// A part of an expert's block (`ParameterLayout.expertParts`).
struct ExpertPart: Hashable {
  var expert: Int
  var part: Int
}

extension PeerExchange: GradientExchange {
  // MARK: reports

  package func finish(unit: Int, _ report: UnitReport, _ end: UnitEnd) throws {
    if let activeBoard {
      write(report, of: unit, on: activeBoard)
      return note(unit: unit, report, end)
    }
    let payload = Payload(byteCount: 8 * (LossSums.numberCount + report.routing.numberCount))
    payload.bytes.withMemoryRebound(to: Double.self) { values in
      for (index, value) in (report.losses.numbers + report.routing.numbers).enumerated() {
        values[index] = value
      }
    }
    for peer in peers { try send(.unitFinished, .unit(unit), rows: 0, payload, to: peer) }
    note(unit: unit, report, end)
  }

  private func note(unit: Int, _ report: UnitReport, _ end: UnitEnd) {
    lock.hold { reported[unit] = report }
    switch round.purpose {
    case .training: held.expertGradients.close(unit: unit, end)
    case .audit: held.expertGradients.discard(unit: unit)
    case .evaluation, .probe: break
    }
  }

  func take(report message: DataMessage, of unit: Int, from sender: Int, _ end: UnitEnd) throws {
    let values = message.payload.doubles
    var routing = Routing(held.sizes)
    guard lock.hold({ unit < reported.count && reported[unit] == nil }),
      round.purpose != .training || plan.units[sender].contains(unit),
      let losses = LossSums(values.prefix(LossSums.numberCount)),
      routing.take(values.dropFirst(LossSums.numberCount))
    else { throw message.header.refusal("a report of unit \(unit) with \(values.count) numbers") }
    note(unit: unit, UnitReport(losses: losses, routing: routing), end)
  }

  package func reports() throws -> [UnitReport] {
    if let activeBoard { return try readReports(from: activeBoard) }
    while reported.contains(where: { $0 == nil }) {
      // In an audit, which worker computes a unit depends on which opinion is asked for, so all peers are named.
      let units: [Range<Int>]? =
        switch round.purpose {
        case .training: plan.units
        case .evaluation: evenShares(of: round.unitCount, among: plan.workerCount)
        case .audit, .probe: nil
        }
      let late = units.map { units in peers.filter { units[$0].contains { reported[$0] == nil } } } ?? peers
      try serve(awaited: late, in: .unitFinished)
    }
    return reported.map { $0! }
  }

  // MARK: sums

  /// The dense parameters that a worker updates, in parts that fit a message.
  func parts(of worker: Int) -> [Range<Int>] { ShardLayout.messages(of: plan.denseRanges[worker]) }

  package func reduce(_ sums: [(node: UnitNode, value: PooledBuffer?)]) throws -> RealPointer {
    if activeBoard == nil { try send(sums) }
    // The caller keeps `sums`, and does not read them again: they are added where they are.
    for (part, range) in parts(of: plan.index).enumerated() {
      for (node, value) in sums {
        if let value { add(GradientSum(value.pointer + range.lowerBound, keptBy: nil), at: node, part) }
      }
    }
    if let activeBoard { addSums(from: activeBoard) }
    while denseTrees.contains(where: { !$0.isComplete }) { try serve(awaited: peers, in: .gradient) }
    while !held.expertGradients.areComplete { try serve(awaited: peers, in: .expertGradient) }
    let total = denseTotal ?? pool.take(plan.myDense.count)
    denseTotal = total
    for (part, range) in parts(of: plan.index).enumerated() {
      (total.pointer + range.lowerBound - plan.myDense.lowerBound).update(
        from: denseTrees[part].total!.values, count: range.count)
    }
    return total.pointer
  }

  /// Sends the sums of this worker's units to the workers that own the parameters.
  private func send(_ sums: [(node: UnitNode, value: PooledBuffer?)]) throws {
    for peer in peers {
      for (part, range) in parts(of: peer).enumerated() {
        for (node, value) in sums {
          guard let values = value else { continue }
          // The caller keeps the sums until it has the norms of all workers, who have received them by then.
          let payload = Payload(sharing: values.pointer + range.lowerBound, count: range.count, of: values)
          try send(.gradient, .node(level: node.level, index: node.index, part: part), rows: 1, payload, to: peer)
        }
      }
    }
    try sendSumsOfCopies()
  }

  /// Sends the owners of the experts that are copied here the sums of this worker's units.
  private func sendSumsOfCopies() throws {
    let parts = held.expertGradients.parts
    for expert in plan.copies[plan.index] {
      for (part, range) in parts.enumerated() {
        for (node, value) in held.expertGradients.sums(of: expert, part: part) {
          // Without a value all parts are without one, and the first message stands for all.
          if value == nil, part > 0 { continue }
          let payload = value.map { Payload(sharing: $0.values, count: range.count, of: $0.keeper!) }
          try send(
            .expertGradient, .expertNode(level: node.level, index: node.index, expert: expert, part: part),
            rows: value == nil ? 0 : 1, payload ?? Payload(byteCount: 0), to: plan.expertOwners[expert])
        }
      }
    }
  }

  func take(sum message: DataMessage, _ node: UnitNode, of place: ExpertPart, from sender: Int) throws {
    let count = message.payload.bytes.count, parts = held.expertGradients.parts
    let isEmpty = count == 0 && place.part == 0
    guard parts.indices.contains(place.part), isEmpty || count == 4 * parts[place.part].count else {
      throw message.header.refusal("wrong length")
    }
    let sum = isEmpty ? nil : GradientSum(message.payload.reals, keptBy: message.payload)
    guard plan.copies[sender].contains(place.expert), node.level < 32, plan.units[sender].lowerBound <= node.firstUnit,
      node.firstUnit < plan.units[sender].upperBound,
      (isEmpty ? parts.indices : place.part..<place.part + 1).allSatisfy({
        held.expertGradients.take(sum, of: place.expert, part: $0, at: node)
      })
    else {
      throw message.header.refusal(
        "a sum that is not expected: expert \(place.expert), node \(node.index) of level \(node.level)")
    }
  }

  func take(sum message: DataMessage, _ node: UnitNode, part: Int) throws {
    let own = parts(of: plan.index)
    guard own.indices.contains(part), message.payload.bytes.count == 4 * own[part].count else {
      throw message.header.refusal("wrong length")
    }
    guard denseTrees[part].accepts(node) else {
      throw message.header.refusal(
        "a sum that is not expected: part \(part), node \(node.index) of level \(node.level)")
    }
    add(GradientSum(message.payload.reals, keptBy: message.payload), at: node, part)
  }

  /// Inserts a subtree's sum. The tree adds siblings in a fixed order, so that the total does not depend on arrival
  /// order.
  func add(_ sum: GradientSum, at node: UnitNode, _ part: Int) {
    let count = parts(of: plan.index)[part].count
    denseTrees[part].insert(sum, at: node) { GradientSum.add($0, $1, count: count, held.team) { pool.give($0) } }
  }

  // MARK: norms

  package func gather(_ mine: [Double], _ note: StepNote) throws -> [Double] {
    squares[plan.index] = mine
    notes[plan.index] = note
    if let activeBoard { try gather(mine, note, on: activeBoard) } else { try send(norms: mine + note.encoded) }
    while squares.count < plan.workerCount {
      try serve(awaited: peers.filter { squares[$0] == nil }, in: .norms)
    }
    var total = mine
    for peer in peers {
      let theirs = squares[peer]!
      for index in total.indices { total[index] += theirs[index] }
    }
    return total
  }

  private func send(norms numbers: [Double]) throws {
    let payload = Payload(byteCount: 8 * numbers.count)
    numbers.withUnsafeBytes { payload.bytes.copyMemory(from: $0) }
    for peer in peers { try send(.norms, .step, rows: 1, payload, to: peer) }
  }

  func take(norms message: DataMessage, from sender: Int) throws {
    let numbers = message.payload.doubles
    guard squares[sender] == nil else { throw message.header.refusal("a second message of norms") }
    guard numbers.count >= normCount, let note = StepNote(numbers[normCount...]) else {
      throw message.header.refusal("wrong length")
    }
    squares[sender] = Array(numbers[..<normCount])
    notes[sender] = note
  }

  // MARK: parameters

  /// Sends the parameters that this worker updated, and waits for those of all others.
  package func share(_ parameters: ParameterBuffer) throws {
    if let activeBoard { return try share(parameters, on: activeBoard) }
    for (part, range) in parts(of: plan.index).enumerated() {
      // Copied, because the balancer changes the router's bias when this returns, perhaps before the message is sent.
      let payload = Payload(copying: parameters.dense + range.lowerBound, count: range.count)
      for peer in peers { try send(.parameters, .part(part), rows: 1, payload, to: peer) }
    }
    for expert in plan.myExperts {
      let holders = plan.copyHolders(of: expert)
      guard !holders.isEmpty else { continue }
      for (part, range) in held.expertGradients.parts.enumerated() {
        // They change in the next update, and all workers have received them before they send its norms.
        let payload = Payload(
          sharing: parameters.experts[expert]! + range.lowerBound, count: range.count, of: parameters)
        for holder in holders {
          try send(.expertParameters, .expertPart(expert: expert, part: part), rows: 1, payload, to: holder)
        }
      }
    }
    func isLate(_ peer: Int) -> Bool { updatedParts[peer, default: []].count < parts(of: peer).count }
    while peers.contains(where: isLate) { try serve(awaited: peers.filter(isLate), in: .parameters) }
    let copies = plan.copies[plan.index], count = held.expertGradients.parts.count
    while updatedCopies.count < copies.count * count {
      let late = copies.filter { expert in
        (0..<count).contains { !updatedCopies.contains(ExpertPart(expert: expert, part: $0)) }
      }
      try serve(awaited: Set(late.map { plan.expertOwners[$0] }).sorted(), in: .expertParameters)
    }
  }

  /// A part of the parameters of an expert that is copied here. They are written at once: their owner has everyone's
  /// norms, so every worker has computed all its units, and none of them reads the old values any more.
  func take(parameters message: DataMessage, of place: ExpertPart, from sender: Int) throws {
    let parts = held.expertGradients.parts
    guard parts.indices.contains(place.part), message.payload.bytes.count == 4 * parts[place.part].count else {
      throw message.header.refusal("wrong length")
    }
    guard plan.copies[plan.index].contains(place.expert), plan.expertOwners[place.expert] == sender,
      squares[sender] != nil, updatedCopies.insert(place).inserted
    else { throw message.header.refusal("parameters of expert \(place.expert), which is not expected") }
    (held.parameters.experts[place.expert]! + parts[place.part].lowerBound).update(
      from: message.payload.reals, count: parts[place.part].count)
  }

  /// A part of the dense parameters, which is written at once for the same reason.
  func take(parameters message: DataMessage, part: Int, from sender: Int) throws {
    let theirs = parts(of: sender)
    guard theirs.indices.contains(part), message.payload.bytes.count == 4 * theirs[part].count else {
      throw message.header.refusal("wrong length")
    }
    guard squares[sender] != nil, updatedParts[sender, default: []].insert(part).inserted else {
      throw message.header.refusal("part \(part), which is not expected")
    }
    (held.parameters.dense + theirs[part].lowerBound).update(from: message.payload.reals, count: theirs[part].count)
  }
}
