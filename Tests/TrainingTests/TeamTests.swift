// Teams of threads that compute units side by side: the same bits with any number of them, and no more of them than
// memory allows.

import Configuration
import Kernels
import Model
import TestSupport
import Testing
import Training

@Suite struct TeamTests {
  /// Six units of one sequence.
  private static var configuration: RunConfiguration {
    var c = TrainerTests.configuration
    c.training.unitSequences = 1
    return c
  }

  private func trainer(
    _ c: RunConfiguration = configuration, threads: Int, teams: Int, source: any SequenceSource = TrainerTests.source()
  ) throws -> Trainer {
    try Trainer(alone: c, vocabulary: 11, source: source, threads: threads, teams: teams)
  }

  @Test func `five steps and an evaluation give the same bits with any number of teams and threads`() throws {
    let alone = try trainer(threads: 1, teams: 1)
    let curve = try (0..<5).map { try alone.step($0) }
    let losses = try alone.evaluate(TrainerTests.source(count: 7), step: 5, questions: 5)
    let weights = TrainerTests.bits(alone.parameters)
    for (threads, teams) in [(2, 1), (2, 2), (3, 3), (5, 1), (5, 2), (5, 3), (6, 6), (7, 4)] {
      let other = try trainer(threads: threads, teams: teams)
      #expect(other.held.division.teams.count == teams)
      for step in 0..<5 { #expect(try other.step(step) == curve[step], "\(threads) threads, \(teams) teams") }
      #expect(try other.evaluate(TrainerTests.source(count: 7), step: 5, questions: 5) == losses)
      #expect(TrainerTests.bits(other.parameters) == weights, "\(threads) threads, \(teams) teams")
    }
  }

  @Test(arguments: [1, 2, 6]) func `sixty-four threads give the bits of one`(teams: Int) throws {
    let alone = try trainer(threads: 1, teams: 1), many = try trainer(threads: 64, teams: teams)
    for step in 0..<2 { #expect(try alone.step(step) == many.step(step)) }
    #expect(TrainerTests.bits(alone.parameters) == TrainerTests.bits(many.parameters))
  }

  @Test func `there are no more teams than units or threads`() throws {
    #expect(try trainer(threads: 3, teams: 9).held.division.teams.count == 3)
    #expect(try trainer(threads: 9, teams: 9).held.division.teams.count == 6)
  }

  private final class BrokenSource: SequenceSource {
    struct Unreadable: Error {}
    private let whole = TrainerTests.source()
    var sequenceCount: Int { whole.sequenceCount }
    var length: Int { whole.length }
    func read(_ sequence: Int, into buffer: inout SequenceBuffer) throws {
      guard sequence % 5 != 0 else { throw Unreadable() }
      whole.read(sequence, into: &buffer)
    }
  }

  @Test(arguments: [1, 3]) func `an error of one team ends the step, which throws it`(teams: Int) throws {
    let trainer = try trainer(threads: 3, teams: teams, source: BrokenSource())
    #expect(throws: BrokenSource.Unreadable.self) { for step in 0..<10 { _ = try trainer.step(step) } }
  }

  @Test(arguments: 1...9, 1...4)
  func `sums that are postponed have the order of those that are formed at once`(units: Int, seed: UInt64) {
    let random = Philox(seed: seed, stream: 3)
    func add(_ x: String, _ y: String) -> String { "(\(x)+\(y))" }
    var alone = UnitTree<String>(unitCount: units)
    let tree = TeamTree<String>()
    tree.begin(unitCount: units)
    let order = (0..<units).sorted { random.uniform(UInt64($0)) < random.uniform(UInt64($1)) }
    for (place, unit) in order.enumerated() {
      let value = random.uniform(UInt64(100 + unit)) < 0.2 ? nil : "\(unit)"
      alone.insert(value, at: UnitNode(level: 0, index: unit), add: add)
      tree.insert(
        value, at: UnitNode(level: 0, index: unit), postpones: random.uniform(UInt64(200 + place)) < 0.6, add: add)
    }
    while tree.takePairs(add) { tree.putBack() }
    #expect(tree.tree.isComplete && tree.tree.total == alone.total)
  }

  @Test func `postponed sums of many blocks are all formed`() {
    let team = Team(laneCount: 3), sums = PostponedSums(capacity: 1)
    let counts = [1, 70_000, 65_536, 200_001, 7]
    let total = counts.reduce(0, +)
    let (left, right) = (RealPointer.allocate(capacity: total), RealPointer.allocate(capacity: total))
    defer {
      left.deallocate()
      right.deallocate()
    }
    for round in 0..<2 {
      left.initialize(repeating: 1, count: total)
      for place in 0..<total { right[place] = Real(place % 1000) }
      var first = 0
      for count in counts {
        sums.add(right + first, to: left + first, count: count)
        first += count
      }
      sums.run(team)
      #expect((0..<total).allSatisfy { left[$0] == Real($0 % 1000) + 1 }, "round \(round)")
    }
  }

  private func choice(
    _ c: RunConfiguration, threads: Int, units: Int, memoryLimit: Int = .max, rowsTravel: Bool = false
  ) -> TeamChoice {
    TeamChoice(
      c, Sizes(c.model, vocabulary: 11), ParameterLayout(c, vocabulary: 11), threads: threads, units: units,
      heldExperts: 4, rowsTravel: rowsTravel, memoryLimit: memoryLimit)
  }

  @Test func `auto takes as many teams as threads where there are enough units, and as units where there are not`() {
    let c = RunConfiguration()
    #expect(choice(c, threads: 1, units: 8).teams == 1)
    #expect(choice(c, threads: 2, units: 8).teams == 2)
    #expect(choice(c, threads: 16, units: 64).teams == 16)
    #expect(choice(c, threads: 64, units: 8).teams == 8)
    #expect(choice(c, threads: 64, units: 1).teams == 1)
    // Three teams of two threads end eight units sooner than six teams of one, which would need two rounds.
    #expect(choice(c, threads: 6, units: 8).teams < 6)
  }

  @Test func `a number of teams is taken as it is, but not more than there are units or threads`() {
    var c = RunConfiguration()
    c.cluster.teams = 3
    #expect(choice(c, threads: 8, units: 8, memoryLimit: 1).teams == 3)
    #expect(choice(c, threads: 2, units: 8).teams == 2)
    #expect(choice(c, threads: 8, units: 1).teams == 1)
  }

  @Test func `auto takes fewer teams where memory is short, and never computes segments again for more teams`() {
    var c = RunConfiguration()
    c.data.sequenceLength = 8 * c.model.segment
    let roomy = choice(c, threads: 8, units: 8)
    #expect(roomy.teams == 8 && !roomy.shape.recomputes)
    for teams in 1...7 {
      let limit = roomy.unitBytes * teams + roomy.unitBytes / 2
      let tight = choice(c, threads: 8, units: 8, memoryLimit: limit)
      #expect(tight.teams <= teams && tight.teams >= max(1, teams - 2) && !tight.shape.recomputes, "\(teams): \(tight)")
      #expect(tight.teams == 1 || tight.teams * tight.unitBytes <= limit)
    }
    #expect(choice(c, threads: 8, units: 8, memoryLimit: 1 << 20).shape.recomputes)
    // Where rows travel, every team has two units under way.
    let travelling = choice(c, threads: 8, units: 16, rowsTravel: true)
    #expect((travelling.teams, travelling.lanes, travelling.places) == (8, 2, 16))
    #expect(choice(c, threads: 8, units: 8, rowsTravel: true).lanes == 1)
  }
}
