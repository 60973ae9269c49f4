// The input of attention at step t: X = norm(Hᵗ + step[t]; attn_norm) (without step[t] in the baseline), followed
// for ordered inputs by the taps (`Taps`).

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

  init(_ arena: Arena, _ sizes: Sizes, team: Team) {
    self.sizes = sizes
    self.team = team
    scratch = arena.matrix(team.laneCount, 3 * Sizes.rowTile * sizes.width)
    gainPartials = TilePartials(arena, sizes)
    stepPartials = TilePartials(arena, sizes)
    taps = Taps(sizes, taps: sizes.attentionTaps, team: team)
  }

  /// h (T, D), step[t] (D) → a.x (T, D). The rows before the taps are stored in the tables.
  func forward(
    _ h: Matrix, step: RealPointer?, span: Span, tables: StepTables, weights w: BlockWeights, activations a: Activations
  ) {
    let tiles = span.tiles(for: team)
    team.run(tiles.count) { task, lane in
      let rows = tiles[task]
      let u = input(h[rows: rows], step, sum: scratch.row(lane))
      let first = span.start + rows.lowerBound
      RMSNorm.forward(
        u, gain: w.attnNorm, into: tables.inputs[rows: first..<first + rows.count], rstd: a.rstd + rows.lowerBound)
    }
    // A second run over the tiles: the taps of a row read normalised rows of the tile before it.
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      taps.forward(rows, span, x: tables.inputs.row(span.start), weight: w.recency, into: a.x.pointer)
    }
  }

  /// h + step, computed in `sum`; h itself without a step.
  private func input(_ h: Matrix, _ step: RealPointer?, sum: RealPointer) -> Matrix {
    guard let step else { return h }
    h.adding(row: step, into: sum)
    return Matrix(sum, rows: h.rows, columns: h.columns)
  }

  /// dx (T, D) → dh (T, D) +=, dstep (D) +=
  func backward(
    _ h: Matrix, step: RealPointer?, span: Span, tables: StepTables, weights w: BlockWeights,
    activations a: Activations, dx: Matrix, dh: Matrix, gradient d: BlockWeights, dstep: RealPointer?
  ) {
    taps.backwardWeight(span, x: tables.inputs.row(span.start), dy: dx.pointer, into: d.recency)
    let tiles = span.tiles
    team.run(tiles.count) { task, lane in
      let rows = tiles[task]
      let sum = scratch.row(lane)
      let du = Matrix(sum + Sizes.rowTile * sizes.width, rows: rows.count, columns: sizes.width)
      let dx0 = Matrix(sum + 2 * Sizes.rowTile * sizes.width, rows: rows.count, columns: sizes.width)
      // The kernel computes addresses from the segment's first row; only this tile's rows are written.
      taps.backwardInput(
        rows, span, dy: dx.pointer, weight: w.recency, into: dx0.pointer - rows.lowerBound * sizes.width)
      du.clear()
      RMSNorm.backward(
        input(h[rows: rows], step, sum: sum), gain: w.attnNorm, rstd: a.rstd + rows.lowerBound, dy: dx0, dx: du,
        dgain: gainPartials.begin(task))
      Vectors.add(du.pointer, to: dh.row(rows.lowerBound), count: du.count)
      du.addRows(to: stepPartials.begin(task))
    }
    gainPartials.fold(tiles.count, into: d.attnNorm)
    if let dstep { stepPartials.fold(tiles.count, into: dstep) }
  }
}
