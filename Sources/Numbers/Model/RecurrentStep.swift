// One step of recurrence, Hᵗ → Hᵗ⁺¹: step input → graph (SOES) → sparse attention and experts (ASAM) → memory
// (R2MU). The K steps of a segment have K `Activations` and share one set of weights, or have one set each where
// blocks are separate. A layer of the baseline transformer is the same step with dense attention instead of graph,
// sparse attention and memory.

import Kernels

package struct RecurrentStep {
  let input: StepInput
  let attention: Attention
  let experts: ExpertLayer
  let memory: MemoryWrite
  private let sizes: Sizes
  private let team: Team
  /// Gradient of X, the step's normalised input, (T, D). Attention and graph both add to it, and the step input
  /// then passes it on to H.
  private let dx: Matrix

  /// How tokens read each other, by architecture.
  enum Attention {
    case sparse(StructureGraph, SparseAttention)
    case dense(DenseAttention)
  }

  /// Intermediate values of one step that the backward pass reads.
  package struct Activations {
    let input: StepInput.Activations
    let attention: AttentionActivations
    let experts: ExpertLayer.Activations
    let memory: MemoryWrite.Activations

    enum AttentionActivations {
      case sparse(StructureGraph.Activations, SparseAttention.Activations)
      case dense(DenseAttention.Activations)
    }

    init(_ arena: Arena, _ sizes: Sizes) {
      input = .init(arena, sizes)
      attention =
        sizes.model.isTransformer ? .dense(.init(arena, sizes)) : .sparse(.init(arena, sizes), .init(arena, sizes))
      experts = .init(arena, sizes)
      memory = .init(arena, sizes)
    }

    /// The token graph; nil for dense attention.
    var graph: StructureGraph.Activations? {
      switch attention {
      case .sparse(let graph, _): graph
      case .dense: nil
      }
    }
  }

  init(_ arena: Arena, _ sizes: Sizes, team: Team) {
    self.sizes = sizes
    self.team = team
    input = StepInput(arena, sizes, team: team)
    attention =
      sizes.model.isTransformer
      ? .dense(DenseAttention(arena, sizes, team: team))
      : .sparse(StructureGraph(arena, sizes, team: team), SparseAttention(arena, sizes, team: team))
    experts = ExpertLayer(arena, sizes, team: team)
    memory = MemoryWrite(arena, sizes, team: team)
    dx = arena.matrix(sizes.segment, sizes.width)
  }

  /// The row of `step/embedding` for a step. Steps beyond the trained ones use the last row.
  private func embedding(_ step: Int, weights w: Weights) -> RealPointer? {
    w.step.rows > 0 ? w.step.row(min(step, w.step.rows - 1)) : nil
  }

  /// The relations of a segment's rows with the biases of a step; nil where the input gives none, or the model has no
  /// kinds of relations.
  private func graph(_ relations: TokenRelations?, _ step: Int, span: Span, weights w: Weights) -> GraphRelations? {
    guard let relations, let bias = relationBias(step, weights: w) else { return nil }
    return relations.graph(cached: span.cached, bias: bias)
  }

  /// The row of `relation/bias` for a step. Steps beyond the trained ones use the last row.
  private func relationBias(_ step: Int, weights w: Weights) -> RealPointer? {
    w.relationBias.rows > 0 ? w.relationBias.row(min(step, w.relationBias.rows - 1)) : nil
  }

  /// h (T, D) → next (T, D). The rows are scored for the memory; the memory is written when the segment's last row
  /// is complete.
  func forward(
    _ h: Matrix, _ site: ExpertSite, span: Span, relations: TokenRelations?, tables: StepTables,
    read: MemoryRead.Activations, weights: Weights, activations a: Activations, exchange: any ExpertExchange,
    keep: Bool, into next: Matrix
  ) throws {
    let w = weights.block(site.recurrence)
    team.measure(.input, .forward) {
      input.forward(
        h, step: embedding(site.recurrence, weights: weights), span: span, tables: tables, weights: w,
        activations: a.input)
    }
    switch (attention, a.attention) {
    case (.sparse(let graph, let attention), .sparse(let chosen, let mixed)):
      team.measure(.graph, .forward) {
        graph.forward(
          a.input.x, span: span,
          relations: self.graph(relations, site.recurrence, span: span, weights: weights), tables: tables, weights: w,
          activations: chosen)
      }
      team.measure(.attention, .forward) {
        attention.forward(
          a.input.x, h: h, span: span, tables: tables, graph: chosen.graph, memory: read, weights: w,
          activations: mixed,
          into: a.experts.g)
      }
    case (.dense(let attention), .dense(let mixed)):
      team.measure(.denseAttention, .forward) {
        attention.forward(
          a.input.x, h: h, span: span, tables: tables, weights: w, activations: mixed, into: a.experts.g)
      }
    case (.sparse, .dense), (.dense, .sparse): preconditionFailure("activations of another architecture")
    }
    try team.measure(.feedForward, .forward) {
      try experts.forward(
        site, span, tables: tables, weights: w, network: weights.network(site.recurrence), activations: a.experts,
        exchange: exchange, keep: keep,
        into: next)
    }
    if sizes.slots > 0 {
      team.measure(.memory, .forward) {
        memory.score(next, step: site.recurrence, span: span, weights: w, activations: a.memory)
      }
    }
  }

  /// The parts of `forward` in reverse order. dh (T, D) is the gradient of `next` on entry and of `h` on return: H
  /// is a residual stream, so each part adds its gradient to dh in place. dmemory is that of the memory after the
  /// step on entry, and before it on return. The graphs of the neighbouring steps take part in the smoothness loss,
  /// which compares the graphs of consecutive steps; nil for the first and the last step.
  func backward(
    _ h: Matrix, next: Matrix, site: ExpertSite, span: Span, relations: TokenRelations?, tables: StepTables,
    read: MemoryRead.Activations, readGradient: MemoryRead.Gradient, weights: Weights, activations a: Activations,
    previousGraph: StructureGraph.Activations?, nextGraph: StructureGraph.Activations?, exchange: any ExpertExchange,
    scales: LossScales, balance: RealPointer, dh: Matrix, dmemory: Matrix, gradients: Weights
  ) throws {
    let (w, d) = (weights.block(site.recurrence), gradients.block(site.recurrence))
    if sizes.slots > 0 {
      team.measure(.memory, .backward) {
        memory.backward(
          h: next, step: site.recurrence, span: span, weights: w, activations: a.memory, dmemory: dmemory, dh: dh,
          gradient: d)
      }
    }
    try team.measure(.feedForward, .backward) {
      try experts.backward(
        site, span, tables: tables, weights: w, network: weights.network(site.recurrence), activations: a.experts,
        exchange: exchange,
        zScale: scales.routerZ, balance: balance, dh: dh, gradient: d,
        networkGradient: gradients.network(site.recurrence))
    }
    switch (attention, a.attention) {
    case (.sparse(let graph, let attention), .sparse(let chosen, let mixed)):
      team.measure(.attention, .backward) {
        attention.backward(
          a.input.x, span: span, tables: tables, graph: chosen.graph, memory: read, memoryGradient: readGradient,
          weights: w,
          activations: mixed, dg: dh, dx: dx, gradient: d)
      }
      team.measure(.graph, .backward) {
        graph.backward(
          a.input.x, span: span,
          relations: self.graph(relations, site.recurrence, span: span, weights: weights), tables: tables, weights: w,
          activations: chosen, drelations: relationBias(site.recurrence, weights: gradients), previous: previousGraph,
          next: nextGraph, attention: mixed, dlogits: attention.dlogits, smoothScale: scales.smooth, dx: dx, gradient: d
        )
      }
    case (.dense(let attention), .dense(let mixed)):
      team.measure(.denseAttention, .backward) {
        attention.backward(
          a.input.x, span: span, tables: tables, weights: w, activations: mixed, dg: dh, dx: dx, gradient: d)
      }
    case (.sparse, .dense), (.dense, .sparse): preconditionFailure("activations of another architecture")
    }
    team.measure(.input, .backward) {
      input.backward(
        h, step: embedding(site.recurrence, weights: weights), span: span, tables: tables, weights: w,
        activations: a.input,
        dx: dx, dh: dh, gradient: d, dstep: embedding(site.recurrence, weights: gradients))
    }
  }
}
