// The best evaluation of a curve so far. Early stopping and the best checkpoint follow from it, so they depend on the
// curve alone. It is part of a manifest, so that a run that continues from a checkpoint counts on from there.

package struct EvaluationStanding: Equatable, Sendable, Codable {
  /// The step of the evaluation with the smallest loss, the first of equal ones, and its loss in nats; nil before the
  /// first evaluation with a finite loss.
  package private(set) var bestStep: Int?
  package private(set) var bestLoss: Double?
  /// Number of evaluations after the best one.
  package private(set) var sinceBest = 0

  package init() {}

  /// Takes the next evaluation of the curve into account. Returns whether it is the best so far.
  package mutating func take(step: Int, loss: Double) -> Bool {
    guard loss.isFinite, bestLoss.map({ loss < $0 }) ?? true else {
      sinceBest += 1
      return false
    }
    (bestStep, bestLoss, sinceBest) = (step, loss, 0)
    return true
  }

  /// Whether `training.stop_after` ends the run; 0 never does.
  package func ends(after limit: Int) -> Bool { limit > 0 && sinceBest >= limit }
}
