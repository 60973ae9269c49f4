// A comparison as tables for people, and as one line of JSON for each run.

import Configuration
import Wire

package enum ComparisonView {
  package static func text(_ comparison: Comparison) -> String {
    var parts = [results(comparison)]
    if !comparison.differences.isEmpty { parts.append("configuration that differs\n" + configurations(comparison)) }
    let unknown = comparison.runs.filter { $0.configuration == nil }.map(\.name)
    if !unknown.isEmpty, comparison.runs.count > 1 {
      parts.append("The configuration of \(unknown.joined(separator: ", ")) is not known: a checkpoint records it.")
    }
    for (title, loss) in losses where !comparison.steps.isEmpty {
      let rows = comparison.runs.map { run in comparison.steps.map { loss(run.curve, $0) } }
      guard rows.joined().contains(where: { $0 != nil }) else { continue }
      var table = TextTable([("run", .left)] + comparison.steps.map { ("step \($0)", .right) })
      for (run, row) in zip(comparison.runs, rows) { table.add([run.name] + row.map(loss4)) }
      parts.append("\(title)\n\(table.text)")
    }
    return parts.joined(separator: "\n\n")
  }

  private static let losses: [(title: String, loss: @Sendable (RunCurve, Int) -> Double?)] = [
    ("validation loss, nats a target", { curve, step in curve.evaluations.first { $0.step == step }?.loss }),
    (
      "training loss, nats a target, mean of up to \(RunCurve.window) steps",
      { curve, step in curve.trainingLoss(at: step) }
    ),
  ]

  private static func results(_ comparison: Comparison) -> String {
    let target = comparison.target.map { Format.fixed($0, 4) } ?? "?"
    var table = TextTable([
      ("run", .left), ("steps", .right), ("training", .right), ("validation", .right), ("best", .right),
      ("at step", .right), ("tokens", .right), ("time", .right), ("tokens to \(target)", .right),
      ("time to \(target)", .right),
    ])
    for run in comparison.runs {
      let curve = run.curve, end = curve.points.last, best = curve.best
      let reached = comparison.target.flatMap { curve.reaching($0) }
      table.add([
        run.name, end.map { String($0.step) } ?? "–", loss4(curve.trainingLoss), loss4(curve.last?.loss),
        loss4(best?.loss), best.map { String($0.step) } ?? "–", end.map { Format.compact(Double($0.tokens)) } ?? "–",
        end.map { Format.duration(seconds: $0.seconds) } ?? "–",
        reached.map { Format.compact(Double($0.tokens)) } ?? "–",
        reached.map { Format.duration(seconds: $0.seconds) } ?? "–",
      ])
    }
    let note =
      comparison.isChosen && comparison.runs.count > 1 && comparison.target != nil
      ? "\n\(target) is the largest of the runs' best losses; --to LOSS chooses another." : ""
    return table.text + note
  }

  /// Keys or runs become the rows, whichever are more.
  private static func configurations(_ comparison: Comparison) -> String {
    let differences = comparison.differences, names = comparison.runs.map(\.name)
    func cell(_ value: String?) -> String { value ?? "?" }
    if names.count <= differences.count {
      var table = TextTable([("key", .left)] + names.map { ($0, .left) })
      for difference in differences { table.add([difference.key] + difference.values.map(cell)) }
      return table.text
    }
    var table = TextTable([("run", .left)] + differences.map { ($0.key, .left) })
    for (index, name) in names.enumerated() { table.add([name] + differences.map { cell($0.values[index]) }) }
    return table.text
  }

  private static func loss4(_ loss: Double?) -> String { loss.map { Format.fixed($0, 4) } ?? "–" }

  // MARK: JSON

  package static func json(_ comparison: Comparison) -> [String] {
    return comparison.runs.enumerated().map { index, run in
      let curve = run.curve, end = curve.points.last
      let reached = comparison.target.flatMap { curve.reaching($0) }
      let settings = comparison.differences.map { difference in
        (difference.key, JSON(difference.values[index]))
      }
      let losses = comparison.steps.map { step in
        JSON.object([
          ("step", .whole(step)), ("validation", .init(Self.losses[0].loss(curve, step))),
          ("training", .init(Self.losses[1].loss(curve, step))),
        ])
      }
      return JSON.object([
        ("run", .text(run.name)), ("source", .text(run.source)), ("steps", .init(end?.step)),
        ("tokens", .init(end?.tokens)), ("seconds", .init(end?.seconds)), ("training_loss", .init(curve.trainingLoss)),
        ("validation_loss", .init(curve.last?.loss)), ("best_validation_loss", .init(curve.best?.loss)),
        ("best_step", .init(curve.best?.step)), ("target", .init(comparison.target)),
        ("steps_to_target", .init(reached?.step)), ("tokens_to_target", .init(reached?.tokens)),
        ("seconds_to_target", .init(reached?.seconds)), ("losses", .array(losses)),
        ("configuration", .object(settings)),
      ]).line
    }
  }
}
