// The steps of a run that this process took part in. Only the first worker of a generation reports them; when it dies with a
// report unsaid, the others say it, because what nobody recorded would be missing from the curve.

import Wire

package final class StepHistory {
  package enum Entry: Equatable {
    case step(StepRecord)
    case evaluation(EvaluationRecord)

    var step: Int {
      switch self {
      case .step(let record): record.step
      case .evaluation(let record): record.step
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
    guard run == assignment.run, assignment.recorded < assignment.firstStep else { return [] }
    return entries.filter { (assignment.recorded + 1...assignment.firstStep).contains($0.step) }.map { entry in
      switch entry {
      case .step(let record): .stepDone(record)
      case .evaluation(let record): .evaluated(record)
      }
    }
  }
}
