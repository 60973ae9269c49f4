// Taps: y = x + Σ_τ back[τ−1] ⊙ (x shifted τ tokens back), and where a token may see later ones + Σ_τ ahead[τ−1] ⊙ (x shifted τ
// ahead). A causal convolution of w taps a channel: with it a token knows its nearest neighbours and their order. The block has
// them before attention and before the experts. Rows before the segment come from the tables and get no gradient.

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

  /// Rows before a segment that its first row reads.
  var reach: Int { taps - 1 }
  var areOn: Bool { taps > 1 }

  /// Rows of the tables that taps of `span` reach back to, and those of the segment computed so far.
  private func shape(_ span: Span) -> ress_taps_shape {
    ress_taps_shape(
      width: Int64(width), taps: Int64(taps), two_sided: twoSided ? 1 : 0, before: Int64(min(span.first, reach)),
      rows: Int64(span.rows.upperBound))
  }

  /// Rows of a tile, from x whose first row is the segment's, into y (T, D). A task of a team may call it.
  func forward(_ rows: Range<Int>, _ span: Span, x: RealPointer, _ weight: RealPointer, into y: RealPointer) {
    withUnsafePointer(to: shape(span)) {
      ress_taps_forward($0, Int64(rows.lowerBound), Int64(rows.upperBound), x, weight, y)
    }
  }

  /// The gradient of a tile's rows of x, dx (T, D) overwritten, from dy (T, D) of the whole segment.
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
