// A run's `metrics.jsonl` as a table: one row for each step, one column for each number; an evaluation is in the row of
// the step that it followed.

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
  /// The event of a line of `metrics.jsonl`, with the bits that were written; nil if the line cannot be read.
  package static func event(_ line: Substring) -> RunEvent? {
    line.contains("\"validation_loss\"") ? evaluation(line) : step(line)
  }

  private static func evaluation(_ line: Substring) -> RunEvent? {
    guard let (step, object) = parsed(line) else { return nil }
    // JSONSerialization does not read every number back to the same bits.
    func number(_ name: String) -> Double { cell(object[name], name, in: line).flatMap { Double($0) } ?? .nan }
    let metrics = object.keys.filter { !["step", "validation_loss", "sequences", "time"].contains($0) }.sorted()
    return .evaluated(
      EvaluationRecord(
        step: step, loss: number("validation_loss"), sequences: object["sequences"] as? Int ?? 0,
        metrics: metrics.map { .init(name: $0, value: number($0)) }, time: object["time"] == nil ? nil : number("time"))
    )
  }

  /// A value that was not finite is null.
  private struct StepLine: Decodable {
    var step: Int
    var loss, task, smooth, balance, router_z, gradient_norm, learning_rate, seconds, time: Double?
    var tokens: Int?
    var loads: [Int]?
    var skipped: String?
  }

  private static func step(_ line: Substring) -> RunEvent? {
    guard let read = try? JSONDecoder().decode(StepLine.self, from: Data(line.utf8)) else { return nil }
    return .stepped(
      StepRecord(
        step: read.step, loss: read.loss ?? .nan, task: read.task ?? .nan, smooth: read.smooth ?? .nan,
        balance: read.balance ?? .nan, routerZ: read.router_z ?? .nan, gradientNorm: read.gradient_norm ?? .nan,
        learningRate: read.learning_rate ?? .nan, tokens: read.tokens ?? 0, seconds: read.seconds ?? .nan,
        loads: read.loads ?? [], skipped: read.skipped, time: read.time))
  }
}
