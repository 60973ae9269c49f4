// What a run looks like, as a value: its story's events go in one by one, and what a person wants to see of it stays, in bounded memory
// however long the story is.

import Wire

package struct RunPicture: Equatable, Sendable {
  /// Something that happened beside the steps, in words.
  package struct Entry: Equatable, Sendable {
    package var event: Int
    /// Steps that were done.
    package var step: Int
    /// Seconds since 1970; nil where nobody was there to look at the clock.
    package var time: Double?
    package var kind: Kind
    package var text: String

    package enum Kind: Equatable, Sendable {
      case began, notice
      case state(RunState)
    }
  }

  /// One membership.
  package struct Generation: Equatable, Sendable {
    package var event: Int
    /// Among the run's own, from 1.
    package var ordinal: Int
    /// Among those of all runs, as logs of workers call it.
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
  }

  package static let storyLimit = 300, generationLimit = 60, evaluationLimit = 1000, checkpointLimit = 50

  /// Events that went in: the number of the last one.
  package private(set) var event = 0
  package private(set) var curve = Curve()
  package private(set) var evaluations: [Evaluation] = []
  package private(set) var generations: [Generation] = []
  private var generationCount = 0
  package private(set) var story: [Entry] = []
  package private(set) var checkpoints: [Checkpoint] = []
  package private(set) var newest: StepRecord?
  package private(set) var router: RouterRecord?
  /// What it began from, where that was a checkpoint.
  package private(set) var origin: String?
  package private(set) var step = 0
  package private(set) var steps = 0
  /// How often an older curve was left behind; parts of a curve fit together where this is the same.
  package private(set) var cuts = 0

  package init() {}

  /// A folder with a model of this run, the newest.
  package var modelPath: String? { checkpoints.last?.path ?? origin }

  /// - Parameter time: seconds since 1970, where the event is happening now.
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
        .began, firstStep == 0 && checkpoint == nil ? "run \(name) begins" : "goes on after step \(firstStep)\(from)",
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
      curve.add(record, event: event)
    case .evaluated(let record):
      evaluations.append(Evaluation(event: event, record: record))
      // Every second one says the same of a long run; the newest stays.
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

  private mutating func tell(_ kind: Entry.Kind, _ text: String, _ time: Double?) {
    story.append(Entry(event: event, step: step, time: time, kind: kind, text: text))
    if story.count > Self.storyLimit { story.removeFirst() }
  }

  private mutating func goBack(to step: Int) {
    cuts += 1
    curve.cut(after: step)
    evaluations.removeAll { $0.record.step > step }
    checkpoints.removeAll { $0.step > step }
  }
}
