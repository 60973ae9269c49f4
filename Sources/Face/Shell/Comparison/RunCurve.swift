// The curve of a run as a comparison needs it: the loss of each step, and the tokens and the time that it took to get
// there. It is read from a run's metrics.jsonl, or from the events that a coordinator sends; both give the same curve.

import Wire

package struct RunCurve: Equatable, Sendable {
  package struct Point: Equatable, Sendable {
    package var step: Int
    /// Cross-entropy of the step's batch, in nats a target; nil where the step was not applied.
    package var loss: Double?
    /// Of all steps up to this one.
    package var tokens: Int
    /// Of all steps up to this one: the time of training, without waiting, loading and evaluations.
    package var seconds: Double
    package var learningRate: Double
  }

  package struct Evaluation: Equatable, Sendable {
    package var step: Int
    /// Nats a target.
    package var loss: Double
    package var tokens: Int
    package var seconds: Double
  }

  package private(set) var points: [Point] = []
  package private(set) var evaluations: [Evaluation] = []

  package init() {}

  /// Reads the text of a metrics.jsonl; lines that cannot be read, as a crash can leave at the end, are left out.
  package init(metrics text: String) {
    for line in text.split(separator: "\n") {
      if let event = MetricsTable.event(line) { note(event) }
    }
  }

  /// Adds an event of the run, in order. A run that continues from an older step drops its later steps.
  package mutating func note(_ event: RunEvent) {
    switch event {
    case .began(_, let firstStep, _, _): cut(from: firstStep + 1)
    case .stepped(let record):
      cut(from: record.step)
      points.append(
        Point(
          step: record.step, loss: record.isSound ? record.task : nil,
          tokens: (points.last?.tokens ?? 0) + record.tokens,
          seconds: (points.last?.seconds ?? 0) + (record.seconds.isFinite ? record.seconds : 0),
          learningRate: record.learningRate))
    case .evaluated(let record):
      evaluations.removeAll { $0.step >= record.step }
      guard record.loss.isFinite else { return }
      let point = points.last { $0.step <= record.step }
      evaluations.append(
        Evaluation(step: record.step, loss: record.loss, tokens: point?.tokens ?? 0, seconds: point?.seconds ?? 0))
    case .state, .placed, .examined, .saved, .said: break
    }
  }

  private mutating func cut(from step: Int) {
    while let last = points.last, last.step >= step { points.removeLast() }
    while let last = evaluations.last, last.step >= step { evaluations.removeLast() }
  }

  package var isEmpty: Bool { points.isEmpty && evaluations.isEmpty }

  package var best: Evaluation? { evaluations.min { $0.loss < $1.loss } }

  /// The newest evaluation.
  package var last: Evaluation? { evaluations.last }

  /// Number of steps of which a training loss is the mean: the loss of a single batch varies too much to be compared.
  package static let window = 20

  /// The mean loss of the last steps up to `step`; nil where none of them has a loss.
  func trainingLoss(at step: Int) -> Double? {
    guard let end = points.lastIndex(where: { $0.step <= step }) else { return nil }
    let losses = points[max(0, end + 1 - Self.window)...end].compactMap(\.loss)
    return losses.isEmpty ? nil : losses.reduce(0, +) / Double(losses.count)
  }

  var trainingLoss: Double? { points.last.flatMap { trainingLoss(at: $0.step) } }

  /// The first place at which the run has reached a loss: an evaluation, or in a run without evaluations the mean of
  /// the last steps.
  package func reaching(_ loss: Double) -> (step: Int, tokens: Int, seconds: Double)? {
    if !evaluations.isEmpty {
      return evaluations.first { $0.loss <= loss }.map { ($0.step, $0.tokens, $0.seconds) }
    }
    var sum = 0.0, recent: [Double] = []
    for point in points {
      guard let value = point.loss else { continue }
      recent.append(value)
      sum += value
      if recent.count > Self.window { sum -= recent.removeFirst() }
      // A mean of fewer steps would count a lucky batch at the start.
      if recent.count == Self.window, sum / Double(Self.window) <= loss {
        return (point.step, point.tokens, point.seconds)
      }
    }
    return nil
  }
}
