// The measures of a task, as text and as JSON.

import Configuration
import Foundation
import Wire

package enum MetricText {
  /// `validation loss 1.2345 nats (1.781 bits), accuracy 61.20 %`
  package static func sentence(loss: Double, _ metrics: [EvaluationRecord.Metric]) -> String {
    let bits = loss / log(2)
    let isText = metrics.contains { $0.name == "perplexity" }
    let parts = metrics.compactMap { metric -> String? in
      switch metric.name {
      case "perplexity": return "perplexity \(Format.fixed(metric.value, 2))"
      case "bits_per_byte":
        // If a token is a byte, this is the same number as before.
        return abs(metric.value - bits) < 1e-9 ? nil : "\(Format.fixed(metric.value, 3)) bits a byte"
      case "f1": return "F1 \(Format.fixed(100 * metric.value, 2)) %"
      default: return "\(metric.name.replacing("_", with: " ")) \(Format.fixed(100 * metric.value, 2)) %"
      }
    }
    return
      ([
        "validation loss \(Format.fixed(loss, 4)) nats\(isText || metrics.isEmpty ? " a token" : "") (\(Format.fixed(bits, 3)) bits)"
      ]
      + parts).joined(separator: ", ")
  }

  package static func json(_ metrics: [EvaluationRecord.Metric]) -> JSON {
    .object(metrics.map { ($0.name, .real($0.value)) })
  }
}
