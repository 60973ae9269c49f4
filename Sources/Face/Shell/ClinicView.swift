// The view of `ress clinic`: the last measurement of a run's router and attention, by step of recurrence, compared with
// the first.

import Wire

package enum ClinicView {
  /// Up to this many experts have a column each.
  private static let columnLimit = 16

  /// - Parameters:
  ///   - looks: `router.jsonl`, at least one.
  ///   - complaints: the warnings of the last measurement, as sentences.
  package static func text(_ looks: [RouterRecord], title: String, complaints: [String]) -> String {
    let last = looks.last!, first = looks.first!
    let count = last.experts
    let looked = looks.count == 1 ? "one measurement" : "\(looks.count) measurements since step \(first.step)"
    var parts = ["\(title), step \(last.step) (\(looked))"]
    if count == 0 {
      parts.append("The model has no routed experts.")
    } else {
      parts.append(
        "Load of each expert as a percentage of an even share, by step of recurrence:\n" + loads(last, count))
    }
    if count > 0 || !last.truncation.isEmpty { parts.append(steps(first, last, count)) }
    if count > 0 { parts.append(bias(last)) }
    parts.append(complaints.isEmpty ? "No warnings." : complaints.joined(separator: "\n"))
    return parts.joined(separator: "\n\n")
  }

  private static func loads(_ record: RouterRecord, _ count: Int) -> String {
    let shares = record.shares.map { $0.map { 100 * $0 * Double(count) } }
    func whole(_ value: Double) -> String { Format.fixed(value, 0) }
    guard count <= columnLimit else {
      var table = TextTable([
        ("step", .right), ("least", .right), ("expert", .left), ("most", .right), ("expert", .left), ("idle", .right),
      ])
      for (step, row) in shares.enumerated() {
        let least = row.indices.min { (row[$0], $0) < (row[$1], $1) }!
        let most = row.indices.max { (row[$0], -$0) < (row[$1], -$1) }!
        table.add([
          String(step + 1), whole(row[least]), String(least), whole(row[most]), String(most),
          String(row.count { $0 == 0 }),
        ])
      }
      return table.text
    }
    var table = TextTable([("step", .right)] + (0..<count).map { (String($0), .right) })
    for (step, row) in shares.enumerated() { table.add([String(step + 1)] + row.map(whole)) }
    return table.text
  }

  /// One row for each step of recurrence: the last measurement, and in brackets the first.
  private static func steps(_ first: RouterRecord, _ last: RouterRecord, _ count: Int) -> String {
    var table = TextTable([
      ("step", .right), ("experts in use", .right), ("router's entropy", .right), ("cut by top-k", .right),
    ])
    func cell(_ now: [Double], _ then: [Double], _ step: Int, _ text: (Double) -> String) -> String {
      guard step < now.count else { return "" }
      let before = step < then.count && first.step != last.step ? " (\(text(then[step])))" : ""
      return text(now[step]) + before
    }
    let most = count > 1 ? last.entropyLimit : 1
    for step in 0..<max(last.loads.count, last.truncation.count) {
      table.add([
        String(step + 1),
        cell(last.effectiveExperts, first.effectiveExperts, step) { Format.fixed($0, 1) + " of \(count)" },
        cell(last.entropy, first.entropy, step) { percent($0 / most) },
        cell(last.truncation, first.truncation, step) { percent($0) },
      ])
    }
    let note = first.step == last.step ? "" : " In brackets: at step \(first.step)."
    return table.text
      + "\nEntropy is a share of log E; 100 % means no preference. Cut: queries whose sparsemax would keep more than k keys."
      + note
  }

  private static func bias(_ record: RouterRecord) -> String {
    let all = record.bias.joined()
    let (least, most) = (all.min() ?? 0, all.max() ?? 0)
    let range = "The balancer's bias is between \(Format.fixed(least, 3)) and \(Format.fixed(most, 3))"
    guard record.bias.count == 1, record.bias[0].count <= columnLimit else { return range + "." }
    return range + ": " + record.bias[0].map { Format.fixed($0, 3) }.joined(separator: " ")
  }

  private static func percent(_ share: Double) -> String { Format.fixed(100 * share, 1) + " %" }
}
