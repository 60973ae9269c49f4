// The balancer: it evens out the loads of experts without a gradient (auxiliary-loss-free balancing, arXiv
// 2408.15664).

import Configuration
import Kernels
import Model

struct Balancer {
  let weights: Weights
  let experts: Int
  let rate: Real
  /// Whether `training.freeze` fixes the bias of each block.
  let isFrozen: [Bool]

  init(_ configuration: ModelConfiguration, _ held: HeldModel) {
    weights = held.weights
    experts = held.sizes.experts
    rate = Real(configuration.balancerRate)
    isFrozen = weights.blocks.indices.map { block in
      held.layout.denseEntry(ParameterLayout.blockPrefix(block, configuration) + "router/bias")?.isFrozen ?? false
    }
  }

  /// The bias of each expert, by block.
  var routerBias: [[Real]] { weights.blocks.map { block in (0..<experts).map { block.routerBias[$0] } } }

  /// router_bias_j += u · sign(mean load − load_j), for the experts of each block. It moves tokens from overloaded
  /// experts to idle ones.
  func apply(_ loads: [Int]) {
    for (block, w) in weights.blocks.enumerated() where !isFrozen[block] {
      let total = loads[block * experts..<(block + 1) * experts].reduce(0, +)
      for expert in 0..<experts {
        // (mean − load) · E, in integers, so that there is no rounding.
        let difference = total - loads[block * experts + expert] * experts
        if difference != 0 { w.routerBias[expert] += difference > 0 ? rate : -rate }
      }
    }
  }
}
