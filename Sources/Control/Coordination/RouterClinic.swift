// The router's health, from the statistics that workers take every `training.clinic_every` steps. A router that
// collapses sends nearly all tokens to few experts, so that the rest of the model is not used; the loss does not show
// this. The clinic reports it: once when a complaint begins, and once when it is over.

import Wire

package struct RouterClinic: Equatable, Sendable {
  /// A complaint, at a step of recurrence counted from 1.
  package enum Complaint: Hashable, Comparable, Sendable {
    /// Nearly all tokens of a step of recurrence go to the same few experts.
    case collapse(recurrence: Int)
    /// An expert got no token in any step of recurrence that can reach it, in several measurements in a row.
    case idle(expert: Int, pool: Int)
    /// More than half of the queries would give weight to more keys than `model.keys` allows.
    case truncation(recurrence: Int)
  }

  /// A complaint begins after this many measurements in a row that show it, and ends after as many without it.
  package static let looks = 3
  /// `RouterRecord.spread` below which a step has collapsed: of 64 experts, two a token, some eleven are in use.
  private static let collapsedSpread = 0.15
  /// Share of queries cut short above which k is too small.
  private static let truncatedShare = 0.5

  /// Number of measurements in a row with a complaint, and without one that has begun.
  private var seen: [Complaint: Int] = [:]
  private var absent: [Complaint: Int] = [:]
  private var standing: Set<Complaint> = []
  private var last: RouterRecord?

  package init() {}

  /// The complaints that have begun and not ended.
  package func sentences(keys: Int?) -> [String] {
    guard let last else { return [] }
    return standing.sorted().map { RouterClinic.sentence($0, last, keys: keys) }
  }

  /// Takes a measurement. Returns the sentences to report, new complaints first.
  package mutating func look(_ record: RouterRecord, keys: Int?) -> [String] {
    last = record
    let found = RouterClinic.complaints(record)
    seen = seen.filter { found.contains($0.key) }
    for complaint in found { seen[complaint, default: 0] += 1 }
    var sentences: [String] = []
    for complaint in seen.keys.sorted() where seen[complaint]! >= RouterClinic.looks {
      if standing.insert(complaint).inserted {
        sentences.append(RouterClinic.sentence(complaint, record, keys: keys))
      }
    }
    for complaint in standing.sorted() {
      absent[complaint] = found.contains(complaint) ? 0 : absent[complaint, default: 0] + 1
      guard absent[complaint]! >= RouterClinic.looks else { continue }
      standing.remove(complaint)
      absent[complaint] = nil
      sentences.append("router: step \(record.step): " + RouterClinic.name(complaint) + " is over")
    }
    return sentences
  }

  private static func complaints(_ record: RouterRecord) -> Set<Complaint> {
    var found: Set<Complaint> = []
    let shares = record.shares
    for (step, spread) in record.spread.enumerated() where spread < collapsedSpread {
      found.insert(.collapse(recurrence: step + 1))
    }
    if record.experts > 1 {
      for (pool, steps) in Dictionary(grouping: shares.indices, by: record.pool) {
        for expert in 0..<record.experts where steps.allSatisfy({ shares[$0][expert] == 0 }) {
          found.insert(.idle(expert: expert, pool: pool))
        }
      }
    }
    for (step, share) in record.truncation.enumerated() where share > truncatedShare {
      found.insert(.truncation(recurrence: step + 1))
    }
    return found
  }

  private static func name(_ complaint: Complaint) -> String {
    switch complaint {
    case .collapse(let step): "the collapse at step \(step) of recurrence"
    case .idle(let expert, let pool):
      pool == 0 ? "the idleness of expert \(expert)" : "that of expert \(expert) of block \(pool)"
    case .truncation(let step): "the truncation at step \(step) of recurrence"
    }
  }

  private static func sentence(_ complaint: Complaint, _ record: RouterRecord, keys: Int?) -> String {
    let begin = "router: step \(record.step): "
    switch complaint {
    case .collapse(let step):
      let row = record.shares[step - 1]
      let busiest = row.indices.max { (row[$0], -$0) < (row[$1], -$1) }!
      return begin
        + "step \(step) of recurrence uses \(tenths(record.effectiveExperts[step - 1])) of \(row.count) experts; expert \(busiest) "
        + "gets \(percent(row[busiest] * Double(record.active))) of the tokens. Raise model.balancer_rate or model.balance_weight"
    case .idle(let expert, let pool):
      let place = pool == 0 ? "" : " of block \(pool)"
      return begin
        + "expert \(expert)\(place) gets no token at all. Raise model.balancer_rate, or use fewer experts"
    case .truncation(let step):
      return begin
        + "at step \(step) of recurrence \(percent(record.truncation[step - 1])) of the queries would weigh more than the "
        + "\(keys.map { String($0) } ?? "kept") keys that model.keys allows. Raise model.keys"
    }
  }

  private static func percent(_ share: Double) -> String { "\(Int((100 * share).rounded())) %" }
  private static func tenths(_ value: Double) -> String { "\(Double(Int((10 * value).rounded())) / 10)" }
}
