// A comparison of runs: the keys of their configurations that differ, what each has reached, and their losses at common
// steps.

import Configuration

package struct Comparison: Sendable {
  package struct Run: Sendable {
    package var name: String
    /// Where its numbers were read: a folder, a file, or the coordinator.
    package var source: String
    /// Nil where it is not known: for a run without a checkpoint, and for a file of metrics alone.
    package var configuration: RunConfiguration?
    package var curve: RunCurve

    package init(name: String, source: String, configuration: RunConfiguration?, curve: RunCurve) {
      self.name = name
      self.source = source
      self.configuration = configuration
      self.curve = curve
    }
  }

  /// A key whose value is not the same in all runs; nil for a run whose configuration is not known.
  package struct Difference: Equatable, Sendable {
    package var key: String
    package var values: [String?]
  }

  package let runs: [Run]
  package let differences: [Difference]
  /// The loss up to which tokens and time are counted; nil where no run has a loss.
  package let target: Double?
  /// Whether `target` was chosen here: it is the largest of the runs' best losses, so all runs have reached it.
  package let isChosen: Bool
  /// Steps at which losses are shown: of the last one that all runs have, and of some before it.
  package let steps: [Int]

  /// Steps that are shown, at most.
  private static let stepLimit = 6

  package init(_ runs: [Run], target: Double? = nil) {
    precondition(!runs.isEmpty, "a comparison of no runs")
    self.runs = runs
    differences = Self.differences(runs.map(\.configuration))
    isChosen = target == nil
    self.target = target ?? runs.compactMap { $0.curve.best?.loss ?? $0.curve.trainingLoss }.max()
    steps = Self.commonSteps(runs.map(\.curve))
  }

  private static func differences(_ configurations: [RunConfiguration?]) -> [Difference] {
    guard configurations.count > 1 else { return [] }
    return ConfigurationSchema.sections.flatMap { section in
      section.fields.compactMap { field in
        // Runs always differ by their names.
        guard section.path(of: field) != "run" else { return nil }
        let values = configurations.map { $0.map(field.text(in:)) }
        let known = Set(values.compactMap { $0 })
        return known.count > 1 ? Difference(key: section.path(of: field), values: values) : nil
      }
    }
  }

  /// Evaluations that all runs have, or else steps that all have.
  private static func commonSteps(_ curves: [RunCurve]) -> [Int] {
    func common(_ steps: (RunCurve) -> [Int]) -> [Int] {
      let sets = curves.map { Set(steps($0)) }
      return sets.dropFirst().reduce(sets[0]) { $0.intersection($1) }.sorted()
    }
    var all = common { $0.evaluations.map(\.step) }
    if all.isEmpty { all = common { $0.points.map(\.step) } }
    guard all.count > stepLimit else { return all }
    // Evenly spread, with the last one.
    return (1...stepLimit).map { all[$0 * all.count / stepLimit - 1] }
  }
}
