// ASAM's attention: every query sees its neighbours in the graph and the memory slots, keeps its k largest scores
// per head, and weighs them by softmax (or sparsemax, arXiv 1602.02068, or 1.5-entmax, arXiv 1905.05702).
//
//   z_ij = τ (q_i · key_j / √C + gain · (log A_ij + log |N_i|)) − |F_i − F_j|   for a neighbour j (F: `ForgetGates`)
//   z_ij = τ (q_i · keyS_j / √C + bias)                                         for a memory slot j
//   G = H + (Σ_j p_ij val_j) Woᵀ

import CKernels
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
    /// Kept positions of a row and head, (T, H, k). With n neighbours, p < n is neighbour p, and p ≥ n is slot p −
    /// n.
    let support: UnsafeMutablePointer<UInt16>
    let supportCounts: UnsafeMutablePointer<UInt16>
    let supportWeights: RealPointer
    /// Σ_j p_ij val_j (T, D)
    let mixed: Matrix
    /// For each head and tile, the number of rows whose exact sparsemax support is larger than k.
    let truncated: UnsafeMutablePointer<Int32>
    let forget: ForgetGates.Activations
    init(_ arena: Arena, _ sizes: Sizes) {
      queries = arena.matrix(sizes.segment, sizes.width)
      support = arena.shorts(sizes.segment * sizes.heads * sizes.kept)
      supportCounts = arena.shorts(sizes.segment * sizes.heads)
      supportWeights = arena.reals(sizes.segment * sizes.heads * sizes.kept)
      mixed = arena.matrix(sizes.segment, sizes.width)
      truncated = arena.indices(sizes.heads * sizes.rowTiles)
      forget = .init(arena, sizes)
    }

    /// Number of (token, head) pairs of the span that top-k has truncated.
    func truncatedCount(_ span: Span, heads: Int) -> Int {
      (0..<heads * span.tiles.count).reduce(0) { $0 + Int(truncated[$1]) }
    }
  }

  init(_ arena: Arena, _ sizes: Sizes, _ team: Team) {
    self.sizes = sizes
    self.team = team
    let candidates = sizes.neighbours + sizes.slots
    precondition(candidates < 1 << 16, "window + graph_degree + memory_slots must stay below 65536")
    scratch = arena.matrix(team.laneCount, 2 * candidates)
    order = arena.indices(team.laneCount * candidates)
    maps = AttentionMaps(arena, sizes, team)
    forget = ForgetGates(arena, sizes, team)
    scales = ScoreScales(arena, sizes)
    dlogits = arena.reals(sizes.segment * sizes.heads * sizes.kept)
  }

  private func shape(_ span: Span) -> ress_attention_shape {
    ress_attention_shape(
      heads: Int64(sizes.heads), head_width: Int64(sizes.headWidth), width: Int64(sizes.width), kept: Int64(sizes.kept),
      capacity: Int64(sizes.neighbours), slots: Int64(sizes.slots), cached: Int64(span.cached),
      activation: Int64(sizes.model.activation.code))
  }

  private func terms(_ head: Int, _ w: BlockWeights, _ a: Activations) -> ress_attention_head {
    ress_attention_head(
      temperature: scales.factor(head, w), gain: w.structureGain[head], memory_bias: w.memoryBias[head],
      decays: a.forget.head(head))
  }

  /// x, h (T, D) → g (T, D). The keys and values of the rows are stored in the tables.
  func forward(
    _ x: Matrix, h: Matrix, span: Span, tables: StepTables, graph: StructureGraph.Activations,
    memory: MemoryRead.Activations, weights w: BlockWeights, activations a: Activations, into g: Matrix
  ) {
    let tiles = span.tiles, fine = span.tiles(for: team)
    team.run(fine.count) { task, _ in
      maps.project(x, fine[task], span: span, tables: tables, weights: w, queries: a.queries)
    }
    forget.forward(x, span: span, tables: tables, weights: w, activations: a.forget)
    let shape = shape(span)
    let keys = tables.keys.row(span.firstVisible)
    let values = tables.values.row(span.firstVisible)
    let candidates = sizes.neighbours + sizes.slots
    team.run(sizes.heads * tiles.count) { task, lane in
      let head = task % sizes.heads
      let rows = tiles[task / sizes.heads]
      withUnsafePointers(shape, terms(head, w, a)) { shape, terms in
        a.truncated[task] = Int32(
          ress_attention_forward(
            shape, terms, Int64(head), Int64(rows.lowerBound), Int64(rows.upperBound), a.queries.pointer, keys, values,
            memory.keys.pointer, memory.values.pointer, graph.neighbours, graph.counts, graph.structure.pointer,
            a.support, a.supportCounts, a.supportWeights, a.mixed.pointer, scratch.row(lane),
            order + lane * candidates))
      }
    }
    maps.output(a.mixed, h: h, span: span, weights: w, into: g)
  }

  /// dg (T, D) → dx (T, D), overwritten; gradients of the slots in `memoryGradient` (+=); `dlogits` for the graph.
  /// The caller adds the residual path: dg is also the gradient of h.
  func backward(
    _ x: Matrix, span: Span, tables: StepTables, graph: StructureGraph.Activations, memory: MemoryRead.Activations,
    memoryGradient: MemoryRead.Gradient, weights w: BlockWeights, activations a: Activations, dg: Matrix, dx: Matrix,
    gradient d: BlockWeights
  ) {
    maps.backwardOutput(a.mixed, span: span, weights: w, dg: dg, gradient: d)
    let shape = shape(span)
    let keys = tables.keys.row(span.firstVisible)
    let values = tables.values.row(span.firstVisible)
    forget.beginBackward()
    scales.beginBackward()
    // Heads have columns of their own, so they run in parallel. Within a head, rows add to the keys' gradient in
    // order.
    team.run(sizes.heads) { head, _ in
      withUnsafePointers(shape, terms(head, w, a)) { shape, terms in
        ress_attention_backward(
          shape, terms, Int64(head), Int64(span.rows.count), a.queries.pointer, keys, values, memory.keys.pointer,
          memory.values.pointer, graph.neighbours, graph.counts, graph.structure.pointer,
          a.support, a.supportCounts, a.supportWeights, maps.dmixed.pointer, maps.dqueries.pointer, maps.dkeys.pointer,
          maps.dvalues.pointer, memoryGradient.keys.pointer, memoryGradient.values.pointer, dlogits,
          d.structureGain + head, d.memoryBias + head, scales.gradient + head,
          sizes.forgets ? forget.ddecays.row(head) : nil)
      }
    }
    scales.finishBackward(d)
    maps.backwardProject(x, span: span, weights: w, dx: dx, gradient: d)
    forget.backward(x, span: span, tables: tables, weights: w, dx: dx, gradient: d)
  }
}

/// Passes pointers to both values, as C needs them.
private func withUnsafePointers<A, B>(_ a: A, _ b: B, _ body: (UnsafePointer<A>, UnsafePointer<B>) -> Void) {
  withUnsafePointer(to: a) { a in withUnsafePointer(to: b) { b in body(a, b) } }
}

extension Activation {
  fileprivate var code: Int {
    switch self {
    case .sparsemax: RESS_SPARSEMAX
    case .entmax15: RESS_ENTMAX15
    case .softmax: RESS_SOFTMAX
    }
  }
}
