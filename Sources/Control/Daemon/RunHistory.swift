// A summary of a run for the dashboard, as a value: the events of its story are added one by one, and the memory is
// bounded, however long the story is.

import Wire

package struct RunHistory: Equatable, Sendable {
  /// An event other than a step, as a sentence.
  package struct Entry: Equatable, Sendable {
    package var event: Int
    /// The number of completed steps at that time.
    package var step: Int
    /// Seconds since 1970; nil for events from before the coordinator's start.
    package var time: Double?
    package var kind: Kind
    package var text: String

    package enum Kind: Equatable, Sendable {
      case began, notice
      case state(RunState)
    }
  }

  /// One membership of the run.
  package struct Generation: Equatable, Sendable {
    package var event: Int
    /// Its number among the run's generations, from 1.
    package var ordinal: Int
    /// Its number among the generations of all runs, as in the logs of workers.
    package var number: UInt32
    package var step: Int
    package var time: Double?
    package var roster: [RosterEntry]
  }

  package struct Evaluation: Equatable, Sendable {
    package var event: Int
    package var record: EvaluationRecord
  }

  package struct Checkpoint: Equatable, Sendable {
    package var event: Int
    package var step: Int
    package var path: String
    /// What was found in its folder; nil before it was looked at.
    package var found: Found?

    package enum Found: Equatable, Sendable {
      /// `loss` is the training loss of its step, as logged.
      case manifest(loss: Double?, byteCount: Int)
      /// It was removed, such as by checkpoint.keep, or it cannot be read.
      case nothing
    }
  }

  package static let storyLimit = 300, generationLimit = 60, evaluationLimit = 1000, checkpointLimit = 50

  /// The number of the last event that was added.
  package private(set) var event = 0
  package private(set) var curve = Curve()
  package private(set) var evaluations: [Evaluation] = []
  package private(set) var generations: [Generation] = []
  private var generationCount = 0
  package private(set) var story: [Entry] = []
  package private(set) var checkpoints: [Checkpoint] = []
  /// How often a checkpoint was found changed; a page that was sent before does not show it.
  package private(set) var findings = 0
  package private(set) var newest: StepRecord?
  /// The evaluation with the smallest loss.
  package private(set) var best: EvaluationRecord?
  /// When its first step began and its newest record was made, in seconds since 1970; nil in stories of older programs.
  package private(set) var began: Double?
  private(set) var lastRecord: Double?
  package private(set) var router: RouterRecord?
  /// The checkpoint that the run started from, if any.
  package private(set) var origin: String?
  package private(set) var step = 0
  package private(set) var steps = 0
  /// How often the run was rewound to an older step; parts of a curve with different values do not fit together.
  package private(set) var cuts = 0

  package init() {}

  /// The folder of the run's newest checkpoint.
  package var modelPath: String? { checkpoints.last?.path ?? origin }

  /// - Parameter time: seconds since 1970, if the event is happening now.
  package mutating func take(_ happening: RunEvent, number: Int, time: Double?) {
    event = number
    switch happening {
    case .began(let name, let firstStep, let steps, let checkpoint):
      self.steps = steps
      origin = checkpoint
      if firstStep < step { goBack(to: firstStep) }
      step = firstStep
      let from = checkpoint.map { ", from \($0)" } ?? ""
      tell(
        .began, firstStep == 0 && checkpoint == nil ? "run \(name) begins" : "continues after step \(firstStep)\(from)",
        time)
    case .state(let state, let reason): tell(.state(state), reason, time)
    case .said(let sentence): tell(.notice, sentence, time)
    case .placed(let generation, let roster):
      generationCount += 1
      generations.append(
        Generation(
          event: event, ordinal: generationCount, number: generation, step: step, time: time, roster: roster))
      if generations.count > Self.generationLimit { generations.removeFirst() }
    case .stepped(let record):
      step = record.step
      newest = record
      began = began ?? record.time.map { $0 - record.seconds }
      lastRecord = record.time ?? lastRecord
      curve.add(record, event: event)
    case .evaluated(let record):
      lastRecord = record.time ?? lastRecord
      if record.loss.isFinite, record.loss < best?.loss ?? .infinity { best = record }
      evaluations.append(Evaluation(event: event, record: record))
      // Every second evaluation shows the same curve of a long run; the newest is kept.
      if evaluations.count > Self.evaluationLimit {
        let odd = evaluations.count % 2
        evaluations = evaluations.indices.filter { $0 % 2 != odd }.map { evaluations[$0] }
      }
    case .saved(let step, let path):
      checkpoints.append(Checkpoint(event: event, step: step, path: path))
      if checkpoints.count > Self.checkpointLimit { checkpoints.removeFirst() }
    case .examined(let record): router = record
    }
  }

  /// Adds what was found in the folders of checkpoints, by path.
  package mutating func note(_ found: [String: Checkpoint.Found]) {
    for index in checkpoints.indices {
      guard let now = found[checkpoints[index].path], now != checkpoints[index].found else { continue }
      checkpoints[index].found = now
      findings += 1
    }
  }

  private mutating func tell(_ kind: Entry.Kind, _ text: String, _ time: Double?) {
    story.append(Entry(event: event, step: step, time: time, kind: kind, text: text))
    if story.count > Self.storyLimit { story.removeFirst() }
  }

  private mutating func goBack(to step: Int) {
    cuts += 1
    curve.cut(after: step)
    evaluations.removeAll { $0.record.step > step }
    if best?.step ?? 0 > step {
      best = evaluations.map(\.record).filter(\.loss.isFinite).min { $0.loss < $1.loss }
    }
    checkpoints.removeAll { $0.step > step }
  }
}
