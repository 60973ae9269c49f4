// The curve of a run as text: training loss as stars, one a column (the mean of the column's steps), validation as o.

package struct LossChart: Sendable {
  private var training: [(step: Int, loss: Double)] = []
  private var validation: [(step: Int, loss: Double)] = []

  package init() {}

  /// Losses that are not finite leave a gap.
  package mutating func add(training loss: Double, step: Int) {
    if loss.isFinite { training.append((step, loss)) }
  }

  package mutating func add(validation loss: Double, step: Int) {
    if loss.isFinite { validation.append((step, loss)) }
  }

  /// Empty if there are fewer than two training points. `rows` counts the lines of the plot itself, at least 2.
  package func text(columns: Int, rows: Int) -> String {
    guard training.count >= 2, rows >= 2, columns >= 24 else { return "" }
    let all = training + validation
    let steps = all.map(\.step).min()!...all.map(\.step).max()!
    let labelColumns = 8, plotColumns = columns - labelColumns - 2
    let means = Self.means(training, steps, plotColumns)
    let losses = means.compactMap { $0 } + validation.map(\.loss)
    let low = losses.min()!, high = max(losses.max()!, low + 1e-9)
    func row(_ loss: Double) -> Int { Int(((high - loss) / (high - low) * Double(rows - 1)).rounded()) }

    var grid = Array(repeating: Array(repeating: " ", count: plotColumns), count: rows)
    for (column, mean) in means.enumerated() {
      if let mean { grid[row(mean)][column] = "*" }
    }
    for point in validation { grid[row(point.loss)][Self.column(point.step, steps, plotColumns)] = "o" }

    var lines = ["loss, nats a token (* training" + (validation.isEmpty ? ")" : ", o validation)")]
    for (index, cells) in grid.enumerated() {
      let label =
        index == 0 || index == rows - 1 || index == rows / 2
        ? Format.fixed(high - (high - low) * Double(index) / Double(rows - 1), 3) : ""
      var line = Self.pad(label, labelColumns) + " |" + cells.joined()
      while line.hasSuffix(" ") { line.removeLast() }
      lines.append(line)
    }
    lines.append(Self.pad("", labelColumns) + " +" + String(repeating: "-", count: plotColumns))
    let first = "step \(steps.lowerBound)", last = String(steps.upperBound)
    let gap = String(repeating: " ", count: max(1, plotColumns - first.count - last.count))
    lines.append(Self.pad("", labelColumns + 2) + first + gap + last)
    return lines.joined(separator: "\n")
  }

  /// The mean loss of each column's steps; nil for a column without steps.
  private static func means(_ points: [(step: Int, loss: Double)], _ steps: ClosedRange<Int>, _ columns: Int)
    -> [Double?]
  {
    var sums = Array(repeating: (total: 0.0, count: 0), count: columns)
    for point in points {
      let column = column(point.step, steps, columns)
      sums[column] = (sums[column].total + point.loss, sums[column].count + 1)
    }
    return sums.map { $0.count > 0 ? $0.total / Double($0.count) : nil }
  }

  private static func column(_ step: Int, _ steps: ClosedRange<Int>, _ columns: Int) -> Int {
    (step - steps.lowerBound) * (columns - 1) / max(1, steps.count - 1)
  }

  private static func pad(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
  }
}
