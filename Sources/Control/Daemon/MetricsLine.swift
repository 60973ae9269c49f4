// Lines of `metrics.jsonl` and `router.jsonl`.

import Foundation
import RunFolder
import Wire

extension RunEvent {
  /// The file in which the event is recorded.
  func recordFile(in folder: String) -> MetricsFile {
    if case .examined = self { MetricsFile(routerIn: folder) } else { MetricsFile(folder: folder) }
  }

  /// The event's line in that file; numbers are printed so that they read back to the same bits.
  var metricsLine: String {
    func quoted(_ text: String) -> String {
      // A text always encodes.
      String(decoding: (try? JSONEncoder().encode(text)) ?? Data("null".utf8), as: UTF8.self)
    }
    func number(_ value: Double) -> String { value.isFinite ? "\(value)" : "null" }
    let time = time.map { ",\"time\":\(number($0))" } ?? ""
    switch self {
    case .stepped(let r):
      return "{\"step\":\(r.step),\"loss\":\(number(r.loss)),\"task\":\(number(r.task)),\"smooth\":\(number(r.smooth)),"
        + "\"balance\":\(number(r.balance)),\"router_z\":\(number(r.routerZ)),\"gradient_norm\":\(number(r.gradientNorm)),"
        + "\"learning_rate\":\(number(r.learningRate)),\"tokens\":\(r.tokens),\"seconds\":\(number(r.seconds))\(time),"
        + "\"loads\":\(r.loads)"
        + (r.skipped.map { ",\"skipped\":\(quoted($0))" } ?? "") + "}"
    case .evaluated(let r):
      return "{\"step\":\(r.step),\"validation_loss\":\(number(r.loss)),\"sequences\":\(r.sequences)\(time)"
        + r.metrics.map { ",\(quoted($0.name)):\(number($0.value))" }.joined() + "}"
    case .examined(let r):
      func list(_ values: [Double]) -> String { "[" + values.map(number).joined(separator: ",") + "]" }
      return "{\"step\":\(r.step),\"active\":\(r.active),\"loads\":[\(r.loads.map { "\($0)" }.joined(separator: ","))],"
        + "\"entropy\":\(list(r.entropy)),\"bias\":[\(r.bias.map(list).joined(separator: ","))],"
        + "\"truncation\":\(list(r.truncation))\(time)}"
    case .began, .state, .placed, .saved, .said: return "{}"
    }
  }
}
