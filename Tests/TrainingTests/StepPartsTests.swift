// The parts beside the training step: the audit's draw and comparison, the clock, the search for numbers that are not
// finite, the learning rate and the division of work.

import Configuration
import Kernels
import Model
import Testing
import Training

@Suite struct StepPartsTests {
  private static let layout = ParameterLayout(TrainerTests.configuration.model, vocabulary: 11)

  private func plan(_ index: Int, workers: Int, units: Int = 8) -> WorkPlan {
    WorkPlan(
      index: index, units: evenShares(of: units, among: workers),
      expertOwners: (0..<4).map { $0 % workers }, layout: Self.layout)
  }

  // MARK: audit

  @Test func `an audit draws its share of the units, the same on every worker, others in another step`() {
    func drawn(_ share: Double, _ step: Int, workers: Int = 3) -> [Int] {
      Audit(share: share, seed: 7, step: step, unitCount: 1_000, workerCount: workers).units
    }
    #expect(drawn(0.1, 5) == drawn(0.1, 5) && drawn(0.1, 5) != drawn(0.1, 6))
    #expect((60...140).contains(drawn(0.1, 5).count))
    #expect(drawn(1, 5) == Array(0..<1_000) && drawn(0, 5) == [])
    #expect(drawn(1, 5, workers: 1) == [], "a single worker has nobody to compare with")
  }

  @Test func `the opinions about a unit come from its owner and the workers after it in the roster`() {
    let plan = plan(0, workers: 4)
    #expect((0...3).map { Audit.auditor(of: 7, opinion: $0, in: plan) } == [3, 0, 1, 2])
  }

  @Test func `only units with two different hashes are disagreements`() {
    let plan = plan(0, workers: 2)
    let audit = Audit(share: 1, seed: 1, step: 0, unitCount: 8, workerCount: 2)
    var notes = [StepNote(), StepNote()]
    for worker in 0...1 {
      notes[worker].owned = (0..<8).map { plan.units[worker].contains($0) ? UInt64($0 + 1) : 0 }
      notes[worker].audited = (0..<8).map { plan.units[worker].contains($0) ? 0 : UInt64($0 + 1) }
    }
    #expect(audit.disagreements(notes, in: plan).isEmpty)
    notes[0].audited[6] = 99
    let found = audit.disagreements(notes, in: plan)
    #expect(found.count == 1 && found[0].unit == 6)
    #expect(found[0].voters == [1, 0] && found[0].hashes == [7, 99])
  }

  // MARK: the note and the clock

  @Test func `a note arrives with all its fields, and numbers that do not form a note are refused`() {
    var note = StepNote()
    note.halt = .haltSaving
    (note.busy, note.sent) = (1.5, 4096)
    // Bits of a signalling NaN: the hashes are not numbers, and must keep every bit.
    (note.owned, note.audited) = ([1, 0x7FF0_0000_0000_0001], [.max, 3])
    #expect(StepNote(note.encoded) == note)
    #expect(StepNote(note.encoded.dropLast()) == nil)
    #expect(StepNote([9, 0, 0, 0]) == nil && StepNote([0, 0, 0, -1]) == nil && StepNote([0, 0, 0, 0.5]) == nil)
    #expect(StepNote([Double]()) == nil)
  }

  @Test func `a worker's busy time is that of the step without its waits, and bytes count from note to note`() {
    let exchange = SilentExchange()
    let clock = StepClock(exchange)
    let begun = ContinuousClock.now
    (exchange.waitedSeconds, exchange.sentBytes) = (10, 500)
    clock.begin(at: begun)
    (exchange.waitedSeconds, exchange.sentBytes) = (10.25, 800)
    var note = StepNote()
    clock.stamp(&note, at: begun + .seconds(1))
    #expect(note.busy == 0.75 && note.sent == 800)
    exchange.sentBytes = 1_000
    clock.stamp(&note, at: begun + .seconds(1))
    #expect(note.sent == 200)
    clock.read([note, StepNote()])
    #expect(clock.busy == [0.75, 0] && clock.sent == [200, 0])
  }

  // MARK: not finite

  @Test(arguments: [Double.nan, .infinity, -.infinity])
  func `the first unit with a loss that is not finite is found, whichever loss it is`(bad: Double) {
    let sizes = Sizes(TrainerTests.configuration.model, vocabulary: 11)
    let sound = UnitReport(sizes)
    #expect(NonFiniteSearch.unit(of: [sound, sound]) == nil)
    let fields: [WritableKeyPath<LossSums, Double>] = [\.task, \.smooth, \.balance, \.routerZ]
    for field in fields {
      var report = sound
      report.losses[keyPath: field] = bad
      #expect(NonFiniteSearch.unit(of: [sound, report, report]) == 1)
    }
  }

  // MARK: learning rate

  @Test func `every schedule rises to the learning rate in the warm-up and ends at its final fraction`() {
    var optimizer = OptimizerConfiguration()
    (optimizer.learningRate, optimizer.warmupSteps, optimizer.finalFraction) = (0.5, 4, 0.25)
    optimizer.decayFraction = 0.5
    for schedule in [Schedule.cosine, .wsd, .constant] {
      optimizer.schedule = schedule
      let rates = (0...100).map { optimizer.learningRate(step: $0, of: 100) }
      #expect(Array(rates[..<4]) == [0.125, 0.25, 0.375, 0.5])
      #expect(abs(rates[100] - (schedule == .constant ? 0.5 : 0.125)) < 1e-12)
      #expect(zip(rates[4...], rates[5...]).allSatisfy { $0 >= $1 })
    }
    optimizer.schedule = .wsd
    #expect(optimizer.learningRate(step: 49, of: 100) == 0.5 && optimizer.learningRate(step: 75, of: 100) == 0.3125)
  }

  // MARK: work plan

  @Test(arguments: [1, 2, 3, 7])
  func `the dense parameters are divided into whole tensors, each of which has one owner`(workers: Int) {
    let ranges = plan(0, workers: workers).denseRanges
    #expect(ranges.count == workers && ranges[0].lowerBound == 0 && ranges.last!.upperBound == Self.layout.denseCount)
    #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
    let borders = Set([0] + Self.layout.dense.map(\.range.upperBound))
    #expect(ranges.allSatisfy { borders.contains($0.lowerBound) && borders.contains($0.upperBound) })
  }

  @Test func `owners follow from the experts of each worker, and every worker finds its own`() {
    #expect(WorkPlan.owners(of: [[0, 3], [], [1, 2]], experts: 4) == [0, 2, 2, 0])
    let plan = plan(1, workers: 3)
    #expect(plan.myExperts == [1] && plan.myUnits == 2..<5 && plan.unitCount == 8)
  }
}

/// An exchange that exchanges nothing, whose counters a test sets.
private final class SilentExchange: GradientExchange {
  var waitedSeconds = 0.0
  var sentBytes = 0
  var sharesMemory: Bool { false }
  var notes: [StepNote] = []
  func prepare(_ number: Int) {}
  func begin(_ round: Round) {}
  func publish(_ sums: [(node: UnitNode, value: PooledBuffer?)]) {}
  func finish(unit: Int, _ report: UnitReport, _ end: UnitEnd) {}
  func reports() -> [UnitReport] { [] }
  func reduce(_ sums: [(node: UnitNode, value: PooledBuffer?)]) -> RealPointer { sums[0].value!.pointer }
  func gather(_ squares: [Double], _ note: StepNote) -> [Double] { squares }
  func share(_ parameters: ParameterBuffer) {}
  func probe(_ number: Int) -> LineSpeed? { nil }
}
