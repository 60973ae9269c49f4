// Rows of a tensor. A large tensor may have several owners, each of which updates a contiguous range of its rows. The
// rows are consecutive in memory, so everything that an owner does with them is done with one range of values.

import Configuration

/// What a checkpoint has of a tensor: its values, and the two moments of AdamW where it is trained.
package enum StoredKind: Int, CaseIterable, Sendable {
  case values, first, second

  /// `model/embed/weight`, `optimizer/first/embed/weight`
  package func name(of entry: ParameterEntry) -> String {
    switch self {
    case .values: "model/" + entry.name
    case .first: "optimizer/first/" + entry.name
    case .second: "optimizer/second/" + entry.name
    }
  }
}

/// All rows of a tensor, or a range of them. A row is what one index of the first dimension selects: `valuesARow`
/// values.
package struct TensorRows: Equatable, Sendable {
  package let entry: ParameterEntry
  package let rows: Range<Int>

  /// - Parameter rows: all of them where it is nil.
  package init(_ entry: ParameterEntry, rows: Range<Int>? = nil) {
    let rows = rows ?? 0..<entry.rowCount
    precondition(0 <= rows.lowerBound && rows.upperBound <= entry.rowCount, "\(entry.name) has no rows \(rows)")
    self.entry = entry
    self.rows = rows
  }

  /// The rows whose values are in `values`, a range of the buffer that the tensor is in, or nil if the range has no
  /// value of the tensor. The range must not end within a row.
  package init?(_ entry: ParameterEntry, within values: Range<Int>) {
    let common = values.clamped(to: entry.range), size = entry.valuesARow
    guard !common.isEmpty else { return nil }
    let (first, end) = (common.lowerBound - entry.offset, common.upperBound - entry.offset)
    precondition(first % size == 0 && end % size == 0, "\(common) ends within a row of \(entry.name)")
    self.init(entry, rows: first / size..<end / size)
  }

  package var isWhole: Bool { rows == 0..<entry.rowCount }
  package var shape: [Int] { [rows.count] + entry.shape.dropFirst() }
  package var count: Int { rows.count * entry.valuesARow }
  /// The values, counted from the tensor's first one.
  package var values: Range<Int> { rows.lowerBound * entry.valuesARow..<rows.upperBound * entry.valuesARow }
  /// The values in the dense buffer, or in the expert's block.
  package var range: Range<Int> { entry.offset + values.lowerBound..<entry.offset + values.upperBound }

  /// The name in a checkpoint's files of the tensor `name` or of some of its rows: `name` for the whole tensor,
  /// otherwise for example `NAME/rows-from-0004096`.
  package func stored(as name: String) -> String {
    isWhole ? name : TensorRows.stored(name, from: rows.lowerBound)
  }

  /// The name in a checkpoint's files of those rows of a divided tensor that begin with row `first`. The digits let
  /// files list the ranges in order.
  package static func stored(_ name: String, from first: Int) -> String {
    name + "/rows-from-" + SpokenNumbers.padded(first, to: 7)
  }
}

extension ParameterEntry {
  /// What a checkpoint has of the tensor.
  package var storedKinds: [StoredKind] { isTrained ? StoredKind.allCases : [.values] }
  /// The first dimension.
  package var rowCount: Int { shape.first ?? 1 }
  package var valuesARow: Int { shape.dropFirst().reduce(1, *) }
}
