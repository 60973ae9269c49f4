// Taps: a short causal convolution with w taps per channel, y = x + Σ_τ back[τ−1] ⊙ (x shifted τ tokens back) and,
// where tokens may see later ones, + Σ_τ ahead[τ−1] ⊙ (x shifted τ ahead). It gives a token its nearest neighbours
// and their order, which attention without positions cannot. The block has taps before attention and before the
// experts. Rows before the segment come from the tables and get no gradient.

import CKernels
import Kernels

package struct Taps {
  private let team: Team
  private let width: Int
  private let taps: Int
  private let twoSided: Bool

  init(_ sizes: Sizes, taps: Int, _ team: Team) {
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
  private func shape(_ span: Span) -> ress_taps_shape {
    ress_taps_shape(
      width: Int64(width), taps: Int64(taps), two_sided: twoSided ? 1 : 0, before: Int64(min(span.first, reach)),
      rows: Int64(span.rows.upperBound))
  }

  /// y (T, D) for a tile's rows, from x whose first row is the segment's first. It may be called in a task of a
  /// team.
  func forward(_ rows: Range<Int>, _ span: Span, x: RealPointer, _ weight: RealPointer, into y: RealPointer) {
    withUnsafePointer(to: shape(span)) {
      ress_taps_forward($0, Int64(rows.lowerBound), Int64(rows.upperBound), x, weight, y)
    }
  }

  /// dx (T, D), overwritten for a tile's rows, from dy (T, D) of the whole segment.
  func backwardInput(_ rows: Range<Int>, _ span: Span, dy: RealPointer, _ weight: RealPointer, into dx: RealPointer) {
    withUnsafePointer(to: shape(span)) {
      ress_taps_backward_input($0, Int64(rows.lowerBound), Int64(rows.upperBound), dy, weight, dx)
    }
  }

  /// dweight += from x and dy (T, D) of the whole segment.
  func backwardWeight(_ span: Span, x: RealPointer, dy: RealPointer, into dweight: RealPointer) {
    guard areOn else { return }
    let columns = Tiles(of: width, size: 64)
    let shape = shape(span)
    team.run(columns.count) { task, _ in
      let part = columns[task]
      withUnsafePointer(to: shape) {
        ress_taps_backward_weight($0, Int64(part.lowerBound), Int64(part.upperBound), x, dy, dweight)
      }
    }
  }
}
