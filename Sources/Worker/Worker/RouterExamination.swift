// Makes the router record of a step (what users see of the router, `training.clinic_every`) from the routing sums
// of its units.

import Configuration
import Model
import Wire

extension RouterRecord {
  /// Averages the sums over tokens. Lists are empty where the model has no routed experts, and `truncation` where
  /// attention keeps the whole support.
  init(_ routing: Routing, bias: [[Float]], step: Int, tokens: Int, model: ModelConfiguration) {
    let perToken = 1 / Double(max(tokens, 1))
    let cutsShort = !model.isTransformer && model.activation == .sparsemax && model.keys != nil
    self.init(
      step: step, active: model.activeExperts,
      loads: routing.experts == 0
        ? []
        : (0..<routing.steps).map { Array(routing.counts[$0 * routing.experts..<($0 + 1) * routing.experts]) },
      entropy: routing.experts == 0 ? [] : routing.entropy.map { $0 * perToken },
      bias: routing.experts == 0 ? [] : bias.map { $0.map { Double($0) } },
      truncation: cutsShort ? routing.truncated.map { Double($0) * perToken / Double(model.heads) } : [])
    if routing.experts > 0 { pools = (0..<routing.steps).map { model.pool(ofStep: $0) } }
  }
}
