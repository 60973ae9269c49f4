// The results of a sweep: a CSV file with a row for each run, and tables for people, sorted by validation loss.

import Configuration
import Wire

/// The result of one run, so far.
package struct SweepResult: Codable, Equatable, Sendable {
  package enum State: String, Codable, Sendable {
    /// `begun`: it has steps, and is at work or was interrupted.
    case waiting, begun, finished, failed
  }

  package var state: State
  /// Why it failed.
  package var reason: String?
  package var steps = 0
  package var tokens = 0
  /// Of training, without waiting, loading and evaluations.
  package var seconds = 0.0
  /// Nats a target. `training` is the mean of the last steps, `validation` that of the newest evaluation.
  package var training: Double?
  package var validation: Double?
  package var best: Double?
  package var bestStep: Int?

  package init(_ state: State, _ curve: RunCurve = RunCurve(), reason: String? = nil) {
    self.state = state
    self.reason = reason
    steps = curve.points.last?.step ?? 0
    tokens = curve.points.last?.tokens ?? 0
    seconds = curve.points.last?.seconds ?? 0
    training = curve.trainingLoss
    validation = curve.last?.loss
    (best, bestStep) = (curve.best?.loss, curve.best?.step)
  }

  /// The loss by which runs are compared: of validation, where there is one.
  package var loss: Double? { validation ?? training }
}

package struct SweepTable: Sendable {
  package struct Row: Sendable {
    package var run: Sweep.Run
    package var result: SweepResult
    package var folder: String

    package init(run: Sweep.Run, result: SweepResult, folder: String) {
      self.run = run
      self.result = result
      self.folder = folder
    }
  }

  /// Finished runs that differ only in their seed.
  package struct Arm: Equatable, Sendable {
    package var settings: [Sweep.Setting]
    package var count: Int
    package var mean: Double
    /// Of the mean: the standard deviation of the runs, divided by the root of their number; nil for one run.
    package var standardError: Double?
    package var best: Double?
  }

  private let axes: [String]
  package let rows: [Row]

  package init(_ sweep: Sweep, _ rows: [Row]) {
    axes = sweep.axes.map(\.key)
    self.rows = rows
  }

  // MARK: The file

  /// RFC 4180, in the order in which the runs are trained.
  package var csv: String {
    let head =
      ["run", "state"] + axes
      + [
        "validation_loss", "best_validation_loss", "best_step", "training_loss", "steps", "tokens", "seconds", "folder",
      ]
    func real(_ value: Double?) -> String { value.map { "\($0)" } ?? "" }
    let lines = rows.map { row in
      let result = row.result
      return [row.run.name, result.state.rawValue] + row.run.settings.map(\.value) + [
        real(result.validation), real(result.best), result.bestStep.map { String($0) } ?? "", real(result.training),
        String(result.steps), String(result.tokens), "\(result.seconds)", row.folder,
      ]
    }
    return ([head] + lines).map { $0.map(Self.cell).joined(separator: ",") + "\r\n" }.joined()
  }

  private static func cell(_ text: String) -> String {
    guard text.contains(where: { ",\"\r\n".contains($0) }) else { return text }
    return "\"" + text.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
  }

  // MARK: Tables

  private static func isBefore(_ a: Double?, _ b: Double?) -> Bool { (a ?? .infinity) < (b ?? .infinity) }

  /// Runs with the smallest loss first; runs without a loss last, in the order of the sweep.
  package var sorted: [Row] {
    rows.enumerated().sorted { a, b in
      Self.isBefore(a.element.result.loss, b.element.result.loss)
        || a.element.result.loss == b.element.result.loss && a.offset < b.offset
    }.map(\.element)
  }

  /// Sorted by the mean, the smallest first.
  package var arms: [Arm] {
    var order: [String] = [], groups: [String: [Row]] = [:]
    for row in rows where row.result.state == .finished && row.result.loss != nil {
      if groups[row.run.arm] == nil { order.append(row.run.arm) }
      groups[row.run.arm, default: []].append(row)
    }
    let arms = order.map { name in
      let group = groups[name]!, losses = group.map { $0.result.loss! }, count = Double(losses.count)
      let mean = losses.reduce(0, +) / count
      let squares = losses.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
      return Arm(
        settings: group[0].run.settings.filter { $0.key != Sweep.seed }, count: losses.count, mean: mean,
        standardError: losses.count > 1 ? (squares / (count - 1) / count).squareRoot() : nil,
        best: group.compactMap(\.result.best).min())
    }
    return arms.enumerated().sorted { ($0.element.mean, $0.offset) < ($1.element.mean, $1.offset) }.map(\.element)
  }

  private var hasSeeds: Bool { axes.contains(Sweep.seed) }

  /// Whether runs are compared by validation losses.
  private var isValidated: Bool { rows.contains { $0.result.validation != nil } }

  package var text: String {
    let loss = isValidated ? "validation" : "training"
    var runs = TextTable(
      [("run", .left), (loss, .right)] + (isValidated ? [("best", .right), ("at step", .right)] : [])
        + [("steps", .right), ("time", .right), ("", .left)])
    for row in sorted {
      let result = row.result
      runs.add(
        [row.run.name, Self.loss(result.loss)]
          + (isValidated ? [Self.loss(result.best), result.bestStep.map { String($0) } ?? "–"] : [])
          + [
            String(result.steps), Format.duration(seconds: result.seconds),
            result.state == .finished ? "" : result.state.rawValue + (result.reason.map { ": " + $0 } ?? ""),
          ])
    }
    let arms = arms
    guard hasSeeds, !arms.isEmpty else { return runs.text }
    let keys = axes.filter { $0 != Sweep.seed }
    var table = TextTable(
      keys.map { ($0, .left) } + [("seeds", .right), ("mean \(loss) loss ± standard error", .left), ("best", .right)])
    for arm in arms {
      let error = arm.standardError.map { " ± " + Format.fixed($0, 4) } ?? ""
      table.add(
        arm.settings.map(\.value) + [String(arm.count), Format.fixed(arm.mean, 4) + error, Self.loss(arm.best)])
    }
    return runs.text + "\n\n" + table.text
  }

  private static func loss(_ loss: Double?) -> String { loss.map { Format.fixed($0, 4) } ?? "–" }

  // MARK: JSON

  /// - Parameter event: `ended` for a run that has just ended, `run` for a row of the table.
  package static func json(_ row: Row, event: String = "run") -> String {
    let result = row.result
    return JSON.object([
      ("event", .text(event)), ("run", .text(row.run.name)), ("state", .text(result.state.rawValue)),
      ("reason", .init(result.reason)), ("settings", json(row.run.settings)),
      ("validation_loss", .init(result.validation)), ("best_validation_loss", .init(result.best)),
      ("best_step", .init(result.bestStep)), ("training_loss", .init(result.training)),
      ("steps", .whole(result.steps)), ("tokens", .whole(result.tokens)), ("seconds", .real(result.seconds)),
      ("folder", .text(row.folder)),
    ]).line
  }

  private static func json(_ settings: [Sweep.Setting]) -> JSON {
    .object(settings.map { ($0.key, .text($0.value)) })
  }

  /// One line for each run, sorted, then one for each arm.
  package var json: [String] {
    sorted.map { Self.json($0) }
      + arms.map { arm in
        JSON.object([
          ("event", .text("arm")), ("settings", Self.json(arm.settings)), ("runs", .whole(arm.count)),
          ("loss", .text(isValidated ? "validation" : "training")), ("mean", .real(arm.mean)),
          ("standard_error", .init(arm.standardError)),
          ("best", .init(arm.best)),
        ]).line
      }
  }
}
