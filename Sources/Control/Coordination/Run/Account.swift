// The account of a run's time: steps that count, and everything else. `ress status` shows it as goodput.

import Wire

struct Account: Equatable, Sendable {
  private(set) var goodput = Goodput()
  /// Duration of the last change of generation.
  private(set) var changeSeconds = 1.0
  /// When the present interruption of training began.
  private var faultAt: Instant?
  private var lastStepAt: Instant?

  init() {}

  init(_ record: RunRecord) { goodput = record.goodput }

  /// A step was reported, whether it is new or not.
  mutating func heardStep(at now: Instant) { lastStepAt = now }

  /// A step that counts for the first time. The mean of the workers' computing time is useful; what the slowest worker
  /// needs beyond it is not.
  mutating func add(_ record: StepRecord) {
    let slowest = record.busy.max() ?? record.seconds
    let mean = record.busy.isEmpty ? record.seconds : record.busy.reduce(0, +) / Double(record.busy.count)
    goodput.useful += min(mean, record.seconds)
    goodput.straggler += max(0, min(slowest, record.seconds) - mean)
    goodput.checkpoint += record.stall
    goodput.exchange += max(0, record.seconds - max(slowest, mean))
  }

  /// A step that was recorded before and had to be computed again.
  mutating func addRepeated(_ record: StepRecord) { goodput.fault += record.seconds }

  /// Training is interrupted. Since the last step that was reported, or else since `start`, nothing useful was done.
  mutating func fault(since start: Instant) { faultAt = faultAt ?? lastStepAt ?? start }

  mutating func forgetFault() { faultAt = nil }

  /// A generation begins to train, `seconds` after its workers were assigned.
  mutating func begin(after seconds: Double, at now: Instant) {
    changeSeconds = seconds
    if let faultAt {
      goodput.fault += (now - faultAt).inSeconds
    } else {
      goodput.start += seconds
    }
    faultAt = nil
    lastStepAt = now
  }
}
