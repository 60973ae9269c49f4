// One segment of one sequence: the embedding, K steps of recurrence and the memory they leave behind.

import CKernels
import Configuration
import Kernels

package struct SegmentActivations {
  let embedding: Embedding.Activations
  let read: MemoryRead.Activations
  /// H⁰ … Hᴷ, (K + 1) of (T, D)
  let h: [Matrix]
  let steps: [RecurrentStep.Activations]

  init(_ arena: Arena, _ sizes: Sizes) {
    embedding = .init(arena, sizes)
    read = .init(arena, sizes)
    h = (0...sizes.steps).map { _ in arena.matrix(sizes.segment, sizes.width) }
    steps = (0..<sizes.steps).map { _ in RecurrentStep.Activations(arena, sizes) }
  }

  var last: Matrix { h[h.count - 1] }
}

package struct Segment {
  private let sizes: Sizes
  let embedding: Embedding
  let read: MemoryRead
  let step: RecurrentStep
  private let readGradient: MemoryRead.Gradient

  init(_ arena: Arena, _ sizes: Sizes, _ team: Team) {
    self.sizes = sizes
    embedding = Embedding(sizes: sizes)
    read = MemoryRead(arena, sizes)
    step = RecurrentStep(arena, sizes, team)
    readGradient = MemoryRead.Gradient(arena, sizes)
  }

  /// The segment begins: its tokens will read `memory` (M, D) as it stands now.
  func begin(memory: Matrix, _ w: Weights, _ a: SegmentActivations) {
    if sizes.slots > 0 { read.forward(memory, w, a.read) }
  }

  /// Computes the span's rows. tokens (T) are the segment's.
  func forward(
    _ tokens: UnsafePointer<Int32>, _ site: ExpertSite, _ span: Span, _ tables: SequenceTables, _ w: Weights,
    _ a: SegmentActivations, exchange: any ExpertExchange, keep: Bool
  ) throws {
    embedding.forward(tokens, rows: span.rows, w, a.embedding, into: a.h[0])
    for t in 0..<sizes.steps {
      var site = site
      site.recurrence = t
      try step.forward(
        a.h[t], site, span, tables.steps[t], a.read, w, a.steps[t], exchange: exchange, keep: keep, into: a.h[t + 1])
    }
  }

  /// The segment's rows are complete: memory (M, D) takes in every step's.
  func end(rowCount: Int, memory: Matrix, _ w: Weights, _ a: SegmentActivations) {
    guard sizes.slots > 0 else { return }
    for t in 0..<sizes.steps { step.memory.forward(rowCount: rowCount, w, a.steps[t].memory, memory: memory) }
  }

  /// dh (T, D): gradient of Hᴷ on entry. dmemory (M, D): of the memory after the segment on entry, before it on return.
  func backward(
    _ tokens: UnsafePointer<Int32>, _ site: ExpertSite, _ span: Span, _ tables: SequenceTables, _ w: Weights,
    _ a: SegmentActivations, exchange: any ExpertExchange, scales: LossScales, balance: Matrix, dh: Matrix,
    dmemory: Matrix, _ d: Weights
  ) throws {
    readGradient.clear()
    for t in (0..<sizes.steps).reversed() {
      var site = site
      site.recurrence = t
      try step.backward(
        a.h[t], next: a.h[t + 1], site, span, tables.steps[t], a.read, readGradient, w, a.steps[t],
        previousGraph: t > 0 ? a.steps[t - 1].graph : nil,
        nextGraph: t + 1 < sizes.steps ? a.steps[t + 1].graph : nil, exchange: exchange, scales: scales,
        balance: balance.row(t), dh: dh, dmemory: dmemory, d)
    }
    if sizes.slots > 0 { read.backward(w, a.read, readGradient, dmemory: dmemory, d) }
    embedding.backward(tokens, rows: span.rows, w, a.embedding, dh: dh, d)
  }
}
