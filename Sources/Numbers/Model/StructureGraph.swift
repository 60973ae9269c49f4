// SOES, the self-organizing encoder structure: each token chooses its neighbours by content.
//
//   e_ij = a_i · b_j / √R   over the visible tokens j, a and b two low-rank maps of the input (R is small, so this is
//                           cheap)
//   e_ij += bias of the kind, for every relation of i to j that the input gives
//   N_i  = the window around i, and g tokens outside of it: related ones first, then those with the largest e_ij
//   A_i  = softmax of e_i over N_i
//
// Attention computes scores for the neighbours only, and adds log A_ij + log |N_i| to them: 0 for a token of
// average weight. Gradients reach the maps and the biases through that term. The choice of N_i itself has no gradient.
// The smoothness loss Σ (Aᵗ − Aᵗ⁻¹)² keeps the graph from changing fast between the steps of recurrence.

import Kernels

package struct StructureGraph {
  private let sizes: Sizes
  private let team: Team
  private let visibleLimit: Int
  /// By lane: scores of a tile against every visible token, (tile, S).
  private let scores: Matrix
  private let heap: UnsafeMutablePointer<Int32>
  /// By lane: the tokens among which a row with relations chooses, and their scores, (S); empty in a model without
  /// relations.
  private let pool: Matrix
  private let places: UnsafeMutablePointer<Int32>
  /// Smoothness loss of each tile, in double, to be added in the order of tiles.
  private let smoothness: UnsafeMutablePointer<Double>
  private let smoothnessOwner: DoubleBuffer
  /// Gradients: of A (T, N), of the kept scores (T, N), of queries and keys (T, R).
  private let dweights, dscores, dqueries, dkeys: Matrix

  package struct Activations {
    /// a = X soes_qᵀ (T, R)
    let queries: Matrix
    let graph: GraphRows
    init(_ arena: Arena, _ sizes: Sizes) {
      queries = arena.matrix(sizes.segment, sizes.rank)
      graph = GraphRows(arena, rows: sizes.segment, capacity: sizes.neighbours)
    }
  }

  init(_ arena: Arena, _ sizes: Sizes, team: Team) {
    self.sizes = sizes
    self.team = team
    visibleLimit = sizes.visible
    scores = arena.matrix(team.laneCount, Sizes.rowTile * visibleLimit)
    heap = arena.indices(team.laneCount * max(sizes.degree, 1))
    pool = arena.matrix(team.laneCount, sizes.relationKinds > 0 ? visibleLimit : 0)
    places = arena.indices(pool.count)
    smoothnessOwner = DoubleBuffer(sizes.rowTiles)
    smoothness = smoothnessOwner.pointer
    dweights = arena.matrix(sizes.segment, sizes.neighbours)
    dscores = arena.matrix(sizes.segment, sizes.neighbours)
    dqueries = arena.matrix(sizes.segment, sizes.rank)
    dkeys = arena.matrix(sizes.segment, sizes.rank)
  }

  private var scale: Real { 1 / Real(sizes.rank).squareRoot() }

  private func scratch(_ lane: Int) -> GraphScratch {
    GraphScratch(
      heap: heap + lane * max(sizes.degree, 1), pool: pool.row(lane), places: places + lane * pool.columns)
  }

  /// The scores of all pairs exist for one tile of rows at a time, by lane; only the chosen N of each row are kept.
  ///
  /// x (T, D) → the graph of the span's rows. Their structure keys are stored in the tables.
  /// - Parameter relations: those of the segment's rows, with the step's biases; nil for none.
  func forward(
    _ x: Matrix, span: Span, relations: GraphRelations?, tables: StepTables, weights w: BlockWeights,
    activations a: Activations
  ) {
    let tiles = span.tiles(for: team)
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      let tableRows = span.start + rows.lowerBound..<span.start + rows.upperBound
      BLAS.apply(w.structureQuery, to: x[rows: rows], into: a.queries[rows: rows])
      BLAS.apply(w.structureKey, to: x[rows: rows], into: tables.structureKeys[rows: tableRows])
    }
    let kernel = GraphKernel(
      cached: span.cached, visible: span.cached + span.rows.upperBound, isCausal: sizes.model.isCausal,
      before: sizes.windowBefore, after: sizes.windowAfter, degree: sizes.degree, capacity: sizes.neighbours)
    team.run(tiles.count) { task, lane in
      let rows = tiles[task]
      let lastRow = sizes.model.isCausal ? rows.upperBound : span.rows.upperBound
      let visible = span.firstVisible..<span.start + lastRow
      let scores_TS = Matrix(scores.row(lane), rows: rows.count, columns: visible.count)
      BLAS.multiplyTransposed(a.queries[rows: rows], tables.structureKeys[rows: visible], into: scores_TS, scale: scale)
      relations?.add(to: scores_TS, rows: rows)
      kernel.forward(rows, scores: scores_TS, relations: relations, into: a.graph, scratch: scratch(lane))
    }
  }

  /// Σ_i Σ_j (A_ij − A'_ij)², where A' is the graph of the step before.
  func smoothness(_ span: Span, _ a: Activations, previous: Activations) -> Double {
    let tiles = span.tiles
    team.run(tiles.count) { task, _ in
      smoothness[task] = a.graph.squaredDifference(tiles[task], from: previous.graph)
    }
    return (0..<tiles.count).reduce(0) { $0 + smoothness[$1] }
  }

  /// dx (T, D) += from the gradients of attention's logits (T, H, k), and from the smoothness loss with respect to
  /// the graphs of the steps before and after. `smoothScale` is the factor of Σ (A − A')². drelations, by kind, += the
  /// gradient of the biases of `relations`.
  func backward(
    _ x: Matrix, span: Span, relations: GraphRelations?, tables: StepTables, weights w: BlockWeights,
    activations a: Activations, drelations: RealPointer?, previous: Activations?, next: Activations?,
    attention: SparseAttention.Activations, dlogits: RealPointer, smoothScale: Real, dx: Matrix,
    gradient d: BlockWeights
  ) {
    let tiles = span.tiles(for: team)
    let rowCount = span.rows.count
    let keys = tables.structureKeys.row(span.firstVisible)
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      dweights[rows: rows].clear()
      // Not a loop over the two: a list would be allocated in every step.
      if let previous {
        a.graph.backwardSquaredDifference(rows, from: previous.graph, factor: smoothScale, into: dweights)
      }
      if let next { a.graph.backwardSquaredDifference(rows, from: next.graph, factor: smoothScale, into: dweights) }
      a.graph.backwardScores(
        rows, scale: scale, gain: w.structureGain, support: attention.support, dlogits: dlogits, dweights: dweights,
        keys: keys, into: dscores, dqueries: dqueries)
    }
    let dkeys_TR = dkeys[rows: 0..<rowCount]
    dkeys_TR.clear()
    if let relations, let drelations {
      relations.backward(a.graph, rows: rowCount, dscores: dscores, into: drelations)
    }
    a.graph.backwardKeys(cached: span.cached, scale: scale, dscores: dscores, queries: a.queries, into: dkeys_TR)
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      BLAS.multiply(dqueries[rows: rows], w.structureQuery, into: dx[rows: rows], adding: true)
      BLAS.multiply(dkeys[rows: rows], w.structureKey, into: dx[rows: rows], adding: true)
    }
    addWeightGradient(dqueries[rows: 0..<rowCount], x[rows: 0..<rowCount], into: d.structureQuery, team: team)
    addWeightGradient(dkeys_TR, x[rows: 0..<rowCount], into: d.structureKey, team: team)
  }
}
