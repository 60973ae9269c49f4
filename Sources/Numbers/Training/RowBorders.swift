// Where the dense parameters may be divided among their owners.
//
// Every owner updates one contiguous range of the dense parameters. A range may end between two tensors. Within a
// large tensor it may end between two rows as well: otherwise the owner of an embedding of 50,000 × 1,024 would hold
// the moments of all of it, and the other workers would wait for its update in every step.
//
// Only such rows count at which a chunk of the gradient's norm begins (`Optimizer.chunkSize`). The sum of squares of a
// chunk is then formed by one owner, with the same bits as if the whole tensor had one. A tensor is divided only if
// it is larger than an eighth of a worker's equal share, so a checkpoint of a cluster has few divided tensors, and no
// cut is farther from the ideal one than a sixteenth of a share, except for the length of a chunk.
//
// Rejected: pieces of fixed size that are parameters of their own everywhere. A worker's rows of a tensor are
// consecutive, so one range says the same with fewer messages and fewer datasets, and a single worker's checkpoints
// stay as they were.

import Model

package struct RowBorders {
  private let dense: [ParameterEntry]
  /// Values of the largest tensor that is not divided.
  private let largestWhole: Int

  package init(_ layout: ParameterLayout, workers: Int) {
    dense = layout.dense
    largestWhole = max(Optimizer.chunkSize, layout.denseCount / workers / 8)
  }

  /// The range of the dense parameters of each worker: equal shares, as far as the borders permit.
  package static func split(_ layout: ParameterLayout, workers: Int) -> [Range<Int>] {
    let borders = RowBorders(layout, workers: workers)
    var cuts = [0]
    for worker in 1..<max(1, workers) {
      cuts.append(max(borders.nearest(to: layout.denseCount * worker / workers), cuts.last!))
    }
    cuts.append(layout.denseCount)
    return (0..<workers).map { cuts[$0]..<cuts[$0 + 1] }
  }

  /// The border that is nearest to a place in the dense parameters; of two that are equally near, the first.
  package func nearest(to place: Int) -> Int {
    guard let entry = dense.first(where: { $0.range.contains(place) }) else { return dense.last?.range.upperBound ?? 0 }
    let step = step(of: entry)
    let before = entry.offset + (place - entry.offset) / step * step
    let after = min(before + step, entry.range.upperBound)
    return place - before <= after - place ? before : after
  }

  /// Values between two borders within a tensor.
  private func step(of entry: ParameterEntry) -> Int {
    guard entry.count > largestWhole else { return entry.count }
    let row = entry.valuesARow
    return row / RowBorders.commonDivisor(row, Optimizer.chunkSize) * Optimizer.chunkSize
  }

  private static func commonDivisor(_ a: Int, _ b: Int) -> Int { b == 0 ? a : commonDivisor(b, a % b) }
}
