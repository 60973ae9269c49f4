// Taps: a short causal convolution with w taps per channel, y = x + Σ_τ back[τ−1] ⊙ (x shifted τ tokens back) and,
// where tokens may see later ones, + Σ_τ ahead[τ−1] ⊙ (x shifted τ ahead). It gives a token its nearest neighbours
// and their order, which attention without positions cannot. The block has taps before attention and before the
// experts. Rows before the segment come from the tables and get no gradient.

import Kernels

package struct Taps {
  private let team: Team
  private let width: Int
  private let taps: Int
  private let twoSided: Bool

  init(_ sizes: Sizes, taps: Int, team: Team) {
    self.team = team
    self.taps = taps
    width = sizes.width
    twoSided = sizes.model.tapsLookAhead
  }

  /// Number of rows before a segment that its first row reads.
  var reach: Int { taps - 1 }
  var areOn: Bool { taps > 1 }

  /// For a span: the number of rows of the tables before it that taps reach, and of rows of the segment computed so
  /// far.
  private func kernel(_ span: Span) -> TapsKernel {
    TapsKernel(
      width: width, taps: taps, isTwoSided: twoSided, before: min(span.first, reach), rows: span.rows.upperBound)
  }

  /// y (T, D) for a tile's rows, from x whose first row is the segment's first. It may be called in a task of a
  /// team.
  func forward(_ rows: Range<Int>, _ span: Span, x: RealPointer, weight: RealPointer, into y: RealPointer) {
    kernel(span).forward(rows, x: x, weight: weight, into: y)
  }

  /// dx (T, D), overwritten for a tile's rows, from dy (T, D) of the whole segment.
  func backwardInput(_ rows: Range<Int>, _ span: Span, dy: RealPointer, weight: RealPointer, into dx: RealPointer) {
    kernel(span).backwardInput(rows, dout: dy, weight: weight, into: dx)
  }

  /// dweight += from x and dy (T, D) of the whole segment.
  func backwardWeight(_ span: Span, x: RealPointer, dy: RealPointer, into dweight: RealPointer) {
    guard areOn else { return }
    let columns = Tiles(of: width, size: 64)
    let kernel = kernel(span)
    team.run(columns.count) { task, _ in
      kernel.backwardWeight(columns: columns[task], x: x, dout: dy, into: dweight)
    }
  }
}
