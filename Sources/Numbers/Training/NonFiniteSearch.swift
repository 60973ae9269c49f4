// Finds what in a step is not finite (NaN or infinite), so that the message names the unit and its sequences.
//
// A loss shows its unit at once. A gradient's norm does not, because it is a sum over all units, so every worker
// computes its units again and looks at their gradients. All workers do so together, because all have the same norm.

import Kernels
import Model

package struct NonFiniteSearch {
  let plan: WorkPlan
  let loop: UnitLoop
  let batches: [StepBatch]
  let rounds: Rounds

  /// What in the step is not finite, and which unit caused it; nil where everything is finite.
  func find(_ reports: [UnitReport], norm: Double, step: Int) throws -> String? {
    if let unit = NonFiniteSearch.unit(of: reports) {
      return "the loss of \(batches[0].spoken(unit)) is not a finite number"
    }
    if norm.isFinite { return nil }
    guard let unit = try unitOfBadGradient(step) else { return "the gradient's norm is not a finite number" }
    return "the gradient of \(batches[0].spoken(unit)) is not finite"
  }

  /// The first unit with a loss that is not finite.
  package static func unit(of reports: [UnitReport]) -> Int? {
    reports.firstIndex { report in
      let losses = report.losses
      return !(losses.task + losses.smooth + losses.balance + losses.routerZ).isFinite
    }
  }

  /// The first unit whose dense gradient is not finite. Nil where only gradients of experts are not finite, or where
  /// a sum of finite gradients overflowed.
  private func unitOfBadGradient(_ step: Int) throws -> Int? {
    try rounds.begin(.audit, step: step, unitCount: plan.unitCount)
    var first = plan.unitCount
    try loop.run(plan.myUnits) { unit, place in
      let batch = batches[place.number]
      let gradient = try batch.train(unit, as: unit)
      let isFinite = (0..<batch.denseCount).allSatisfy { gradient.pointer[$0].isFinite }
      loop.alone { if !isFinite { first = min(first, unit) } }
      batch.recycle(gradient)
      try rounds.exchange.finish(unit: unit, batch.report, loop.end(unit, at: place))
    }
    _ = try rounds.exchange.reports()
    var note = StepNote()
    (note.owned, note.audited) = ([UInt64(first)], [0])
    let found = try rounds.gather(note).map { Int($0.owned[0]) }.min()!
    return found < plan.unitCount ? found : nil
  }
}
