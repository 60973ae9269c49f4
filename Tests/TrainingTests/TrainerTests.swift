// The training step on one worker: the same bits with any number of threads, resumable from parameters and moments,
// errors that name the cause.

import Configuration
import Kernels
import Model
import TestSupport
import Testing
import Training

@Suite struct TrainerTests {
  static var configuration: RunConfiguration {
    var c = RunConfiguration.smallModel
    c.training.batchSequences = 6
    c.training.unitSequences = 2
    c.training.steps = 10
    c.optimizer.learningRate = 1e-2
    c.optimizer.warmupSteps = 2
    return c
  }

  static func source(count: Int = 40, length: Int = 40) -> ListSource {
    let random = Philox(seed: 12, stream: 4)
    return ListSource(
      (0..<count).map { sequence in
        (0...length).map { Int32(random.uniform(UInt64(sequence * 1000 + $0)) * 11) }
      })
  }

  static func trainer(
    _ c: RunConfiguration = configuration, threads: Int = 1, source: ListSource = source()
  ) throws -> Trainer {
    try Trainer(alone: c, vocabulary: 11, source: source, threads: threads)
  }

  static func bits(_ parameters: ParameterBuffer) -> [Real] {
    var all: [Real] = []
    parameters.forEachTensor { entry, values in all += UnsafeBufferPointer(start: values, count: entry.count) }
    return all
  }

  @Test func `ten steps give the same losses and weights with one, two and three threads`() throws {
    var curves: [[StepResult]] = []
    var weights: [[Real]] = []
    for threads in 1...3 {
      let trainer = try Self.trainer(threads: threads)
      curves.append(try (0..<10).map { try trainer.step($0) })
      weights.append(Self.bits(trainer.parameters))
    }
    #expect(curves[0] == curves[1] && curves[0] == curves[2])
    #expect(weights[0] == weights[1] && weights[0] == weights[2])
  }

  @Test func `the loss falls on text that can be learned`() throws {
    var c = Self.configuration
    c.training.steps = 60
    // Six sequences of 41 random tokens, all of which every step uses: they can only be memorised.
    let trainer = try Self.trainer(c, source: Self.source(count: 6))
    let first = try trainer.step(0).losses.task
    var last = first
    for step in 1..<60 { last = try trainer.step(step).losses.task }
    #expect(last < first - 0.5, "from \(first) to \(last)")
  }

  @Test func `a run continues from its weights and moments as if it had never stopped`() throws {
    let whole = try Self.trainer()
    for step in 0..<4 { _ = try whole.step(step) }
    let resumed = try Self.trainer()
    resumed.parameters.dense.update(from: whole.parameters.dense, count: whole.parameters.layout.denseCount)
    for expert in 0..<4 {
      resumed.parameters.experts[expert]!.update(
        from: whole.parameters.experts[expert]!, count: whole.parameters.layout.expertCount)
    }
    for (ours, theirs) in zip(resumed.optimizer.owned, whole.optimizer.owned) {
      ours.first.update(from: theirs.first, count: ours.entry.count)
      ours.second.update(from: theirs.second, count: ours.entry.count)
    }
    for step in 4..<10 { #expect(try resumed.step(step) == whole.step(step)) }
    #expect(Self.bits(resumed.parameters) == Self.bits(whole.parameters))
  }

  @Test func `evaluation changes nothing`() throws {
    let plain = try Self.trainer()
    let watched = try Self.trainer()
    for step in 0..<5 {
      let result = try watched.step(step)
      let losses = try watched.evaluate(Self.source(count: 7), step: step, questions: 5)
      #expect(losses?.task.isFinite == true)
      #expect(try plain.step(step) == result)
    }
  }

  @Test
  func
    `a step whose loss is not finite is not applied, names its unit and sequences, and training continues`()
    throws
  {
    let trainer = try Self.trainer()
    _ = try trainer.step(0)
    let healthy = trainer.parameters.experts[2]![5]
    trainer.parameters.experts[2]![5] = .infinity
    trainer.parameters.changed()
    let before = Self.bits(trainer.parameters)
    let skipped = try trainer.step(1).skipped
    #expect(skipped?.contains("the loss of unit") == true && skipped?.contains("training sequence") == true)
    #expect(Self.bits(trainer.parameters) == before)
    trainer.parameters.experts[2]![5] = healthy
    trainer.parameters.changed()
    let next = try trainer.step(2)
    #expect(next.skipped == nil && next.losses.total.isFinite)
    #expect(Self.bits(trainer.parameters) != before)
  }

  @Test(arguments: [false, true])
  func `the balancer moves tokens from overloaded experts to idle ones`(pooled: Bool) throws {
    var c = Self.configuration
    (c.model.separateBlocks, c.model.poolExperts) = (pooled, pooled)
    c.model.balancerRate = 0.002
    c.model.balanceWeight = 0
    c.optimizer.learningRate = 0
    // Every step uses the same six sequences and no weight changes, so only the bias changes the loads.
    let trainer = try Self.trainer(c, source: Self.source(count: 6))
    func spread(_ loads: [Int]) -> Int { loads.max()! - loads.min()! }
    let first = try trainer.step(0).loads
    var last = first
    for step in 1..<60 { last = try trainer.step(step).loads }
    #expect(spread(last) < spread(first) / 2, "from \(first) to \(last)")
    // The blocks of one pool have the same bias.
    #expect(trainer.routerBias.count == (pooled ? 2 : 1))
    #expect(trainer.routerBias.allSatisfy { $0 == trainer.routerBias[0] && $0.contains { $0 != 0 } })
  }
}
