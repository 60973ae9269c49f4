// The audit: finds hardware that computes wrong results without an error (silent data corruption).
//
// Before each step, a share of its units, drawn from (seed, step, unit), is computed by a second worker as well.
// The losses and gradients of both must agree to the bit, which they do on sound machines, because a unit's numbers
// do not depend on where it is computed. If they differ, a third worker, where there is one, computes the unit too,
// and the coordinator takes the result of the majority to be right. A step with a unit in doubt is not applied by
// any worker.

import Checksum
import Configuration
import Kernels
import Model

package struct Audit: Equatable, Sendable {
  /// Units of the step that are computed twice, ascending. All workers draw the same ones.
  package let units: [Int]

  /// Philox stream of the draw, distinct from the streams of all parameters and of the sampler.
  private static let stream: UInt64 = 0x5A3F_0000_0001

  package init(share: Double, seed: UInt64, step: Int, unitCount: Int, workerCount: Int) {
    guard share > 0, workerCount > 1 else {
      units = []
      return
    }
    let random = Philox(seed: seed, stream: Audit.stream)
    units = (0..<unitCount).filter { unit in
      Double(random.words(UInt64(step) << 20 | UInt64(unit))[0]) < share * 4_294_967_296
    }
  }

  /// The worker that gives the `opinion`-th result of a unit: 0 is the unit's owner, 1 the worker after it in the
  /// roster, and so on.
  package static func auditor(of unit: Int, opinion: Int, in plan: WorkPlan) -> Int {
    let owner = plan.units.firstIndex { $0.contains(unit) }!
    return (owner + opinion) % plan.workerCount
  }

  /// A hash of a unit's losses, expert loads and dense gradient.
  static func hash(_ report: UnitReport, gradient: RealPointer, count: Int) -> UInt64 {
    let losses = report.losses
    let numbers =
      [
        losses.task, losses.smooth, losses.balance, losses.routerZ, Double(losses.targets), Double(losses.tokens),
      ] + report.routing.numbers
    let low = numbers.withUnsafeBytes { crc32c($0) }
    let high = crc32c(UnsafeRawBufferPointer(UnsafeBufferPointer(start: gradient, count: count)))
    return UInt64(high) << 32 | UInt64(low)
  }
}

extension Audit {
  /// The units that two workers computed with different results, with the two workers and their hashes.
  /// - Parameter notes: those of the step, by roster index.
  package func disagreements(_ notes: [StepNote], in plan: WorkPlan) -> [(unit: Int, voters: [Int], hashes: [UInt64])] {
    units.enumerated().compactMap { place, unit in
      let voters = (0...1).map { Audit.auditor(of: unit, opinion: $0, in: plan) }
      let hashes = [notes[voters[0]].owned[place], notes[voters[1]].audited[place]]
      return hashes[0] == hashes[1] ? nil : (unit, voters, hashes)
    }
  }
}

/// One worker's part in the audits of a run.
struct Auditor {
  private let plan: WorkPlan
  private let share: Double
  private let seed: UInt64
  private let loop: UnitLoop
  private let batches: [StepBatch]
  private let rounds: Rounds

  init(
    _ configuration: RunConfiguration, _ plan: WorkPlan, _ loop: UnitLoop, _ batches: [StepBatch], _ rounds: Rounds
  ) {
    self.plan = plan
    self.loop = loop
    self.batches = batches
    self.rounds = rounds
    share = configuration.cluster.audit
    seed = configuration.training.seed
  }

  /// Draws the audit of a step, and computes the units that this worker is to compute for others. Their hashes go
  /// into the note.
  func begin(_ step: Int, _ note: inout StepNote) throws -> Audit {
    let audit = Audit(
      share: share, seed: seed, step: step, unitCount: plan.unitCount, workerCount: plan.workerCount)
    note.owned = Array(repeating: 0, count: audit.units.count)
    note.audited = note.owned
    if !audit.units.isEmpty { note.audited = try hashes(of: audit.units, step: step, opinion: 1) }
    return audit
  }

  /// Throws where two results of a unit differ, together with a third result where there is a third worker.
  func compare(_ audit: Audit, step: Int) throws {
    guard var found = audit.disagreements(rounds.exchange.notes, in: plan).first else { return }
    if plan.workerCount > 2 {
      // All workers see the difference in the notes, so all come to this additional round.
      var third = StepNote()
      third.owned = [0]
      third.audited = try hashes(of: [found.unit], step: step, opinion: 2)
      let notes = try rounds.gather(third)
      found.voters.append(Audit.auditor(of: found.unit, opinion: 2, in: plan))
      found.hashes.append(notes[found.voters[2]].audited[0])
    }
    throw AuditFailure(step: step, unit: found.unit, voters: found.voters, hashes: found.hashes)
  }

  /// Computes the units for which this worker gives that opinion. Returns their hashes, and 0 for the other units.
  private func hashes(of units: [Int], step: Int, opinion: Int) throws -> [UInt64] {
    try rounds.begin(.audit, step: step, unitCount: units.count)
    var hashes = [UInt64](repeating: 0, count: units.count)
    try loop.run(units.indices) { number, place in
      guard Audit.auditor(of: units[number], opinion: opinion, in: plan) == plan.index else { return }
      let batch = batches[place.number]
      let gradient = try batch.train(units[number], as: number)
      let hash = Audit.hash(batch.report, gradient: gradient.pointer, count: batch.denseCount)
      loop.alone { hashes[number] = hash }
      batch.recycle(gradient)
      try rounds.exchange.finish(unit: number, batch.report, loop.end(number, at: place))
    }
    _ = try rounds.exchange.reports()
    return hashes
  }
}

/// A unit whose results on two workers differ. The step was not applied.
package struct AuditFailure: Error, Equatable, CustomStringConvertible {
  package var step: Int
  package var unit: Int
  /// Roster indices of the workers that computed the unit, and the hashes of their results.
  package var voters: [Int]
  package var hashes: [UInt64]

  package var description: String {
    "step \(step + 1): unit \(unit) has different results on workers "
      + voters.map { String($0) }.joined(separator: " and ")
  }
}
