// One segment of one sequence: the embedding, K steps of recurrence, and the update of the memory.
//
// A causal model reads the memory as it was at the segment's start, at every step, and writes to it when the
// segment's last row is complete; otherwise a token would see later ones through the memory. A bidirectional model
// reads and writes at every step.

import Configuration
import Kernels

package struct SegmentActivations {
  let embedding: Embedding.Activations
  /// One, or one per step where every step reads the memory again.
  let reads: [MemoryRead.Activations]
  /// H⁰ … Hᴷ, (K + 1) of (T, D)
  let h: [Matrix]
  let steps: [RecurrentStep.Activations]

  init(_ arena: Arena, _ sizes: Sizes) {
    embedding = .init(arena, sizes)
    reads = (0..<(sizes.readsEachStep ? sizes.steps : 1)).map { _ in .init(arena, sizes) }
    h = (0...sizes.steps).map { _ in arena.matrix(sizes.segment, sizes.width) }
    steps = (0..<sizes.steps).map { _ in RecurrentStep.Activations(arena, sizes) }
  }

  var last: Matrix { h[h.count - 1] }
  func read(_ step: Int) -> MemoryRead.Activations { reads[reads.count == 1 ? 0 : step] }
}

package struct Segment {
  private let sizes: Sizes
  private let team: Team
  let embedding: Embedding
  let read: MemoryRead
  let step: RecurrentStep
  private let readGradient: MemoryRead.Gradient
  /// Gradient of the memory at the segment's start, (M, D), kept apart while the gradients of the writes are still
  /// being added.
  private let dfound: Matrix

  init(_ arena: Arena, _ sizes: Sizes, team: Team) {
    self.sizes = sizes
    self.team = team
    embedding = Embedding(arena, sizes)
    read = MemoryRead(arena, sizes)
    step = RecurrentStep(arena, sizes, team: team)
    readGradient = MemoryRead.Gradient(arena, sizes)
    dfound = arena.matrix(sizes.slots, sizes.width)
  }

  /// Begins a segment: in a causal model, computes the keys and values of `memory` (M, D) that its tokens will
  /// read.
  func begin(memory: Matrix, weights w: Weights, activations a: SegmentActivations) {
    guard sizes.slots > 0, sizes.model.isCausal else { return }
    for (step, activations) in a.reads.enumerated() {
      read.forward(memory, weights: w.block(step), activations: activations)
    }
  }

  /// Computes the rows of the span. tokens (T) are those of the segment. A bidirectional model also writes `memory`
  /// (M, D).
  func forward(
    _ tokens: TokenInput, _ site: ExpertSite, span: Span, tables: SequenceTables, memory: Matrix, weights w: Weights,
    activations a: SegmentActivations, exchange: any ExpertExchange, keep: Bool
  ) throws {
    let writesEachStep = sizes.slots > 0 && !sizes.model.isCausal
    team.measure(.embedding, .forward) {
      embedding.forward(tokens, rows: span.rows, weights: w, activations: a.embedding, into: a.h[0])
    }
    for t in 0..<sizes.steps {
      var site = site
      site.recurrence = t
      if writesEachStep { read.forward(memory, weights: w.block(t), activations: a.reads[t]) }
      try step.forward(
        a.h[t], site, span: span, relations: tokens.relations, tables: tables.steps[t], read: a.read(t), weights: w,
        activations: a.steps[t], exchange: exchange, keep: keep, into: a.h[t + 1])
      if writesEachStep {
        step.memory.forward(
          rowCount: span.rows.count, weights: w.block(t), activations: a.steps[t].memory, memory: memory)
      }
    }
  }

  /// Ends a segment: in a causal model, every step's rows are written into `memory` (M, D).
  func end(rowCount: Int, memory: Matrix, weights w: Weights, activations a: SegmentActivations) {
    guard sizes.slots > 0, sizes.model.isCausal else { return }
    team.measure(.memory, .forward) {
      for t in 0..<sizes.steps {
        step.memory.forward(rowCount: rowCount, weights: w.block(t), activations: a.steps[t].memory, memory: memory)
      }
    }
  }

  /// dh (T, D) is the gradient of Hᴷ on entry. dmemory (M, D) is that of the memory after the segment on entry,
  /// before it on return.
  func backward(
    _ tokens: TokenInput, _ site: ExpertSite, span: Span, tables: SequenceTables, weights w: Weights,
    activations a: SegmentActivations, exchange: any ExpertExchange, scales: LossScales, balance: Matrix, dh: Matrix,
    dmemory: Matrix, gradient d: Weights
  ) throws {
    dfound.clear()
    readGradient.clear()
    for t in (0..<sizes.steps).reversed() {
      var site = site
      site.recurrence = t
      try step.backward(
        a.h[t], next: a.h[t + 1], site: site, span: span, relations: tokens.relations, tables: tables.steps[t],
        read: a.read(t), readGradient: readGradient, weights: w, activations: a.steps[t],
        previousGraph: t > 0 ? a.steps[t - 1].graph : nil,
        nextGraph: t + 1 < sizes.steps ? a.steps[t + 1].graph : nil, exchange: exchange, scales: scales,
        balance: balance.row(t), dh: dh, dmemory: dmemory, gradients: d)
      guard sizes.slots > 0, sizes.readsEachStep || t == 0 else { continue }
      team.measure(.memory, .backward) {
        read.backward(
          w.block(t), a.read(t), readGradient: readGradient, dmemory: sizes.model.isCausal ? dfound : dmemory,
          gradient: d.block(t))
        readGradient.clear()
      }
    }
    Vectors.add(dfound.pointer, to: dmemory.pointer, count: dfound.count)
    team.measure(.embedding, .backward) {
      embedding.backward(tokens, rows: span.rows, weights: w, activations: a.embedding, dh: dh, gradient: d)
    }
  }
}
