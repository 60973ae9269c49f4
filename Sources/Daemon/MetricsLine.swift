// Lines of `metrics.jsonl`.

import Foundation
import Wire

extension RunEvent {
  /// A line of `metrics.jsonl`; numbers print so that they read back to the same bits.
  var metricsLine: String {
    func quoted(_ text: String) -> String {
      // A text always encodes.
      String(decoding: (try? JSONEncoder().encode(text)) ?? Data("null".utf8), as: UTF8.self)
    }
    func number(_ value: Double) -> String { value.isFinite ? "\(value)" : "null" }
    switch self {
    case .stepped(let r):
      return "{\"step\":\(r.step),\"loss\":\(number(r.loss)),\"task\":\(number(r.task)),\"smooth\":\(number(r.smooth)),"
        + "\"balance\":\(number(r.balance)),\"router_z\":\(number(r.routerZ)),\"gradient_norm\":\(number(r.gradientNorm)),"
        + "\"learning_rate\":\(number(r.learningRate)),\"tokens\":\(r.tokens),\"seconds\":\(number(r.seconds)),"
        + "\"loads\":\(r.loads)"
        + (r.skipped.map { ",\"skipped\":\(quoted($0))" } ?? "") + "}"
    case .evaluated(let r):
      return "{\"step\":\(r.step),\"validation_loss\":\(number(r.loss)),\"sequences\":\(r.sequences)"
        + r.metrics.map { ",\(quoted($0.name)):\(number($0.value))" }.joined() + "}"
    case .began, .state, .placed, .saved, .said: return "{}"
    }
  }
}
