// One step of the R2MU block, Hᵗ → Hᵗ⁺¹: step input → graph (SOES) → sparse attention and experts (ASAM) → memory. The K
// steps of a segment are K `Activations` and one set of weights.

import Kernels

package struct RecurrentStep {
  let input: StepInput
  let graph: StructureGraph
  let attention: SparseAttention
  let experts: ExpertLayer
  let memory: MemoryWrite
  private let sizes: Sizes
  /// (T, D) gradient of X.
  private let dx: Matrix

  package struct Activations {
    let input: StepInput.Activations
    let graph: StructureGraph.Activations
    let attention: SparseAttention.Activations
    let experts: ExpertLayer.Activations
    let memory: MemoryWrite.Activations
    init(_ arena: Arena, _ sizes: Sizes) {
      input = .init(arena, sizes)
      graph = .init(arena, sizes)
      attention = .init(arena, sizes)
      experts = .init(arena, sizes)
      memory = .init(arena, sizes)
    }
  }

  init(_ arena: Arena, _ sizes: Sizes, _ team: Team) {
    self.sizes = sizes
    input = StepInput(arena, sizes, team)
    graph = StructureGraph(arena, sizes, team)
    attention = SparseAttention(arena, sizes, team)
    experts = ExpertLayer(arena, sizes, team)
    memory = MemoryWrite(arena, sizes, team)
    dx = arena.matrix(sizes.segment, sizes.width)
  }

  /// h (T, D) → next (T, D). The rows are scored for the memory; the write itself waits for the segment's last row.
  func forward(
    _ h: Matrix, _ site: ExpertSite, _ span: Span, _ tables: StepTables, _ read: MemoryRead.Activations, _ w: Weights,
    _ a: Activations, exchange: any ExpertExchange, keep: Bool, into next: Matrix
  ) throws {
    input.forward(h, step: site.recurrence, span, tables, w, a.input)
    graph.forward(a.input.x, span, tables, w, a.graph)
    attention.forward(a.input.x, h: h, span, tables, a.graph, read, w, a.attention, into: a.experts.g)
    try experts.forward(site, span, w, a.experts, exchange: exchange, keep: keep, into: next)
    if sizes.slots > 0 { memory.score(next, span, w, a.memory) }
  }

  /// dh (T, D) is the gradient of `next` on entry and of `h` on return, dmemory likewise of the memory after and before.
  func backward(
    _ h: Matrix, next: Matrix, _ site: ExpertSite, _ span: Span, _ tables: StepTables, _ read: MemoryRead.Activations,
    _ readGradient: MemoryRead.Gradient, _ w: Weights, _ a: Activations, previousGraph: StructureGraph.Activations?,
    nextGraph: StructureGraph.Activations?, exchange: any ExpertExchange, scales: LossScales, balance: RealPointer,
    dh: Matrix, dmemory: Matrix, _ d: Weights
  ) throws {
    if sizes.slots > 0 { memory.backward(h: next, span, w, a.memory, dmemory: dmemory, dh: dh, d) }
    try experts.backward(
      site, span, w, a.experts, exchange: exchange, zScale: scales.routerZ, balance: balance, dh: dh, d)
    attention.backward(a.input.x, span, tables, a.graph, read, readGradient, w, a.attention, dg: dh, dx: dx, d)
    graph.backward(
      a.input.x, span, tables, w, a.graph, previous: previousGraph, next: nextGraph, attention: a.attention,
      dlogits: attention.dlogits, smoothScale: scales.smooth, dx: dx, d)
    input.backward(h, step: site.recurrence, span, tables, w, a.input, dx: dx, dh: dh, d)
  }
}
