// Five steps of training compared with PyTorch's: AdamW, clipping, warm-up, the balancer.
// Benchmarks/pytorch/save_golden.py wrote Tests/Golden/trajectory.json.

import Configuration
import Foundation
import Kernels
import Model
import Testing
import Training

@Suite struct TrajectoryTests {
  struct Tensor: Decodable { var values: [Double] }
  struct Trajectory: Decodable {
    struct Sizes: Decodable {
      var width, heads, steps, segment, memory_slots, cache, window, structure_rank, graph_degree, keys: Int
      var recency_taps, experts, active_experts, expert_width, vocabulary, sequence_length: Int
      var smooth_weight, balance_weight, router_z_weight, balancer_rate: Double
    }
    struct Optimizer: Decodable {
      var steps, warmup_steps: Int
      var learning_rate, beta1, beta2, epsilon, weight_decay, clip, final_fraction, decay_fraction: Double
      var schedule: Schedule
      var configuration: OptimizerConfiguration {
        var o = OptimizerConfiguration()
        o.learningRate = learning_rate
        o.beta1 = beta1
        o.beta2 = beta2
        o.epsilon = epsilon
        o.weightDecay = weight_decay
        o.clip = clip
        o.warmupSteps = warmup_steps
        o.schedule = schedule
        o.finalFraction = final_fraction
        o.decayFraction = decay_fraction
        return o
      }
    }
    struct Step: Decodable {
      struct Losses: Decodable { var total, task, smooth, balance, z: Double }
      var learning_rate, norm: Double
      var losses: Losses
      var loads: [Int]
      var router_bias: Tensor
    }
    var configuration: Sizes
    var optimizer: Optimizer
    var tokens: [[Int32]]
    var parameters: [String: Tensor]
    var steps: [Step]
    var final: [String: Tensor]
  }
  struct Schedules: Decodable {
    struct Row: Decodable {
      var optimizer: Trajectory.Optimizer
      var rates: [Double]
    }
    var schedules: [Row]
  }

  static func load<Value: Decodable>(_ name: String, as type: Value.Type) throws -> Value {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    return try JSONDecoder().decode(type, from: Data(contentsOf: folder.appendingPathComponent("Golden/\(name).json")))
  }

  @Test func `five steps of training follow PyTorch's`() throws {
    let golden = try Self.load("trajectory", as: Trajectory.self)
    let sizes = golden.configuration
    var configuration = RunConfiguration()
    configuration.model = .firstForm
    configuration.model.width = sizes.width
    configuration.model.heads = sizes.heads
    configuration.model.steps = sizes.steps
    configuration.model.segment = sizes.segment
    configuration.model.memorySlots = sizes.memory_slots
    configuration.model.cache = sizes.cache
    configuration.model.window = sizes.window
    configuration.model.structureRank = sizes.structure_rank
    configuration.model.graphDegree = sizes.graph_degree
    configuration.model.keys = sizes.keys
    configuration.model.recencyTaps = sizes.recency_taps
    configuration.model.experts = sizes.experts
    configuration.model.activeExperts = sizes.active_experts
    configuration.model.expertWidth = sizes.expert_width
    configuration.model.smoothWeight = sizes.smooth_weight
    configuration.model.balanceWeight = sizes.balance_weight
    configuration.model.routerZWeight = sizes.router_z_weight
    configuration.model.balancerRate = sizes.balancer_rate
    configuration.optimizer = golden.optimizer.configuration
    configuration.training.steps = golden.optimizer.steps
    configuration.training.batchSequences = golden.tokens.count
    let layout = ParameterLayout(configuration.model, vocabulary: sizes.vocabulary)
    let trainer = try Trainer(
      alone: configuration, vocabulary: sizes.vocabulary, source: ListSource(golden.tokens), threads: 1)
    trainer.parameters.forEachTensor { entry, values in
      for index in 0..<entry.count { values[index] = Real(golden.parameters[entry.name]!.values[index]) }
    }
    for (index, step) in golden.steps.enumerated() {
      let result = try trainer.step(index)
      #expect(abs(result.losses.total - step.losses.total) < 2e-3, "step \(index)")
      #expect(abs(result.gradientNorm - step.norm) < 2e-3 * step.norm, "step \(index)")
      #expect(abs(result.learningRate - step.learning_rate) < 1e-9)
      #expect(result.loads == step.loads, "step \(index)")
      let bias = layout.denseEntry("router/bias")!
      for expert in 0..<sizes.experts {
        #expect(abs(Double(trainer.parameters.dense[bias.offset + expert]) - step.router_bias.values[expert]) < 1e-6)
      }
    }
    trainer.parameters.forEachTensor { entry, values in
      let expected = golden.final[entry.name]!.values
      // Adam divides by the magnitude of the gradient, so a rounding error of a tiny gradient changes a weight
      // noticeably.
      let worst = (0..<entry.count).map { abs(Double(values[$0]) - expected[$0]) }.max() ?? 0
      #expect(worst < 5e-3, "\(entry.name) is \(worst) away")
    }
  }

  @Test func `learning rates follow the schedules that PyTorch's run used`() throws {
    for row in try Self.load("schedule", as: Schedules.self).schedules {
      let optimizer = row.optimizer.configuration
      for (step, rate) in row.rates.enumerated() {
        let ours = optimizer.learningRate(step: step, of: row.optimizer.steps)
        #expect(abs(ours - rate) < 1e-9, "\(optimizer.schedule), step \(step): \(ours), PyTorch \(rate)")
      }
    }
  }
}
