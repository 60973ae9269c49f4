// From the sums of a step to what the router clinic looks at.

import Configuration
import Model
import Wire

extension RouterRecord {
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
  }
}
