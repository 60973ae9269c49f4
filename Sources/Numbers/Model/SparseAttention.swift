// ASAM's attention: every query sees its neighbours in the graph and the memory slots, keeps its k largest scores
// per head, and weighs them by softmax (or sparsemax, arXiv 1602.02068, or 1.5-entmax, arXiv 1905.05702).
//
//   z_ij = τ (q_i · key_j / √C + gain · (log A_ij + log |N_i|)) − |F_i − F_j|   for a neighbour j (F: `ForgetGates`)
//   z_ij = τ (q_i · keyS_j / √C + bias)                                         for a memory slot j
//   G = H + (Σ_j p_ij val_j) Woᵀ

import Configuration
import Kernels

package struct SparseAttention {
  private let sizes: Sizes
  private let team: Team
  /// By lane: scores and a copy of them, 2 (N + M); an order of positions, N + M.
  private let scratch: Matrix
  private let order: UnsafeMutablePointer<Int32>
  private let maps: AttentionMaps
  private let forget: ForgetGates
  private let scales: ScoreScales
  /// Gradient of the kept logits, (T, H, k).
  let dlogits: RealPointer

  package struct Activations {
    let queries: Matrix
    let support: AttentionSupport
    /// Σ_j p_ij val_j (T, D)
    let mixed: Matrix
    /// For each head and tile, the number of rows whose exact sparsemax support is larger than k.
    let truncated: UnsafeMutablePointer<Int32>
    let forget: ForgetGates.Activations
    init(_ arena: Arena, _ sizes: Sizes) {
      queries = arena.matrix(sizes.segment, sizes.width)
      support = AttentionSupport(arena, rows: sizes.segment, heads: sizes.heads, kept: sizes.kept)
      mixed = arena.matrix(sizes.segment, sizes.width)
      truncated = arena.indices(sizes.heads * sizes.rowTiles)
      forget = .init(arena, sizes)
    }

    /// Number of (token, head) pairs of the span that top-k has truncated.
    func truncatedCount(_ span: Span, heads: Int) -> Int {
      (0..<heads * span.tiles.count).reduce(0) { $0 + Int(truncated[$1]) }
    }
  }

  init(_ arena: Arena, _ sizes: Sizes, team: Team) {
    self.sizes = sizes
    self.team = team
    let candidates = sizes.neighbours + sizes.slots
    precondition(candidates < 1 << 16, "window + graph_degree + memory_slots must stay below 65536")
    scratch = arena.matrix(team.laneCount, 2 * candidates)
    order = arena.indices(team.laneCount * candidates)
    maps = AttentionMaps(arena, sizes, team: team)
    forget = ForgetGates(arena, sizes, team: team)
    scales = ScoreScales(arena, sizes)
    dlogits = arena.reals(sizes.segment * sizes.heads * sizes.kept)
  }

  private func kernel(_ span: Span) -> SparseAttentionKernel {
    SparseAttentionKernel(
      heads: sizes.heads, width: sizes.width, kept: sizes.kept, capacity: sizes.neighbours, slots: sizes.slots,
      cached: span.cached, weighting: sizes.model.activation.weighting)
  }

  private func terms(_ head: Int, weights w: BlockWeights, activations a: Activations) -> ScoreTerms {
    ScoreTerms(
      temperature: scales.factor(head, weights: w), gain: w.structureGain[head], memoryBias: w.memoryBias[head],
      decays: a.forget.head(head))
  }

  private func operands(
    _ span: Span, _ tables: StepTables, memory: MemoryRead.Activations, activations a: Activations
  ) -> AttentionOperands {
    AttentionOperands(
      queries: a.queries, keys: tables.keys.row(span.firstVisible), values: tables.values.row(span.firstVisible),
      slotKeys: memory.keys, slotValues: memory.values)
  }

  /// x, h (T, D) → g (T, D). The keys and values of the rows are stored in the tables.
  func forward(
    _ x: Matrix, h: Matrix, span: Span, tables: StepTables, graph: GraphRows,
    memory: MemoryRead.Activations, weights w: BlockWeights, activations a: Activations, into g: Matrix
  ) {
    let tiles = span.tiles, fine = span.tiles(for: team)
    team.run(fine.count) { task, _ in
      maps.project(x, fine[task], span: span, tables: tables, weights: w, queries: a.queries)
    }
    forget.forward(x, span: span, tables: tables, weights: w, activations: a.forget)
    let kernel = kernel(span), operands = operands(span, tables, memory: memory, activations: a)
    let candidates = sizes.neighbours + sizes.slots
    team.run(sizes.heads * tiles.count) { task, lane in
      let head = task % sizes.heads
      let rows = tiles[task / sizes.heads]
      a.truncated[task] = Int32(
        kernel.forward(
          head: head, rows: rows, terms: terms(head, weights: w, activations: a), x: operands, graph: graph,
          into: a.support, mixed: a.mixed,
          scratch: scratch.row(lane), order: order + lane * candidates))
    }
    maps.output(a.mixed, h: h, span: span, weights: w, into: g)
  }

  /// dg (T, D) → dx (T, D), overwritten; gradients of the slots in `memoryGradient` (+=); `dlogits` for the graph.
  /// The caller adds the residual path: dg is also the gradient of h.
  func backward(
    _ x: Matrix, span: Span, tables: StepTables, graph: GraphRows, memory: MemoryRead.Activations,
    memoryGradient: MemoryRead.Gradient, weights w: BlockWeights, activations a: Activations, dg: Matrix, dx: Matrix,
    gradient d: BlockWeights
  ) {
    maps.backwardOutput(a.mixed, span: span, weights: w, dg: dg, gradient: d)
    let kernel = kernel(span), operands = operands(span, tables, memory: memory, activations: a)
    let gradients = AttentionOperands(
      queries: maps.dqueries, keys: maps.dkeys.pointer, values: maps.dvalues.pointer, slotKeys: memoryGradient.keys,
      slotValues: memoryGradient.values)
    forget.beginBackward()
    scales.beginBackward()
    // Heads have columns of their own, so they run in parallel. Within a head, rows add to the keys' gradient in
    // order.
    team.run(sizes.heads) { head, _ in
      kernel.backward(
        head: head, rowCount: span.rows.count, terms: terms(head, weights: w, activations: a), x: operands,
        graph: graph, support: a.support, dmixed: maps.dmixed,
        into: gradients, dlogits: dlogits,
        termGradients: .init(
          gain: d.structureGain + head, memoryBias: d.memoryBias + head, temperature: scales.gradient + head,
          decays: sizes.forgets ? forget.ddecays.row(head) : nil))
    }
    scales.finishBackward(d)
    maps.backwardProject(x, span: span, weights: w, dx: dx, gradient: d)
    forget.backward(x, span: span, tables: tables, weights: w, dx: dx, gradient: d)
  }
}

extension Activation {
  fileprivate var weighting: SparseAttentionKernel.Weighting {
    switch self {
    case .sparsemax: .sparsemax
    case .entmax15: .entmax15
    case .softmax: .softmax
    }
  }
}
