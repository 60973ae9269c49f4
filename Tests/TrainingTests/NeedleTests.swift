// The memory works: a value seen in the first segment is reproduced four segments later, far beyond the cache, so
// only the M slots can have carried it. Benchmarks/pytorch/needle.py has the same task in PyTorch.

import Configuration
import Kernels
import Model
import Testing
import Training

/// Five segments of 32 tokens: noise, with KEY and one of sixteen values at a random place of the first segment,
/// and QUERY as the last input, whose target is the value. There are no other targets.
private final class NeedleSource: SequenceSource {
  static let segment = 32
  static let values = 16
  static let key: Int32 = 16, query: Int32 = 17, firstNoise: Int32 = 18, noiseCount = 14
  static let vocabulary = 32

  let sequenceCount: Int
  let length = 5 * segment
  private let seed: UInt64

  init(seed: UInt64, sequenceCount: Int) {
    self.seed = seed
    self.sequenceCount = sequenceCount
  }

  func read(_ sequence: Int, into buffer: inout SequenceBuffer) {
    let random = Philox(seed: seed, stream: UInt64(sequence))
    buffer.tokens = (0..<length).map {
      Self.firstNoise + Int32(random.uniform(UInt64($0)) * Double(Self.noiseCount))
    }
    let place = Int(random.uniform(10_000) * Double(Self.segment - 1))
    let value = Int32(random.uniform(10_001) * Double(Self.values))
    (buffer.tokens[place], buffer.tokens[place + 1]) = (Self.key, value)
    buffer.tokens[length - 1] = Self.query
    buffer.targets = Array(repeating: -1, count: length)
    buffer.targets[length - 1] = value
  }

  func targetCount(of sequence: Int) -> Int { 1 }
}

@Suite struct NeedleTests {
  @Test func `a needle in the first segment is found four segments later`() throws {
    var c = RunConfiguration()
    // The form of the model in which the memory was first shown to work; the default model takes longer to learn
    // this.
    c.model = .firstForm
    c.model.width = 64
    c.model.heads = 4
    c.model.steps = 2
    c.model.segment = NeedleSource.segment
    c.model.memorySlots = 8
    c.model.cache = 16
    c.model.window = 4
    c.model.structureRank = 8
    c.model.graphDegree = 8
    c.model.keys = 8
    c.model.recencyTaps = 4
    c.model.experts = 4
    c.model.expertWidth = 32
    c.training.batchSequences = 32
    c.training.steps = 1500
    c.optimizer.learningRate = 7e-4
    c.optimizer.warmupSteps = 20
    c.optimizer.schedule = .constant
    let layout = ParameterLayout(c.model, vocabulary: NeedleSource.vocabulary)
    #expect(layout.totalCount < 70_000)
    let trainer = try Trainer(
      alone: c, vocabulary: NeedleSource.vocabulary, source: NeedleSource(seed: 1, sequenceCount: 100_000), threads: 1)
    // Sequences that training never sees. Sixteen equally likely values cost ln 16 = 2.77 nats for a model without
    // memory.
    let unseen = NeedleSource(seed: 2, sequenceCount: 64)
    var loss = Double.infinity
    var step = 0
    while step < c.training.steps && loss > 0.1 {
      _ = try trainer.step(step)
      step += 1
      if step % 50 == 0 { loss = Losses(try trainer.evaluate(unseen, step: step, questions: 64)!, c.model).task }
    }
    #expect(loss < 0.1, "after \(step) steps the value still costs \(loss) nats")
  }
}
