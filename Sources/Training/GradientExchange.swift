// What workers tell each other between the last unit of a step and the first of the next. One implementation is in this
// process and has nobody to talk to; the other (module Worker) sends over ZeroMQ.

import Kernels
import Model

/// What a unit tells everyone: its losses, and how its tokens were routed.
package typealias UnitReport = SequenceReport

/// A round is one pass of units through the model: a step's batch, or an evaluation. Rounds are numbered alike on all
/// workers.
package struct Round: Equatable, Sendable {
  /// An audit computes units of the next training round on other workers, and throws their gradients away.
  package enum Purpose: Equatable, Sendable { case training, evaluation, audit }
  package var number: Int
  package var step: Int
  package var purpose: Purpose
  package var unitCount: Int

  package init(number: Int, step: Int, purpose: Purpose, unitCount: Int) {
    self.number = number
    self.step = step
    self.purpose = purpose
    self.unitCount = unitCount
  }
}

package protocol GradientExchange: AnyObject {
  /// A round begins on this worker; peers may have begun it before.
  func begin(_ round: Round) throws

  /// A unit of this worker is done: no more of its rows will come to any expert.
  func finish(unit: Int, _ report: UnitReport) throws

  /// Waits for the units of all workers. Returns their reports, by unit.
  func reports() throws -> [UnitReport]

  /// From this worker's subtree sums over the dense parameters, and everyone else's: the total over the batch of the part
  /// that this worker owns, valid until the next round.
  func reduce(_ sums: [(node: UnitNode, value: PooledBuffer?)]) throws -> RealPointer

  /// Element-wise sum over workers; of each element all but one worker's are 0. With them goes a note, and everyone's notes
  /// are there, by worker, when it returns.
  func gather(_ squares: [Double], _ note: StepNote) throws -> [Double]
  var notes: [StepNote] { get }

  /// Sends this worker's part of the dense parameters to all, and takes theirs.
  func share(_ parameters: ParameterBuffer) throws
}

/// One worker: nothing to exchange.
package final class LocalGradientExchange: GradientExchange {
  private let expertGradients: ExpertGradients
  private let sizes: Sizes
  private var round = Round(number: 0, step: 0, purpose: .training, unitCount: 0)
  private var finished: [UnitReport] = []
  package private(set) var notes = [StepNote()]

  package init(_ expertGradients: ExpertGradients, _ sizes: Sizes) {
    self.expertGradients = expertGradients
    self.sizes = sizes
  }

  package func begin(_ round: Round) {
    self.round = round
    if finished.count != round.unitCount {
      // One by one: copies of one report would share its memory, and take their own at the first unit.
      finished = (0..<round.unitCount).map { _ in UnitReport(sizes) }
    }
  }

  package func finish(unit: Int, _ report: UnitReport) {
    finished[unit].copy(report)
    if round.purpose == .training { expertGradients.close(unit: unit) }
  }

  package func reports() -> [UnitReport] { finished }

  package func reduce(_ sums: [(node: UnitNode, value: PooledBuffer?)]) -> RealPointer {
    precondition(sums.count == 1, "one worker holds the whole tree")
    return sums[0].value!.pointer
  }

  package func gather(_ squares: [Double], _ note: StepNote) -> [Double] {
    notes[0] = note
    return squares
  }
  package func share(_ parameters: ParameterBuffer) {}
}

/// Gradients of the experts held here, summed over the batch's units in the tree.
package final class ExpertGradients {
  private let experts: LocalExperts
  private let blockCount: Int
  /// One an expert held here.
  private var trees: [UnitTree<PooledBuffer>]
  /// The sum of each expert of the model, nil where it lives elsewhere or no token reached it.
  package private(set) var totals: [RealPointer?]

  package init(_ experts: LocalExperts, layout: ParameterLayout) {
    self.experts = experts
    blockCount = layout.expertCount
    trees = experts.owned.map { _ in UnitTree(unitCount: 1) }
    totals = Array(repeating: nil, count: layout.experts.count)
  }

  package func begin(unitCount: Int) {
    for place in trees.indices { trees[place].begin(unitCount: unitCount) }
  }

  /// No more rows of the unit will come, from whatever worker computes it.
  package func close(unit: Int) {
    for (place, expert) in experts.owned.enumerated() {
      let block = experts.takeGradient(unit: unit, expert: expert)
      trees[place].insert(block, at: UnitNode(level: 0, index: unit)) { left, right in
        left.add(right, count: blockCount)
        experts.recycle(right)
        return left
      }
    }
  }

  /// The unit was computed to compare it: its gradients go nowhere.
  package func discard(unit: Int) {
    for expert in experts.owned {
      if let block = experts.takeGradient(unit: unit, expert: expert) { experts.recycle(block) }
    }
  }

  /// Every unit is closed: fills `totals`, whose blocks stay valid until `recycle`.
  package func finish() {
    for (place, expert) in experts.owned.enumerated() { totals[expert] = trees[place].total?.pointer }
  }

  package func recycle() {
    for place in trees.indices {
      for (_, block) in trees[place].pending { if let block { experts.recycle(block) } }
      trees[place].begin(unitCount: 1)
    }
  }
}
