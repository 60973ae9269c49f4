// The records of the steps that this process took part in.
//
// Only the first worker of a generation's roster reports steps to the coordinator. It may die with reports that
// were not sent. Then another worker, which took part in the same steps, sends them in the next generation;
// otherwise those points would be missing from the run's curve.

import Wire

package final class StepHistory {
  /// A record, with the step that it belongs to.
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
  /// Entries that are kept at least. A coordinator that is away for longer continues the curve at the newest
  /// checkpoint.
  private static let limit = 20_000

  package init() {}

  /// Adds a record. Entries of another run are dropped.
  package func note(_ entry: Entry, of run: RunID) {
    if self.run != run { entries = [] }
    self.run = run
    // A step that is computed again replaces its earlier record; the steps after it will be computed again too.
    if case .step(let record) = entry { entries.removeAll { $0.step >= record.step } }
    entries.append(entry)
    if entries.count > 2 * StepHistory.limit { entries.removeFirst(StepHistory.limit) }
  }

  /// Reports of the steps that the coordinator lacks, up to the first step of the generation.
  package func missing(_ assignment: Assignment) -> [Report] {
    guard run == assignment.run else { return [] }
    let wanted = entries.filter { entry in
      guard entry.step <= assignment.firstStep else { return false }
      // Evaluations of the last recorded step may have been lost after it. The coordinator ignores those that it has.
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
