// The steps of training over a board (`Board`), where all workers are on one machine and no rows travel. Everything
// else (evaluations, audits, measurements) goes in messages.
//
// Sums are inserted into the same trees as those that arrive in messages, so the results have the same bits.

import Kernels
import Model
import Training
import Wire

extension PeerExchange {
  /// All workers begin: they agree whether they use the board. They do where each of them can open the parts of all
  /// others.
  package func prepare(_ number: Int) throws {
    guard usesBoardIfPossible else { return }
    try begin(Round(number: number, step: 0, purpose: .probe, unitCount: 1))
    let isOpen = offered?.open() ?? false
    var note = StepNote()
    note.busy = isOpen ? 1 : 0
    _ = try gather(Array(repeating: 0, count: normCount), note)
    if notes.allSatisfy({ $0.busy == 1 }) { board = offered }
    offered = nil
  }

  package var sharesMemory: Bool { board != nil }

  /// Whether the round's reports, sums, norms and parameters are on the board.
  var activeBoard: Board? { round.purpose == .training ? board : nil }

  private func meet(_ board: Board, in phase: DataPhase) throws {
    let begun = ContinuousClock.now
    try held.team.measure(.waiting) {
      try board.meet { try link.look(awaited: $0, in: phase, since: begun) }
    }
    link.endLook()
    waited += begun.duration(to: .now).inSeconds
  }

  // MARK: reports

  func write(_ report: UnitReport, of unit: Int, on board: Board) {
    let place = board.report(unit - plan.myUnits.lowerBound, of: plan.index)
    let numbers = report.losses.numbers + report.routing.numbers
    for index in numbers.indices { place[index] = numbers[index] }
    lock.hold { sentBytes += 8 * numbers.count * peers.count }
  }

  /// Writes the sums of gradients of this worker's units: everything but what this worker itself updates.
  package func publish(_ sums: [(node: UnitNode, value: PooledBuffer?)]) throws {
    guard let board = activeBoard else { return }
    let layout = board.layouts[plan.index], own = plan.myDense, count = held.layout.denseCount
    precondition(sums.map(\.node) == layout.nodes, "sums of \(sums.map(\.node)), where \(layout.nodes) are expected")
    for (node, sum) in sums.enumerated() {
      let place = board.sum(node, of: plan.index), values = sum.value!.pointer
      copy(values, to: place, count: own.lowerBound)
      copy(values + own.upperBound, to: place + own.upperBound, count: count - own.upperBound)
      sentBytes += MemoryLayout<Real>.stride * (count - own.count)
    }
    for (place, expert) in layout.copies.enumerated() {
      for (part, range) in held.expertGradients.parts.enumerated() {
        for (node, sum) in held.expertGradients.sums(of: expert, part: part).enumerated() {
          precondition(sum.node == layout.nodes[node], "a sum of \(sum.node), where \(layout.nodes[node]) is expected")
          board.flag(node, ofCopy: place, of: plan.index).pointee = sum.value == nil ? 0 : 1
          guard let value = sum.value else { continue }
          copy(
            value.values, to: board.sum(node, ofCopy: place, of: plan.index) + range.lowerBound, count: range.count)
          sentBytes += MemoryLayout<Real>.stride * range.count
        }
      }
    }
  }

  private func copy(_ from: RealPointer, to: RealPointer, count: Int) {
    let tiles = Tiles(of: count, size: Team.addedTogether)
    held.team.run(tiles.count) { task, _ in
      let tile = tiles[task]
      (to + tile.lowerBound).update(from: from + tile.lowerBound, count: tile.count)
    }
  }

  func readReports(from board: Board) throws -> [UnitReport] {
    try meet(board, in: .unitFinished)
    for peer in peers {
      for unit in plan.units[peer] {
        let numbers = UnsafeBufferPointer(
          start: board.report(unit - plan.units[peer].lowerBound, of: peer), count: board.layouts[peer].reportCount)
        var report = UnitReport(held.sizes)
        guard let losses = LossSums(numbers.prefix(LossSums.numberCount)),
          report.routing.take(numbers.dropFirst(LossSums.numberCount))
        else { throw refusal(.unitFinished, from: peer, "a report of unit \(unit)") }
        report.losses = losses
        reported[unit] = report
      }
    }
    return reported.map { $0! }
  }

  private func refusal(_ phase: DataPhase, from peer: Int, _ detail: String) -> ExchangeError {
    .unexpectedMessage(phase: phase.description, sender: peer, detail: detail)
  }

  // MARK: sums, norms and parameters

  /// Inserts the sums of the others, which add up where they are.
  func addSums(from board: Board) {
    for peer in peers {
      for (node, at) in board.layouts[peer].nodes.enumerated() {
        for (part, range) in parts(of: plan.index).enumerated() {
          add(GradientSum(board.sum(node, of: peer) + range.lowerBound, keptBy: board), at: at, part)
        }
      }
    }
    for expert in plan.myExperts {
      for peer in plan.copyHolders(of: expert) {
        let layout = board.layouts[peer], copy = layout.copies.firstIndex(of: expert)!
        for (node, at) in layout.nodes.enumerated() {
          let exists = board.flag(node, ofCopy: copy, of: peer).pointee != 0
          let values = board.sum(node, ofCopy: copy, of: peer)
          for (part, range) in held.expertGradients.parts.enumerated() {
            let sum = exists ? GradientSum(values + range.lowerBound, keptBy: board) : nil
            let isTaken = held.expertGradients.take(sum, of: expert, part: part, at: at)
            precondition(isTaken, "the sum of worker \(peer) at \(at) for expert \(expert) is not expected")
          }
        }
      }
    }
    precondition(
      denseTrees.allSatisfy(\.isComplete) && held.expertGradients.areComplete, "sums are missing on the board")
  }

  /// Writes this worker's norms and note, and reads those of the others.
  func gather(_ mine: [Double], _ note: StepNote, on board: Board) throws {
    let numbers = mine + note.encoded
    precondition(numbers.count < board.layouts[plan.index].normCapacity, "a note of \(note.encoded.count) numbers")
    let place = board.norms(of: plan.index)
    place[0] = Double(numbers.count)
    for index in numbers.indices { place[1 + index] = numbers[index] }
    sentBytes += 8 * numbers.count * peers.count
    try meet(board, in: .norms)
    for peer in peers {
      let theirs = board.norms(of: peer), count = Int(theirs[0])
      guard (normCount...board.layouts[peer].normCapacity).contains(count),
        let note = StepNote(UnsafeBufferPointer(start: theirs + 1 + normCount, count: count - normCount))
      else { throw refusal(.norms, from: peer, "wrong length") }
      squares[peer] = Array(UnsafeBufferPointer(start: theirs + 1, count: normCount))
      notes[peer] = note
    }
  }

  func share(_ parameters: ParameterBuffer, on board: Board) throws {
    let layout = board.layouts[plan.index], own = plan.myDense, size = held.layout.expertCount
    copy(parameters.dense + own.lowerBound, to: board.parameters(of: plan.index), count: own.count)
    var values = own.count * peers.count
    for (place, expert) in layout.lent.enumerated() {
      copy(
        parameters.experts[expert]!, to: board.parameters(ofLent: place, of: plan.index, dense: own.count), count: size)
      values += size * plan.copyHolders(of: expert).count
    }
    sentBytes += MemoryLayout<Real>.stride * values
    try meet(board, in: .parameters)
    for peer in peers {
      let range = plan.denseRanges[peer]
      copy(board.parameters(of: peer), to: parameters.dense + range.lowerBound, count: range.count)
      for (place, expert) in board.layouts[peer].lent.enumerated() where plan.copies[plan.index].contains(expert) {
        copy(
          board.parameters(ofLent: place, of: peer, dense: range.count), to: parameters.experts[expert]!, count: size)
      }
    }
  }
}
