// The steps that a run has recorded. A step that is computed again must have the bits that were recorded; it is then
// not recorded a second time. Steps that were not applied are counted here as well: where a run stops depends on how
// many there are in a row, so the count must be right wherever a generation begins.

import Configuration
import Wire

/// The results of a step, for comparison: equal steps have equal bits.
package struct StepMark: Codable, Equatable, Sendable {
  package var step: Int
  package var loss: Double
  package var gradientNorm: Double

  package init(step: Int, loss: Double, gradientNorm: Double) {
    self.step = step
    self.loss = loss
    self.gradientNorm = gradientNorm
  }

  init(_ record: StepRecord) {
    self.init(step: record.step, loss: record.loss, gradientNorm: record.gradientNorm)
  }

  /// Compares bits, so that a NaN equals itself.
  func agrees(with other: StepMark) -> Bool {
    step == other.step && loss.bitPattern == other.loss.bitPattern
      && gradientNorm.bitPattern == other.gradientNorm.bitPattern
  }
}

struct StepLog: Equatable, Sendable {
  enum Verdict: Equatable {
    /// The next step of the curve.
    case new
    /// Recorded before, with the same bits.
    case again
    /// Recorded before, with other bits.
    case differs(from: StepMark)
    /// The first step after a checkpoint, whose bits differ from those of its proof.
    case differsFromProof(StepMark)
  }

  /// Steps that can be compared when they are computed again.
  private static let markLimit = 10_000
  /// Largest number of ranges of steps that were not applied: more between two checkpoints than any real run has.
  private static let leftOutLimit = 1_000
  /// Largest number of evaluations that are kept: more between two checkpoints than any real run has.
  private static let evaluationLimit = 1_000

  private(set) var step = 0
  private(set) var evaluatedStep = 0
  /// The last measurement of the router; nil before the first.
  private(set) var examinedStep: Int?
  /// Steps that were not applied, in ascending order, from around the newest checkpoint on. Nil for none.
  private(set) var leftOut: [ClosedRange<Int>]?
  /// Evaluations in the order of steps, from around the newest checkpoint on. Nil for none.
  private(set) var evaluations: [Evaluation]?
  private var marks: [Int: StepMark] = [:]

  struct Evaluation: Codable, Equatable, Sendable {
    var step: Int
    /// Nil where it is not finite, and for a checkpoint from which the run continued.
    var loss: Double?
    /// The best evaluation up to this one.
    var standing: EvaluationStanding
  }

  init() {}

  init(_ record: RunRecord) {
    step = record.step
    evaluatedStep = record.evaluatedStep
    examinedStep = record.examinedStep
    leftOut = record.leftOut
    evaluations = record.evaluations
  }

  func mark(of step: Int) -> StepMark? { marks[step] }

  mutating func take(_ record: StepRecord) -> Verdict {
    let mark = StepMark(record)
    let before = marks[record.step]
    let isNew = record.step > step
    if let before, !before.agrees(with: mark) { return isNew ? .differsFromProof(before) : .differs(from: before) }
    if isNew { step = record.step }
    marks[record.step] = mark
    marks[record.step - StepLog.markLimit] = nil
    return isNew ? .new : .again
  }

  /// The proof of a checkpoint: the results of the step after it when that step was first computed.
  mutating func expect(_ proof: StepMark) { marks[proof.step] = proof }

  /// Returns whether this evaluation is to be recorded.
  mutating func take(_ record: EvaluationRecord, newestCheckpoint: Int?) -> Bool {
    guard record.step > evaluatedStep else { return false }
    evaluatedStep = record.step
    var standing = self.standing(at: record.step)
    _ = standing.take(step: record.step, loss: record.loss)
    let evaluation = Evaluation(
      step: record.step, loss: record.loss.isFinite ? record.loss : nil, standing: standing)
    // A generation that begins before the newest checkpoint begins from an older one, whose manifest has the standing.
    let all = (evaluations ?? []) + [evaluation]
    let first = all.lastIndex { $0.step <= newestCheckpoint ?? 0 } ?? 0
    evaluations = all[first...].suffix(StepLog.evaluationLimit)
    return true
  }

  /// The best evaluation up to a step.
  func standing(at step: Int) -> EvaluationStanding {
    evaluations?.last { $0.step <= step }?.standing ?? EvaluationStanding()
  }

  /// The loss of the evaluation after a step; nil where there was none.
  func validationLoss(of step: Int) -> Double? { evaluations?.last { $0.step == step }?.loss }

  /// The curve continues from a checkpoint of this step, whose manifest has the standing.
  mutating func stand(at step: Int, _ standing: EvaluationStanding?) {
    guard let standing, evaluations?.contains(where: { $0.step <= step }) != true else { return }
    evaluations = [Evaluation(step: step, loss: nil, standing: standing)] + (evaluations ?? [])
  }

  /// The step whose evaluation ends the run, according to `training.stop_after`; nil while there is none.
  func endingStep(stopAfter: Int) -> Int? { evaluations?.first { $0.standing.ends(after: stopAfter) }?.step }

  /// Returns whether this measurement of the router is to be recorded.
  mutating func takeExamination(of step: Int) -> Bool {
    guard step > examinedStep ?? 0 else { return false }
    examinedStep = step
    return true
  }

  /// The curve begins after `step`.
  mutating func begin(after step: Int) {
    self.step = step
    evaluatedStep = step
    examinedStep = step
    evaluations = nil
    marks = [:]
  }

  /// Forgets the results of the recorded steps, which are no longer part of the run's curve.
  mutating func forget() {
    step = 0
    leftOut = nil
    evaluations = nil
  }

  // MARK: steps that were not applied

  /// Number of steps in a row, up to and including `step`, that were not applied.
  func leftOutInARow(_ step: Int) -> Int {
    leftOut?.last { $0.contains(step) }.map { step - $0.lowerBound + 1 } ?? 0
  }

  /// The same number, from which the workers continue to count. After a run stopped because of such steps and was
  /// resumed, it is 0.
  func leftOutToCountFrom(_ step: Int, atMost limit: Int) -> Int {
    let count = leftOutInARow(step)
    return count > limit ? 0 : count
  }

  /// Records that these steps, the last of which is `step`, were not applied.
  mutating func leaveOut(_ step: Int, count: Int = 1, newestCheckpoint: Int?) {
    var ranges = leftOut ?? []
    guard count > 0, !ranges.contains(where: { $0.contains(step) }) else { return }
    if let last = ranges.last, last.upperBound + 1 == step {
      ranges[ranges.count - 1] = last.lowerBound...step
    } else {
      ranges.append(step - count + 1...step)
    }
    // A generation that begins before the newest checkpoint begins from an older one, whose manifest has the count.
    leftOut = ranges.filter { $0.upperBound >= newestCheckpoint ?? 0 }.suffix(StepLog.leftOutLimit)
  }

  /// The run stopped because too many steps were not applied, and a user has resumed it.
  mutating func forgiveLeftOut(atMost limit: Int) {
    if leftOutInARow(step) > limit { leftOut?.removeAll { $0.contains(step) } }
  }
}
