// Router statistics, compared with sums that are counted in another way.

import Configuration
import Kernels
import Model
import Testing

@Suite struct `Routing sums` {
  private let batch = [TinyModel.tokens(21), TinyModel.tokens(18, seed: 5)]
  /// The inputs of that batch.
  private let tokens = 20 + 17

  private func routing(_ configuration: ModelConfiguration = TinyModel.base, recompute: Recompute = .never) throws
    -> Routing
  {
    let tiny = TinyModel(configuration, recompute: recompute)
    try tiny.loss(batch, gradient: true)
    return tiny.lastRouting
  }

  @Test func `every token reaches its experts at every step of recurrence`() throws {
    let routing = try routing()
    for step in 0..<3 { #expect(routing.counts[4 * step..<4 * step + 4].reduce(0, +) == 2 * tokens) }
    var loads = [0, 0, 0, 0]
    routing.addLoads(to: &loads)
    #expect(loads.reduce(0, +) == 3 * 2 * tokens)
  }

  @Test func `the loads of separate blocks are counted separately`() throws {
    var configuration = TinyModel.base
    configuration.separateBlocks = true
    let routing = try routing(configuration)
    var loads = Array(repeating: 0, count: 12)
    routing.addLoads(to: &loads)
    #expect(loads == routing.counts)
  }

  @Test func `the load of an expert is the sum over the steps that use its block`() throws {
    var configuration = TinyModel.base
    (configuration.separateBlocks, configuration.steps, configuration.blocks) = (true, 3, 2)
    let routing = try routing(configuration)
    var loads = Array(repeating: 0, count: 8)
    routing.addLoads(to: &loads)
    // Steps 1 and 3 use the first block.
    let counts = (0..<3).map { Array(routing.counts[4 * $0..<4 * $0 + 4]) }
    #expect(loads == zip(counts[0], counts[2]).map(+) + counts[1])
  }

  @Test func `the load of an expert in the pool of separate blocks is the sum over all steps`() throws {
    var configuration = TinyModel.base
    (configuration.separateBlocks, configuration.poolExperts) = (true, true)
    let routing = try routing(configuration)
    var loads = [0, 0, 0, 0]
    routing.addLoads(to: &loads)
    for expert in 0..<4 {
      let counts = [0, 4, 8].map { routing.counts[$0 + expert] }
      #expect(loads[expert] == counts.reduce(0, +))
    }
    #expect(routing.counts[..<4] != routing.counts[4..<8], "the steps choose other experts")
  }

  @Test func `an undecided router has entropy log E, and a decided one almost 0`() throws {
    let tiny = TinyModel()
    tiny.parameters.forEachTensor { entry, values in
      if entry.name.hasSuffix("router/weight") { values.update(repeating: 0, count: entry.count) }
    }
    try tiny.loss(batch)
    // log 4
    for sum in tiny.lastRouting.entropy { #expect(abs(sum / Double(tokens) - 1.386_294_361) < 1e-5) }
    tiny.randomize(seed: 7)
    let mild = try routing().entropy
    tiny.parameters.forEachTensor { entry, values in
      if entry.name.hasSuffix("router/weight") { for index in 0..<entry.count { values[index] *= 1000 } }
    }
    try tiny.loss(batch)
    for (sure, mild) in zip(tiny.lastRouting.entropy, mild) {
      #expect(sure >= -1e-3 && sure < 0.2 * mild && mild < 1.387 * Double(tokens))
    }
  }

  @Test func `nothing is truncated where all keys are kept, and everything where one is kept`() throws {
    var configuration = TinyModel.base
    configuration.keys = nil
    #expect(try routing(configuration).truncated == [0, 0, 0])
    configuration.keys = 1
    let cut = try routing(configuration).truncated
    // Two heads. A support of size one is not truncated.
    for count in cut { #expect(count > tokens && count <= 2 * tokens) }
    configuration.activation = .softmax
    #expect(try routing(configuration).truncated == [0, 0, 0], "only sparsemax has a support of its own")
  }

  @Test func `a segment that is computed again is counted once`() throws {
    #expect(try routing(recompute: .always) == routing(recompute: .never))
  }
}
