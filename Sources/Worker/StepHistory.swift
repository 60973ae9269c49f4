// The steps of a run that this process took part in. Only the first worker of a generation reports them; when it dies with a
// report unsaid, the others say it, because what nobody recorded would be missing from the curve.

import Wire

package final class StepHistory {
  package enum Entry: Equatable {
    case step(StepRecord)
    case evaluation(EvaluationRecord)
    case examination(RouterRecord)

    var step: Int {
      switch self {
      case .step(let record): record.step
      case .evaluation(let record): record.step
      case .examination(let record): record.step
      }
    }
  }

  private var run: RunID?
  private var entries: [Entry] = []
  /// A coordinator that is away for longer finds the newest checkpoint.
  private static let limit = 20_000

  package init() {}

  package func note(_ entry: Entry, of run: RunID) {
    if self.run != run { entries = [] }
    self.run = run
    // A step that is computed again has the same numbers; those behind it come again too.
    if case .step(let record) = entry { entries.removeAll { $0.step >= record.step } }
    entries.append(entry)
    if entries.count > 2 * StepHistory.limit { entries.removeFirst(StepHistory.limit) }
  }

  /// Reports of the steps that the coordinator lacks, up to where the generation begins.
  package func missing(_ assignment: Assignment) -> [Report] {
    guard run == assignment.run else { return [] }
    let wanted = entries.filter { entry in
      guard entry.step <= assignment.firstStep else { return false }
      // What belongs to the last recorded step may have died behind it; the coordinator takes it once.
      if case .step = entry { return entry.step > assignment.recorded }
      return entry.step >= assignment.recorded
    }
    return wanted.map { entry in
      switch entry {
      case .step(let record): .stepDone(record)
      case .evaluation(let record): .evaluated(record)
      case .examination(let record): .examined(record)
      }
    }
  }
}
