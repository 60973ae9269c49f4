// What sparse and dense attention have in common: the linear maps before and after them. Queries, keys and values
// are the input X through three maps. The heads' output goes through a fourth map and is added to the residual
// stream. Between them each kind of attention computes its own weights.

import Kernels

package struct AttentionMaps {
  private let team: Team
  /// (T, D) gradients of the heads' output, queries, keys and values.
  let dmixed, dqueries, dkeys, dvalues: Matrix

  init(_ arena: Arena, _ sizes: Sizes, team: Team) {
    self.team = team
    dmixed = arena.matrix(sizes.segment, sizes.width)
    dqueries = arena.matrix(sizes.segment, sizes.width)
    dkeys = arena.matrix(sizes.segment, sizes.width)
    dvalues = arena.matrix(sizes.segment, sizes.width)
  }

  /// Computes a tile's queries (N, D), and its keys and values in the tables.
  func project(
    _ x: Matrix, _ rows: Range<Int>, span: Span, tables: StepTables, weights w: BlockWeights, queries: Matrix
  ) {
    let tableRows = span.start + rows.lowerBound..<span.start + rows.upperBound
    BLAS.apply(w.query, to: x[rows: rows], into: queries[rows: rows])
    BLAS.apply(w.key, to: x[rows: rows], into: tables.keys[rows: tableRows])
    BLAS.apply(w.value, to: x[rows: rows], into: tables.values[rows: tableRows])
  }

  /// G = H + mixed Woᵀ. (T, D)
  func output(_ mixed: Matrix, h: Matrix, span: Span, weights w: BlockWeights, into g: Matrix) {
    let tiles = span.tiles(for: team)
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      g[rows: rows].copy(from: h[rows: rows])
      BLAS.apply(w.output, to: mixed[rows: rows], into: g[rows: rows], adding: true)
    }
  }

  /// dmixed (T, D) from dg, and zeros in dkeys and dvalues, to which the heads then add. `tileDone` runs in each
  /// tile's task.
  func backwardOutput(
    _ mixed: Matrix, span: Span, weights w: BlockWeights, dg: Matrix, gradient d: BlockWeights,
    tileDone: (Range<Int>) -> Void = { _ in }
  ) {
    let tiles = span.tiles(for: team)
    let all = 0..<span.rows.count
    addWeightGradient(dg[rows: all], mixed[rows: all], into: d.output, team: team)
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      BLAS.multiply(dg[rows: rows], w.output, into: dmixed[rows: rows])
      dkeys[rows: rows].clear()
      dvalues[rows: rows].clear()
      tileDone(rows)
    }
  }

  /// dx (T, D), overwritten, from dqueries, dkeys and dvalues. `tileBegins` runs first in each tile's task.
  func backwardProject(
    _ x: Matrix, span: Span, weights w: BlockWeights, dx: Matrix, gradient d: BlockWeights,
    tileBegins: (Range<Int>) -> Void = { _ in }
  ) {
    let tiles = span.tiles(for: team)
    let all = 0..<span.rows.count
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      tileBegins(rows)
      BLAS.multiply(dqueries[rows: rows], w.query, into: dx[rows: rows])
      BLAS.multiply(dkeys[rows: rows], w.key, into: dx[rows: rows], adding: true)
      BLAS.multiply(dvalues[rows: rows], w.value, into: dx[rows: rows], adding: true)
    }
    addWeightGradient(dqueries[rows: all], x[rows: all], into: d.query, team: team)
    addWeightGradient(dkeys[rows: all], x[rows: all], into: d.key, team: team)
    addWeightGradient(dvalues[rows: all], x[rows: all], into: d.value, team: team)
  }
}
