// ASAM's attention: every query sees its graph neighbours and the memory slots, keeps its k largest scores a head, and
// weighs them with sparsemax (or entmax, or softmax). z_ij = q_i · key_j / √C + gain · (log A_ij + log |N_i|) on the graph,
// q_i · keyS_j / √C + bias on the memory. Then G = H + (Σ_j p_ij val_j) Woᵀ.

import CKernels
import Configuration
import Kernels

package struct SparseAttention {
  private let sizes: Sizes
  private let team: Team
  /// By lane: scores and their copy, 2 (N + M); an order of positions, N + M.
  private let scratch: Matrix
  private let order: UnsafeMutablePointer<Int32>
  /// (T, D) gradients of the mixed values, queries, keys and values; (T, H, k) of the kept logits.
  private let dmixed, dqueries, dkeys, dvalues: Matrix
  let dlogits: RealPointer

  package struct Activations {
    let queries: Matrix
    /// Kept positions a row and head, (T, H, k): p < count of neighbours means neighbour p, else slot p − count.
    let support: UnsafeMutablePointer<UInt16>
    let supportCounts: UnsafeMutablePointer<UInt16>
    let supportWeights: RealPointer
    /// Σ_j p_ij val_j (T, D)
    let mixed: Matrix
    init(_ arena: Arena, _ sizes: Sizes) {
      queries = arena.matrix(sizes.segment, sizes.width)
      support = arena.shorts(sizes.segment * sizes.heads * sizes.kept)
      supportCounts = arena.shorts(sizes.segment * sizes.heads)
      supportWeights = arena.reals(sizes.segment * sizes.heads * sizes.kept)
      mixed = arena.matrix(sizes.segment, sizes.width)
    }
  }

  init(_ arena: Arena, _ sizes: Sizes, _ team: Team) {
    self.sizes = sizes
    self.team = team
    let candidates = sizes.neighbours + sizes.slots
    precondition(candidates < 1 << 16, "window + graph_degree + memory_slots must stay below 65536")
    scratch = arena.matrix(team.laneCount, 2 * candidates)
    order = arena.indices(team.laneCount * candidates)
    dmixed = arena.matrix(sizes.segment, sizes.width)
    dqueries = arena.matrix(sizes.segment, sizes.width)
    dkeys = arena.matrix(sizes.segment, sizes.width)
    dvalues = arena.matrix(sizes.segment, sizes.width)
    dlogits = arena.reals(sizes.segment * sizes.heads * sizes.kept)
  }

  private func shape(_ span: Span) -> ress_attention_shape {
    ress_attention_shape(
      heads: Int64(sizes.heads), head_width: Int64(sizes.headWidth), width: Int64(sizes.width), kept: Int64(sizes.kept),
      capacity: Int64(sizes.neighbours), slots: Int64(sizes.slots), cached: Int64(span.cached),
      activation: Int64(sizes.model.activation.code))
  }

  /// x, h (T, D) → g (T, D); the rows' keys and values go to the tables.
  func forward(
    _ x: Matrix, h: Matrix, _ span: Span, _ tables: StepTables, _ graph: StructureGraph.Activations,
    _ memory: MemoryRead.Activations, _ w: BlockWeights, _ a: Activations, into g: Matrix
  ) {
    let tiles = span.tiles
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      let tableRows = span.start + rows.lowerBound..<span.start + rows.upperBound
      BLAS.apply(w.query, to: x[rows: rows], into: a.queries[rows: rows])
      BLAS.apply(w.key, to: x[rows: rows], into: tables.keys[rows: tableRows])
      BLAS.apply(w.value, to: x[rows: rows], into: tables.values[rows: tableRows])
    }
    let shape = shape(span)
    let keys = tables.keys.row(span.firstVisible)
    let values = tables.values.row(span.firstVisible)
    let candidates = sizes.neighbours + sizes.slots
    team.run(sizes.heads * tiles.count) { task, lane in
      let head = task % sizes.heads
      let rows = tiles[task / sizes.heads]
      withUnsafePointer(to: shape) { shape in
        ress_attention_forward(
          shape, Int64(head), Int64(rows.lowerBound), Int64(rows.upperBound), a.queries.pointer, keys, values,
          memory.keys.pointer, memory.values.pointer, graph.neighbours, graph.counts, graph.structure.pointer,
          w.structureGain[head], w.memoryBias[head], a.support, a.supportCounts, a.supportWeights, a.mixed.pointer,
          scratch.row(lane), order + lane * candidates)
      }
    }
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      g[rows: rows].copy(from: h[rows: rows])
      BLAS.apply(w.output, to: a.mixed[rows: rows], into: g[rows: rows], adding: true)
    }
  }

  /// dg (T, D) → dx (T, D) overwritten, slot gradients in `memory` (+=), `dlogits` for the graph. The residual path is the
  /// caller's: dg is also the gradient of h.
  func backward(
    _ x: Matrix, _ span: Span, _ tables: StepTables, _ graph: StructureGraph.Activations,
    _ memory: MemoryRead.Activations, _ memoryGradient: MemoryRead.Gradient, _ w: BlockWeights, _ a: Activations,
    dg: Matrix,
    dx: Matrix, _ d: BlockWeights
  ) {
    let tiles = span.tiles
    let all = 0..<span.rows.count
    addWeightGradient(dg[rows: all], a.mixed[rows: all], into: d.output.weight, team)
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      BLAS.multiply(dg[rows: rows], w.output.weight, into: dmixed[rows: rows])
      dkeys[rows: rows].clear()
      dvalues[rows: rows].clear()
    }
    let shape = shape(span)
    let keys = tables.keys.row(span.firstVisible)
    let values = tables.values.row(span.firstVisible)
    // A head's columns are its own, so heads run side by side and each adds to its keys in row order.
    team.run(sizes.heads) { head, _ in
      withUnsafePointer(to: shape) { shape in
        ress_attention_backward(
          shape, Int64(head), Int64(all.count), a.queries.pointer, keys, values, memory.keys.pointer,
          memory.values.pointer, graph.neighbours, graph.counts, graph.structure.pointer, w.structureGain[head],
          a.support, a.supportCounts, a.supportWeights, dmixed.pointer, dqueries.pointer, dkeys.pointer,
          dvalues.pointer, memoryGradient.keys.pointer, memoryGradient.values.pointer, dlogits,
          d.structureGain + head, d.memoryBias + head)
      }
    }
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      BLAS.multiply(dqueries[rows: rows], w.query.weight, into: dx[rows: rows])
      BLAS.multiply(dkeys[rows: rows], w.key.weight, into: dx[rows: rows], adding: true)
      BLAS.multiply(dvalues[rows: rows], w.value.weight, into: dx[rows: rows], adding: true)
    }
    addWeightGradient(dqueries[rows: all], x[rows: all], into: d.query.weight, team)
    addWeightGradient(dkeys[rows: all], x[rows: all], into: d.key.weight, team)
    addWeightGradient(dvalues[rows: all], x[rows: all], into: d.value.weight, team)
  }
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
