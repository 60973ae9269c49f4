// The input of attention at step t: X = norm(Hᵗ + step[t]; attn_norm) (without step[t] in the baseline), followed
// for ordered inputs by the taps (`Taps`).

import CKernels
import Kernels

/// Pre-norm as usual; `step[t]` tells the shared weights which step of recurrence they compute.
package struct StepInput {
  private let sizes: Sizes
  private let team: Team
  /// By lane: Hᵗ + step[t], its gradient, and the gradient of the norm's output, (3, tile, D).
  private let scratch: Matrix
  private let gainPartials, stepPartials: TilePartials
  private let taps: Taps

  package struct Activations {
    let rstd: RealPointer
    /// (T, D), after the taps.
    let x: Matrix
    init(_ arena: Arena, _ sizes: Sizes) {
      rstd = arena.reals(sizes.segment)
      x = arena.matrix(sizes.segment, sizes.width)
    }
  }

  init(_ arena: Arena, _ sizes: Sizes, _ team: Team) {
    self.sizes = sizes
    self.team = team
    scratch = arena.matrix(team.laneCount, 3 * Sizes.rowTile * sizes.width)
    gainPartials = TilePartials(arena, sizes)
    stepPartials = TilePartials(arena, sizes)
    taps = Taps(sizes, taps: sizes.attentionTaps, team)
  }

  /// h (T, D), step[t] (D) → a.x (T, D). The rows before the taps are stored in the tables.
  func forward(
    _ h: Matrix, step: RealPointer?, _ span: Span, _ tables: StepTables, _ w: BlockWeights, _ a: Activations
  ) {
    let width = Int64(sizes.width)
    let tiles = span.tiles
    team.run(tiles.count) { task, lane in
      let rows = tiles[task]
      var u = h.row(rows.lowerBound)
      if let step {
        u = scratch.row(lane)
        ress_add_row(Int64(rows.count), width, h.row(rows.lowerBound), step, u)
      }
      ress_rmsnorm_forward(
        Int64(rows.count), width, u, w.attnNorm, tables.inputs.row(span.start + rows.lowerBound),
        a.rstd + rows.lowerBound)
    }
    // A second run over the tiles: the taps of a row read normalised rows of the tile before it.
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      taps.forward(rows, span, x: tables.inputs.row(span.start), w.recency, into: a.x.pointer)
    }
  }

  /// dx (T, D) → dh (T, D) +=, dstep (D) +=
  func backward(
    _ h: Matrix, step: RealPointer?, _ span: Span, _ tables: StepTables, _ w: BlockWeights, _ a: Activations,
    dx: Matrix, dh: Matrix, _ d: BlockWeights, dstep: RealPointer?
  ) {
    let width = Int64(sizes.width)
    taps.backwardWeight(span, x: tables.inputs.row(span.start), dy: dx.pointer, into: d.recency)
    let tiles = span.tiles
    team.run(tiles.count) { task, lane in
      let rows = tiles[task]
      let count = rows.count * sizes.width
      let sum = scratch.row(lane)
      let du = sum + Sizes.rowTile * sizes.width
      let dx0 = du + Sizes.rowTile * sizes.width
      // The kernel computes addresses from the segment's first row; only this tile's rows are written.
      taps.backwardInput(rows, span, dy: dx.pointer, w.recency, into: dx0 - rows.lowerBound * sizes.width)
      var u = h.row(rows.lowerBound)
      if let step {
        u = sum
        ress_add_row(Int64(rows.count), width, h.row(rows.lowerBound), step, u)
      }
      du.update(repeating: 0, count: count)
      ress_rmsnorm_backward(
        Int64(rows.count), width, u, w.attnNorm, a.rstd + rows.lowerBound, dx0, du, gainPartials.begin(task))
      ress_add(Int64(count), du, dh.row(rows.lowerBound))
      ress_sum_rows(Int64(rows.count), width, du, stepPartials.begin(task))
    }
    gainPartials.fold(tiles.count, into: d.attnNorm)
    if let dstep { stepPartials.fold(tiles.count, into: dstep) }
  }
}
