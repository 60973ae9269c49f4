// A run's `metrics.jsonl` as a table: one row for each step, one column for each number; an evaluation is in the row of the step that it
// followed.

import Foundation
import Wire

package struct MetricsTable {
  package private(set) var columns = ["step"]
  private var rows: [Int: [String: String]] = [:]

  /// An incomplete line, as a crash can leave at the end, is left out.
  package init(_ text: String) {
    for line in text.split(separator: "\n") {
      guard let (step, object) = Self.parsed(line) else { continue }
      // In the order of the line; the parsed object has no order.
      let names = object.keys.sorted { Self.place(of: $0, in: line) < Self.place(of: $1, in: line) }
      for name in names where name != "step" {
        guard let cell = Self.cell(object[name], name, in: line) else { continue }
        // The number of sequences and the time of an evaluation need columns of their own.
        let isEvaluation = object["validation_loss"] != nil
        let column = isEvaluation && ["sequences", "time"].contains(name) ? "validation_" + name : name
        if !columns.contains(column) { columns.append(column) }
        rows[step, default: [:]][column] = cell
      }
    }
  }

  /// RFC 4180.
  package var csv: String {
    ([columns.joined(separator: ",")]
      + rows.keys.sorted().map { step in
        ([String(step)] + columns.dropFirst().map { rows[step]![$0] ?? "" }).joined(separator: ",")
      }).map { $0 + "\r\n" }.joined()
  }

  private static func parsed(_ line: Substring) -> (step: Int, object: [String: Any])? {
    guard let object = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any],
      let step = object["step"] as? Int
    else { return nil }
    return (step, object)
  }

  private static func place(of name: String, in line: Substring) -> String.Index {
    line.range(of: "\"\(name)\"")?.lowerBound ?? line.endIndex
  }

  private static func cell(_ value: Any?, _ name: String, in line: Substring) -> String? {
    switch value {
    case is NSNull: return ""
    case let text as String: return "\"" + text.replacing("\"", with: "\"\"") + "\""
    case is [Any]: return nil
    default:
      // The digits as they were written; a conversion could change them.
      guard let key = line.range(of: "\"\(name)\":") else { return nil }
      return String(line[key.upperBound...].prefix { !",}".contains($0) })
    }
  }
}

extension MetricsTable {
  /// The event of a line of `metrics.jsonl`; nil if the line cannot be read.
  package static func event(_ line: Substring) -> RunEvent? {
    guard let (step, object) = parsed(line) else { return nil }
    func number(_ name: String) -> Double { (object[name] as? NSNumber)?.doubleValue ?? .nan }
    let time = (object["time"] as? NSNumber)?.doubleValue
    guard object["validation_loss"] == nil else {
      let metrics = object.keys.filter { !["step", "validation_loss", "sequences", "time"].contains($0) }.sorted()
      return .evaluated(
        EvaluationRecord(
          step: step, loss: number("validation_loss"), sequences: object["sequences"] as? Int ?? 0,
          metrics: metrics.map { .init(name: $0, value: number($0)) }, time: time))
    }
    return .stepped(
      StepRecord(
        step: step, loss: number("loss"), task: number("task"), smooth: number("smooth"), balance: number("balance"),
        routerZ: number("router_z"), gradientNorm: number("gradient_norm"), learningRate: number("learning_rate"),
        tokens: object["tokens"] as? Int ?? 0, seconds: number("seconds"), loads: object["loads"] as? [Int] ?? [],
        skipped: object["skipped"] as? String, time: time))
  }
}
