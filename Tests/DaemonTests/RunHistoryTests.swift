// The summary of a run's events: bounded in size, correct, and the same whether the events arrive one by one or all at
// once.

import Daemon
import Testing
import Wire

@Suite struct RunHistoryTests {
  private func record(
    _ step: Int, loss: Double? = nil, tokens: Int = 100, seconds: Double = 0.5, skipped: String? = nil
  ) -> StepRecord {
    StepRecord(
      step: step, loss: 0, task: loss ?? Double(step), smooth: 0, balance: 0, routerZ: 0, gradientNorm: 1,
      learningRate: 0.1, tokens: tokens, seconds: seconds, loads: [1, 2], skipped: skipped)
  }

  private func picture(_ events: [RunEvent]) -> RunHistory {
    events.enumerated().reduce(into: RunHistory()) { $0.take($1.element, number: $1.offset + 1, time: nil) }
  }

  @Test func `a band holds the smallest, the weighted mean and the largest value, and only finite ones`() throws {
    let light = try #require(Band(10, weight: 1)), heavy = try #require(Band(40, weight: 3))
    let band = light + heavy
    #expect(band.minimum == 10 && band.maximum == 40 && band.mean == 32.5)
    #expect(Band(.nan) == nil && Band(.infinity) == nil && Band(1, weight: 0) == nil)
  }

  @Test(arguments: [1, 7, 8, 9, 16, 17, 1000, 4099])
  func `a curve of any length is as if it had been folded at its last width at once`(count: Int) {
    var curve = Curve(limit: 8)
    let first = 5
    let steps = first..<first + count
    for step in steps {
      curve.add(record(step, loss: Double(step * step % 97)), event: step)
    }
    #expect(curve.buckets.count <= 8 && curve.buckets.count > 3 || count < 4)
    #expect(curve.buckets.first?.first == first && curve.buckets.last?.last == steps.last)
    for bucket in curve.buckets {
      let own = steps.filter { ($0 - 1) / curve.width == (bucket.first - 1) / curve.width }
      let losses = own.map { Double($0 * $0 % 97) }
      #expect(bucket.first == own.first && bucket.last == own.last && bucket.event == own.last)
      #expect(bucket.loss?.minimum == losses.min() && bucket.loss?.maximum == losses.max())
      #expect(abs(bucket.loss!.mean - losses.reduce(0, +) / Double(own.count)) < 1e-9)
    }
  }

  @Test func `a spike of one step in a long run remains visible, and a loss that is not finite leaves a gap`() {
    var events = (1...30_000).map { RunEvent.stepped(record($0, loss: 2)) }
    events[12_344] = .stepped(record(12_345, loss: 99))
    events[20_000] = .stepped(record(20_001, loss: .nan, skipped: "a gradient that is no number"))
    let curve = picture(events).curve
    #expect(curve.buckets.count <= curve.limit)
    #expect(curve.buckets.compactMap(\.loss?.maximum).max() == 99)
    #expect(curve.buckets.allSatisfy { $0.loss.map { $0.mean.isFinite } ?? false })
    #expect(curve.buckets.reduce(0) { $0 + $1.skipped } == 1)
  }

  @Test func `a step that was not applied leaves a gap though a part of its loss is finite`() {
    let curve = picture([
      .stepped(record(1, loss: 2)), .stepped(record(2, loss: 3, skipped: "the gradient is not finite")),
      .stepped(record(3, loss: 4)),
    ]).curve
    #expect(curve.buckets.map(\.loss?.mean) == [2, nil, 4] && curve.skipped == 1)
  }

  @Test func `tokens, time and the learning rate are added up in the points of a long run`() throws {
    var curve = Curve(limit: 2)
    for step in 1...3 { curve.add(record(step, tokens: 100, seconds: 2), event: step) }
    #expect(curve.buckets.map(\.tokens) == [200, 100] && curve.buckets.map(\.seconds) == [4, 2])
    #expect(try abs(#require(curve.buckets[0].learningRate).mean - 0.1) < 1e-12)
  }

  @Test func `the best evaluation is known however many there are, and is forgotten when the run goes back before it`()
  {
    var history = picture([
      .evaluated(EvaluationRecord(step: 2, loss: 3, sequences: 1)),
      .evaluated(EvaluationRecord(step: 4, loss: 1, sequences: 1)),
      .evaluated(EvaluationRecord(step: 6, loss: .nan, sequences: 1)),
      .evaluated(EvaluationRecord(step: 8, loss: 2, sequences: 1)),
    ])
    #expect(history.best?.step == 4)
    // A run that was at step 8 before.
    history.take(.stepped(record(8)), number: 5, time: nil)
    history.take(.began(name: "r", firstStep: 3, steps: 9, checkpoint: "c/3"), number: 6, time: nil)
    #expect(history.best?.step == 2)
  }

  @Test func `the state of each checkpoint is shown, and a removed one is marked`() {
    var history = picture([.saved(step: 3, path: "c/3"), .saved(step: 6, path: "c/6")])
    history.note(["c/3": .nothing, "c/6": .manifest(loss: 1.5, byteCount: 100), "c/9": .nothing])
    #expect(history.checkpoints.map(\.found) == [.nothing, .manifest(loss: 1.5, byteCount: 100)])
    #expect(history.findings == 2)
    history.note(["c/3": .nothing])
    #expect(history.findings == 2, "nothing new was found")
  }

  @Test func `generations count from 1 in each run, whatever their number among all runs`() {
    let events = [7, 9].map { RunEvent.placed(generation: UInt32($0), roster: []) }
    #expect(picture(events).generations.map(\.ordinal) == [1, 2])
    #expect(picture(events).generations.map(\.number) == [7, 9])
  }

  @Test func `throughput is tokens over seconds, so slow steps count for as long as they took`() throws {
    var curve = Curve(limit: 2)
    for (step, seconds) in [(1, 1.0), (2, 9.0), (3, 5.0)] {
      curve.add(record(step, tokens: 100, seconds: seconds), event: step)
    }
    let first = try #require(curve.buckets.first)
    #expect(curve.width == 2 && first.last == 2 && abs(first.throughput!.mean - 20) < 1e-9)
    let pace = try #require(curve.recent(steps: 20))
    #expect(abs(pace.tokensPerSecond! - 20) < 1e-9 && pace.secondsPerStep == 5)
  }

  @Test func `a run that continues from an older checkpoint drops the later part of its curve`() {
    let events: [RunEvent] =
      [.began(name: "r", firstStep: 0, steps: 9, checkpoint: nil)] + (1...6).map { .stepped(record($0)) }
      + [
        .evaluated(EvaluationRecord(step: 2, loss: 1, sequences: 1)),
        .evaluated(EvaluationRecord(step: 6, loss: 1, sequences: 1)), .saved(step: 3, path: "c/3"),
        .saved(step: 6, path: "c/6"), .state(.paused, reason: "on request"),
        .began(name: "r", firstStep: 3, steps: 9, checkpoint: "c/3"), .stepped(record(4, loss: 7)),
      ]
    let picture = picture(events)
    #expect(picture.curve.buckets.map(\.first) == [1, 2, 3, 4] && picture.curve.buckets.last?.loss?.mean == 7)
    #expect(picture.evaluations.map(\.record.step) == [2] && picture.checkpoints.map(\.path) == ["c/3"])
    #expect(picture.cuts == 1 && picture.modelPath == "c/3" && picture.step == 4)
    #expect(picture.story.map(\.text) == ["run r begins", "on request", "continues after step 3, from c/3"])
    #expect(picture.story.map(\.step) == [0, 6, 3])
  }

  @Test func `what a picture holds is bounded, and the newest stays`() {
    let look = RouterRecord(
      step: 3, active: 1, loads: [[1, 2], [3, 4]], entropy: [0.1, 0.2], bias: [[0, 0]], truncation: [])
    let many = (1...5000).flatMap { step -> [RunEvent] in
      [
        .evaluated(EvaluationRecord(step: step, loss: 1, sequences: 1)), .said("\(step)"),
        .placed(generation: UInt32(step), roster: []), .saved(step: step, path: "\(step)"),
      ]
    }
    let picture = picture(many + [.examined(look)])
    #expect(picture.evaluations.count <= 1000 && picture.evaluations.last?.record.step == 5000)
    #expect(picture.story.count <= RunHistory.storyLimit && picture.story.last?.text == "5000")
    #expect(picture.generations.count <= 100 && picture.generations.last?.number == 5000)
    #expect(picture.checkpoints.count <= 100 && picture.modelPath == "5000" && picture.router == look)
  }
}
