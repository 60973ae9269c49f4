// "Did you mean …?" for keys, options and commands: a mistyped name is one or two slips away from the right one, or was
// not typed to its end.

package enum NearestName {
  /// The candidate that is nearest to `name`; nil if none is near. The first of several equally near ones. Near means
  /// that at most a third of the longer name's letters differ (at least one, so that short names have hints too). If
  /// none is near, it is the only candidate that begins with `name`.
  package static func find(_ name: String, among candidates: [String]) -> String? {
    var best: (name: String, distance: Int)?
    for candidate in candidates {
      let limit = max(1, max(name.count, candidate.count) / 3)
      let found = distance(name, candidate)
      if found <= limit, found < best?.distance ?? .max { best = (candidate, found) }
    }
    if let best { return best.name }
    let longer = candidates.filter { !name.isEmpty && $0.lowercased().hasPrefix(name.lowercased()) }
    return longer.count == 1 ? longer[0] : nil
  }

  /// `; did you mean 'width'?`, or an empty text if no candidate is near: the end of an error message.
  package static func hint(for name: String, among candidates: [String]) -> String {
    find(name, among: candidates).map { "; did you mean '\($0)'?" } ?? ""
  }

  /// The number of letters to insert, drop or replace and of neighbours to swap (optimal string alignment), ignoring
  /// case.
  static func distance(_ first: String, _ second: String) -> Int {
    let a = Array(first.lowercased()), b = Array(second.lowercased())
    // Row i holds the distances from a's first i letters to every prefix of b; a swap looks two rows back.
    var beforeLast = [Int](), last = Array(0...b.count)
    for i in a.indices {
      var row = [i + 1]
      for j in b.indices {
        var cost = min(last[j + 1] + 1, row[j] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, beforeLast[j - 1] + 1) }
        row.append(cost)
      }
      beforeLast = last
      last = row
    }
    return last[b.count]
  }
}
