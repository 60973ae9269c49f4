// The balancer: it evens out the loads of experts without a gradient (auxiliary-loss-free balancing, arXiv
// 2408.15664).

import Configuration
import Kernels
import Model

struct Balancer {
  let weights: Weights
  let sizes: Sizes
  let rate: Real
  /// Whether `training.freeze` fixes the bias of each block.
  let isFrozen: [Bool]

  init(_ configuration: ModelConfiguration, _ held: HeldModel) {
    weights = held.weights
    sizes = held.sizes
    rate = Real(configuration.balancerRate)
    isFrozen = weights.blocks.indices.map { block in
      held.layout.denseEntry(ParameterLayout.blockPrefix(block, configuration) + "router/bias")?.isFrozen ?? false
    }
  }

  /// The bias of each expert, by block.
  var routerBias: [[Real]] { weights.blocks.map { block in (0..<sizes.experts).map { block.routerBias[$0] } } }

  /// router_bias_j += u · sign(mean load − load_j), for the experts that each block can reach. It moves tokens from
  /// overloaded experts to idle ones. Where blocks share a pool, all of them have the same bias, because the loads
  /// are sums over the steps: a step may prefer some experts if the other steps prefer others.
  func apply(_ loads: [Int]) {
    for (block, w) in weights.blocks.enumerated() where !isFrozen[block] {
      let experts = sizes.experts, first = sizes.model.pool(ofBlock: block) * experts
      let total = loads[first..<first + experts].reduce(0, +)
      for expert in 0..<experts {
        // (mean − load) · E, in integers, so that there is no rounding.
        let difference = total - loads[first + expert] * experts
        if difference != 0 { w.routerBias[expert] += difference > 0 ? rate : -rate }
      }
    }
  }
}
