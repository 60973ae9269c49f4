// ASAM's attention of one head (CKernels/attention.c).

import CKernels

/// What each row and head has kept of its scores: at most k positions.
package struct AttentionSupport {
  package let heads: Int
  /// k
  package let kept: Int
  /// Kept positions, (T, H, k). With n neighbours, p < n is neighbour p, and p ≥ n is slot p − n.
  package let positions: UnsafeMutablePointer<UInt16>
  /// How many are kept, (T, H).
  package let counts: UnsafeMutablePointer<UInt16>
  /// Their weights, (T, H, k).
  package let weights: RealPointer

  package init(_ arena: Arena, rows: Int, heads: Int, kept: Int) {
    (self.heads, self.kept) = (heads, kept)
    positions = arena.shorts(rows * heads * kept)
    counts = arena.shorts(rows * heads)
    weights = arena.reals(rows * heads * kept)
  }
}

/// Queries, keys and values, with a column for each component of each head; or their gradients.
package struct AttentionOperands {
  /// (T, D)
  package let queries: Matrix
  /// Keys and values of the visible tokens, (S, D); of gradients, those of the segment's tokens, (T, D).
  package let keys, values: RealPointer
  /// Keys and values of the memory's slots, (M, D).
  package let slotKeys, slotValues: Matrix

  package init(queries: Matrix, keys: RealPointer, values: RealPointer, slotKeys: Matrix, slotValues: Matrix) {
    (self.queries, self.keys, self.values) = (queries, keys, values)
    (self.slotKeys, self.slotValues) = (slotKeys, slotValues)
  }
}

/// The terms of one head's scores: z_ij = τ (q_i · key_j / √C + gain · structure_ij) − |F_i − F_j| for tokens,
/// τ (q_i · keyS_j / √C + memoryBias) for slots.
package struct ScoreTerms {
  fileprivate let head: ress_attention_head

  /// - Parameter decays: F, the running sums of the log-forget terms of the visible tokens; nil where heads do not
  ///   forget.
  package init(temperature: Real, gain: Real, memoryBias: Real, decays: RealPointer?) {
    head = ress_attention_head(temperature: temperature, gain: gain, memory_bias: memoryBias, decays: decays)
  }
}

/// Scores of a head's neighbours and slots, the k largest of them, their weights, and the weighted sum of the values.
package struct SparseAttentionKernel {
  /// The function that turns scores into weights: sparsemax (arXiv 1602.02068), 1.5-entmax (arXiv 1905.05702) or
  /// softmax.
  package enum Weighting { case sparsemax, entmax15, softmax }

  private let shape: ress_attention_shape

  /// - Parameters:
  ///   - width: D.
  ///   - kept: k.
  ///   - capacity: N, the most neighbours of a row.
  ///   - slots: M.
  ///   - cached: visible tokens before the segment.
  package init(
    heads: Int, width: Int, kept: Int, capacity: Int, slots: Int, cached: Int, weighting: Weighting
  ) {
    let code =
      switch weighting {
      case .sparsemax: RESS_SPARSEMAX
      case .entmax15: RESS_ENTMAX15
      case .softmax: RESS_SOFTMAX
      }
    shape = ress_attention_shape(
      heads: Int64(heads), head_width: Int64(width / heads), width: Int64(width), kept: Int64(kept),
      capacity: Int64(capacity), slots: Int64(slots), cached: Int64(cached), activation: Int64(code))
  }

  /// → support, and Σ_j p_ij val_j in the head's columns of `mixed` (T, D).
  /// - Parameters:
  ///   - scratch: 2 (N + M) values, and `order` N + M integers.
  /// - Returns: how many rows have an exact sparsemax support larger than k; 0 for the other functions.
  package func forward(
    head: Int, rows: Range<Int>, terms: ScoreTerms, x: AttentionOperands, graph: GraphRows,
    into support: AttentionSupport, mixed: Matrix, scratch: RealPointer, order: UnsafeMutablePointer<Int32>
  ) -> Int {
    withUnsafePointers(shape, terms.head) { shape, terms in
      Int(
        ress_attention_forward(
          shape, terms, Int64(head), Int64(rows.lowerBound), Int64(rows.upperBound), x.queries.pointer, x.keys,
          x.values, x.slotKeys.pointer, x.slotValues.pointer, graph.neighbours, graph.counts, graph.structure.pointer,
          support.positions, support.counts, support.weights, mixed.pointer, scratch, order))
    }
  }

  /// Gradients of the terms of one head; all += .
  package struct TermGradients {
    let gain, memoryBias, temperature: RealPointer
    let decays: RealPointer?

    /// - Parameters:
    ///   - temperature: of log τ.
    ///   - decays: of F, (T); nil where heads do not forget.
    package init(gain: RealPointer, memoryBias: RealPointer, temperature: RealPointer, decays: RealPointer?) {
      (self.gain, self.memoryBias, self.temperature, self.decays) = (gain, memoryBias, temperature, decays)
    }
  }

  /// For all rows of a head, from `dmixed` (T, D): d.queries are overwritten in the head's columns, the other gradients
  /// of `d` are added to. dlogits (T, H, k) are the gradients of the kept scores, before τ.
  package func backward(
    head: Int, rowCount: Int, terms: ScoreTerms, x: AttentionOperands, graph: GraphRows,
    support: AttentionSupport, dmixed: Matrix, into d: AttentionOperands, dlogits: RealPointer,
    termGradients dterms: TermGradients
  ) {
    withUnsafePointers(shape, terms.head) { shape, terms in
      ress_attention_backward(
        shape, terms, Int64(head), Int64(rowCount), x.queries.pointer, x.keys, x.values, x.slotKeys.pointer,
        x.slotValues.pointer, graph.neighbours, graph.counts, graph.structure.pointer, support.positions,
        support.counts, support.weights, dmixed.pointer, d.queries.pointer, d.keys, d.values, d.slotKeys.pointer,
        d.slotValues.pointer, dlogits, dterms.gain, dterms.memoryBias, dterms.temperature, dterms.decays)
    }
  }
}

/// Passes pointers to both values, as C needs them.
private func withUnsafePointers<A, B, Result>(
  _ a: A, _ b: B, _ body: (UnsafePointer<A>, UnsafePointer<B>) -> Result
) -> Result {
  withUnsafePointer(to: a) { a in withUnsafePointer(to: b) { b in body(a, b) } }
}
