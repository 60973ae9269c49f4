// The lengths of documents: a bar for each power of two that occurs.

package struct LengthHistogram {
  private let lengths: [Int]

  package init(_ lengths: [Int]) { self.lengths = lengths }

  private static let barWidth = 40

  /// Lines such as `  256–511    1,234  ██████`; lengths of 0 count with those of 1.
  package var text: String {
    guard !lengths.isEmpty else { return "  none" }
    var counts: [Int: Int] = [:]
    for length in lengths { counts[Int.bitWidth - 1 - max(1, length).leadingZeroBitCount, default: 0] += 1 }
    let (low, high) = (counts.keys.min()!, counts.keys.max()!)
    let most = counts.values.max()!
    let rows = (low...high).map { power in
      let count = counts[power] ?? 0
      let name = power == 0 ? "1" : "\(Format.grouped(1 << power))–\(Format.grouped((1 << (power + 1)) - 1))"
      // At least one block for a count above 0.
      let bar = String(repeating: "█", count: count == 0 ? 0 : max(1, count * Self.barWidth / most))
      return (name, Format.grouped(count), bar)
    }
    let widths = (rows.map(\.0.count).max()!, rows.map(\.1.count).max()!)
    return rows.map { name, count, bar in
      let line =
        "  " + String(repeating: " ", count: widths.0 - name.count) + name + "  "
        + String(repeating: " ", count: widths.1 - count.count) + count + "  " + bar
      return bar.isEmpty ? String(line.dropLast(2)) : line
    }.joined(separator: "\n")
  }
}
