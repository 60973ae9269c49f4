// The exchange of reports, sums of gradients, norms and updated parameters. A sum goes to the worker that owns (updates)
// the parameters, which completes the units' tree.

import Configuration
import Kernels
import Model
import Training
import Wire

extension PeerExchange: GradientExchange {
  // MARK: reports

  package func finish(unit: Int, _ report: UnitReport) throws {
    let payload = Payload(byteCount: 8 * (LossSums.numberCount + report.routing.numberCount))
    payload.bytes.withMemoryRebound(to: Double.self) { values in
      for (index, value) in (report.losses.numbers + report.routing.numbers).enumerated() {
        values[index] = value
      }
    }
    for peer in peers { try send(.unitFinished, .unit(unit), rows: 0, payload, to: peer) }
    note(unit: unit, report)
  }

  private func note(unit: Int, _ report: UnitReport) {
    reported[unit] = report
    switch round.purpose {
    case .training: held.expertGradients.close(unit: unit)
    case .audit: held.expertGradients.discard(unit: unit)
    case .evaluation: break
    }
  }

  func take(report message: DataMessage, of unit: Int, from sender: Int) throws {
    let values = message.payload.doubles
    var routing = Routing(held.sizes)
    guard unit < reported.count, reported[unit] == nil,
      round.purpose != .training || plan.units[sender].contains(unit),
      let losses = LossSums(values.prefix(LossSums.numberCount)),
      routing.take(values.dropFirst(LossSums.numberCount))
    else { throw message.header.refusal("a report of unit \(unit) with \(values.count) numbers") }
    note(unit: unit, UnitReport(losses: losses, routing: routing))
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

  // MARK: sums

  package func reduce(_ sums: [(node: UnitNode, value: PooledBuffer?)]) throws -> RealPointer {
    for peer in peers {
      let part = plan.denseRanges[peer]
      for (node, value) in sums {
        guard let values = value else { continue }
        let payload = Payload(copying: values.pointer + part.lowerBound, count: part.count)
        try send(.gradient, .node(level: node.level, index: node.index), rows: 1, payload, to: peer)
      }
    }
    for (node, value) in sums { if let value { add(value.pointer + plan.myDense.lowerBound, at: node) } }
    while !denseTree.isComplete { try serve(awaited: peers, in: .gradient) }
    return denseTree.total!.pointer
  }

  func take(sum message: DataMessage, _ node: UnitNode) throws {
    guard message.payload.bytes.count == 4 * plan.myDense.count else { throw message.header.refusal("wrong length") }
    guard denseTree.accepts(node) else {
      throw message.header.refusal("a sum that is not expected: node \(node.index) of level \(node.level)")
    }
    add(message.payload.reals, at: node)
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

  // MARK: norms

  package func gather(_ mine: [Double], _ note: StepNote) throws -> [Double] {
    let numbers = mine + note.encoded
    let payload = Payload(byteCount: 8 * numbers.count)
    numbers.withUnsafeBytes { payload.bytes.copyMemory(from: $0) }
    for peer in peers { try send(.norms, .step, rows: 1, payload, to: peer) }
    squares[plan.index] = mine
    notes[plan.index] = note
    while squares.count < plan.workerCount {
      try serve(awaited: peers.filter { squares[$0] == nil }, in: .norms)
    }
    var total = mine
    for peer in peers { for index in total.indices { total[index] += squares[peer]![index] } }
    return total
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
    let part = plan.myDense
    let payload = Payload(copying: parameters.dense + part.lowerBound, count: part.count)
    for peer in peers { try send(.parameters, .step, rows: 1, payload, to: peer) }
    for peer in peers {
      while updates[peer] == nil { try serve(awaited: peers.filter { updates[$0] == nil }, in: .parameters) }
      let theirs = plan.denseRanges[peer]
      (parameters.dense + theirs.lowerBound).update(from: updates[peer]!.reals, count: theirs.count)
    }
    updates = [:]
  }

  func take(parameters message: DataMessage, from sender: Int) throws {
    guard message.payload.bytes.count == 4 * plan.denseRanges[sender].count else {
      throw message.header.refusal("wrong length")
    }
    updates[sender] = message.payload
  }
}
