// The attention of the baseline transformer: every query weighs every token that it may see,
//
//   p = softmax(τ q · key / √C − |F_i − F_j|),  G = H + (Σ_j p_ij val_j) Woᵀ
//
// Rotary positions (arXiv 2104.09864), learned scales and forget gates (`ForgetGates`) can be switched on.
//
// Scores exist for one head and one tile of rows at a time. The forward pass keeps only their logsumexp, and the
// backward pass computes the scores again (FlashAttention, arXiv 2205.14135).

import Kernels

package struct DenseAttention {
  private let sizes: Sizes
  private let team: Team
  /// By lane: the scores of a tile against all tokens, and their gradient, (tile, T) × 2.
  private let scores: Matrix
  private let maps: AttentionMaps
  /// Σ_j p_ij dp_ij, (T, H), which softmax's backward pass subtracts. Computed as dmixed · mixed, which is the same
  /// number, since mixed = Σ_j p_ij val_j and dp_ij = dmixed · val_j; so the rows need not be passed twice.
  private let delta: Matrix
  /// Cosines and sines of each position, (T, 2, C/2); empty without rotary positions.
  private let turns: Matrix
  private let forget: ForgetGates
  private let scales: ScoreScales

  package struct Activations {
    let queries: Matrix
    /// Σ_j p_ij val_j (T, D), and the logsumexp of the scores (T, H).
    let mixed, logsums: Matrix
    let forget: ForgetGates.Activations
    init(_ arena: Arena, _ sizes: Sizes) {
      queries = arena.matrix(sizes.segment, sizes.width)
      mixed = arena.matrix(sizes.segment, sizes.width)
      logsums = arena.matrix(sizes.segment, sizes.heads)
      forget = .init(arena, sizes)
    }
  }

  init(_ arena: Arena, _ sizes: Sizes, team: Team) {
    self.sizes = sizes
    self.team = team
    scores = arena.matrix(team.laneCount, 2 * Sizes.rowTile * sizes.segment)
    maps = AttentionMaps(arena, sizes, team: team)
    delta = arena.matrix(sizes.segment, sizes.heads)
    forget = ForgetGates(arena, sizes, team: team)
    scales = ScoreScales(arena, sizes)
    turns = arena.matrix(sizes.model.positions == .rotary ? sizes.segment : 0, sizes.headWidth)
    if arena.isReal { fillTurns() }
  }

  private var scale: Real { 1 / Real(sizes.headWidth).squareRoot() }
  private var half: Int { sizes.headWidth / 2 }

  /// Position i rotates pair n by i · 10000^(−2n/C). Computed in double, so that the angles of late positions are
  /// exact enough.
  private func fillTurns() {
    for position in 0..<turns.rows {
      for pair in 0..<half {
        let rate = SameEverywhere.pow(10_000, -2 * Double(pair) / Double(sizes.headWidth)) / (2 * .pi)
        turns.row(position)[pair] = Real(SameEverywhere.cosine(turns: Double(position) * rate))
        turns.row(position)[half + pair] = Real(SameEverywhere.sine(turns: Double(position) * rate))
      }
    }
  }

  /// Rotates rows in place by their positions (direction 1), or back (−1).
  private func turn(_ x: Matrix, positions: Range<Int>, direction: Real) {
    guard turns.rows > 0 else { return }
    Rotation.apply(
      to: x, angles: turns.row(positions.lowerBound), heads: sizes.heads, half: half, direction: direction)
  }

  /// Which tokens a head's rows see: the first `width` tokens or, in a causal model, those up to each row's own.
  private func sight(_ head: Int, _ rows: Range<Int>, span: Span, weights w: BlockWeights, activations a: Activations)
    -> VisibleSoftmax
  {
    let isCausal = sizes.model.isCausal
    return VisibleSoftmax(
      width: isCausal ? rows.upperBound : span.rows.upperBound, first: rows.lowerBound, isCausal: isCausal,
      scale: scale * scales.factor(head, weights: w), logsumStride: sizes.heads, decays: a.forget.head(head))
  }

  private func head(_ head: Int) -> Range<Int> { head * sizes.headWidth..<(head + 1) * sizes.headWidth }

  /// x, h (T, D) → g (T, D). The keys and values of the rows are stored in the tables.
  func forward(
    _ x: Matrix, h: Matrix, span: Span, tables: StepTables, weights w: BlockWeights, activations a: Activations,
    into g: Matrix
  ) {
    let tiles = span.tiles
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      maps.project(x, rows, span: span, tables: tables, weights: w, queries: a.queries)
      turn(a.queries[rows: rows], positions: rows, direction: 1)
      turn(tables.keys[rows: rows], positions: rows, direction: 1)
    }
    forget.forward(x, span: span, tables: tables, weights: w, activations: a.forget)
    team.run(sizes.heads * tiles.count) { task, lane in
      let number = task % sizes.heads
      let columns = head(number)
      // Later rows see more tokens and take longer, so they are first; then the lanes end at about the same time.
      let rows = tiles[tiles.count - 1 - task / sizes.heads]
      let sight = sight(number, rows, span: span, weights: w, activations: a)
      let seen = 0..<sight.width
      let scores_TS = Matrix(scores.row(lane), rows: rows.count, columns: seen.count)
      BLAS.multiplyTransposed(
        a.queries[rows: rows][columns: columns], tables.keys[rows: seen][columns: columns], into: scores_TS)
      sight.forward(scores_TS, logsums: a.logsums.row(rows.lowerBound) + number)
      BLAS.multiply(scores_TS, tables.values[rows: seen][columns: columns], into: a.mixed[rows: rows][columns: columns])
    }
    maps.output(a.mixed, h: h, span: span, weights: w, into: g)
  }

  /// dg (T, D) → dx (T, D), overwritten. The caller adds the residual path: dg is also the gradient of h.
  func backward(
    _ x: Matrix, span: Span, tables: StepTables, weights w: BlockWeights, activations a: Activations, dg: Matrix,
    dx: Matrix, gradient d: BlockWeights
  ) {
    let tiles = span.tiles
    maps.backwardOutput(a.mixed, span: span, weights: w, dg: dg, gradient: d) { rows in
      for row in rows {
        for head in 0..<sizes.heads {
          let at = row * sizes.width + head * sizes.headWidth
          delta.row(row)[head] = Vectors.dot(
            maps.dmixed.pointer + at, a.mixed.pointer + at, count: sizes.headWidth)
        }
      }
    }
    forget.beginBackward()
    scales.beginBackward()
    // Heads have columns of their own, so they run in parallel. Within a head, tiles add to the keys' gradient in
    // order.
    team.run(sizes.heads) { number, lane in
      let columns = head(number)
      for index in 0..<tiles.count {
        let rows = tiles[index]
        let sight = sight(number, rows, span: span, weights: w, activations: a)
        let seen = 0..<sight.width
        let p_TS = Matrix(scores.row(lane), rows: rows.count, columns: seen.count)
        let dp_TS = Matrix(p_TS.pointer + Sizes.rowTile * sizes.segment, rows: rows.count, columns: seen.count)
        let queries_TC = a.queries[rows: rows][columns: columns]
        let keys_SC = tables.keys[rows: seen][columns: columns]
        let dmixed_TC = maps.dmixed[rows: rows][columns: columns]
        BLAS.multiplyTransposed(queries_TC, keys_SC, into: p_TS)
        BLAS.multiplyTransposed(dmixed_TC, tables.values[rows: seen][columns: columns], into: dp_TS)
        sight.backward(
          p_TS, dp: dp_TS, logsums: a.logsums.row(rows.lowerBound) + number, delta: delta.row(rows.lowerBound) + number,
          ddecays: sizes.forgets ? forget.ddecays.row(number) : nil)
        BLAS.transposeMultiply(p_TS, dmixed_TC, into: maps.dvalues[rows: seen][columns: columns], adding: true)
        BLAS.transposeMultiply(dp_TS, queries_TC, into: maps.dkeys[rows: seen][columns: columns], adding: true)
        BLAS.multiply(dp_TS, keys_SC, into: maps.dqueries[rows: rows][columns: columns])
        addScaleGradient(number, rows, activations: a)
      }
    }
    scales.finishBackward(d)
    maps.backwardProject(x, span: span, weights: w, dx: dx, gradient: d) { rows in
      turn(maps.dqueries[rows: rows], positions: rows, direction: -1)
      turn(maps.dkeys[rows: rows], positions: rows, direction: -1)
    }
    forget.backward(x, span: span, tables: tables, weights: w, dx: dx, gradient: d)
  }

  /// The gradient of a head's log τ. Scores are linear in τ and in the query, so it is Σ q · dq.
  private func addScaleGradient(_ head: Int, _ rows: Range<Int>, activations a: Activations) {
    guard sizes.model.scalesScores else { return }
    for row in rows {
      let at = row * sizes.width + head * sizes.headWidth
      scales.gradient[head] += Vectors.dot(
        a.queries.pointer + at, maps.dqueries.pointer + at, count: sizes.headWidth)
    }
  }
}
