// SOES's graph of tokens (CKernels/graph.c): the choice of neighbours, and the gradients that reach scores through it.

import CKernels

/// The neighbours of each row, at most N.
package struct GraphRows {
  /// Neighbours of each row, ascending, numbered from the first visible token, (T, N); how many a row has, (T).
  package let neighbours, counts: UnsafeMutablePointer<Int32>
  /// A (T, N), and log A + log |N_i| (T, N).
  package let weights, structure: Matrix

  /// - Parameter capacity: N.
  package init(_ arena: Arena, rows: Int, capacity: Int) {
    neighbours = arena.indices(rows * capacity)
    counts = arena.indices(rows)
    weights = arena.matrix(rows, capacity)
    structure = arena.matrix(rows, capacity)
  }

  /// N
  package var capacity: Int { weights.columns }
}

/// Relations of the rows of a segment, which the input gives, and the bias of each kind.
package struct GraphRelations {
  fileprivate let kernel: ress_relations

  /// - Parameters:
  ///   - starts: where the pairs of each row begin, and the end, (T + 1).
  ///   - pairs: the related token, numbered from the sequence's first, and the kind; in each row ascending and all
  ///     different.
  ///   - first: number of the first visible token in the sequence.
  ///   - bias: by kind.
  package init(starts: UnsafePointer<Int32>, pairs: UnsafePointer<Int32>, first: Int, bias: RealPointer) {
    kernel = ress_relations(starts: starts, pairs: pairs, first: Int64(first), bias: bias)
  }

  /// Adds the biases to the scores of some rows and all visible tokens.
  package func add(to scores: Matrix, rows: Range<Int>) {
    withUnsafePointer(to: kernel) {
      ress_relations_add(
        $0, Int64(rows.lowerBound), Int64(rows.upperBound), Int64(scores.columns), scores.pointer,
        Int64(scores.stride))
    }
  }

  /// dbias (kinds) += from the gradients of the scores of the edges, dscores (T, N), of the first `rows` rows.
  package func backward(_ graph: GraphRows, rows: Int, dscores: Matrix, into dbias: RealPointer) {
    withUnsafePointer(to: kernel) {
      ress_relations_backward(
        $0, Int64(rows), Int64(graph.capacity), graph.neighbours, graph.counts, dscores.pointer, dbias)
    }
  }
}

/// Scratch for the choice of a row's neighbours.
package struct GraphScratch {
  /// max(degree, 1)
  let heap: UnsafeMutablePointer<Int32>
  /// As many as there are visible tokens; not used without relations.
  let pool: RealPointer
  let places: UnsafeMutablePointer<Int32>

  package init(heap: UnsafeMutablePointer<Int32>, pool: RealPointer, places: UnsafeMutablePointer<Int32>) {
    self.heap = heap
    self.pool = pool
    self.places = places
  }
}

/// Chooses the neighbours of rows.
package struct GraphKernel {
  private let shape: ress_graph_shape

  /// - Parameters:
  ///   - cached: visible tokens before the segment; token `cached + i` is row i.
  ///   - visible: all tokens that a row may see. A causal row sees none after itself.
  ///   - before: tokens of the window before a row.
  ///   - after: tokens of the window after it.
  ///   - degree: neighbours that are chosen by score, outside the window.
  ///   - capacity: N.
  package init(cached: Int, visible: Int, isCausal: Bool, before: Int, after: Int, degree: Int, capacity: Int) {
    shape = ress_graph_shape(
      cached: Int64(cached), visible: Int64(visible), causal: isCausal ? 1 : 0, before: Int64(before),
      after: Int64(after), degree: Int64(degree), capacity: Int64(capacity))
  }

  /// From the scores of some rows and all visible tokens, already divided by √R and with the biases of relations.
  package func forward(
    _ rows: Range<Int>, scores: Matrix, relations: GraphRelations?, into graph: GraphRows, scratch: GraphScratch
  ) {
    precondition(scores.rows == rows.count && graph.capacity == Int(shape.capacity))
    func choose(_ relations: UnsafePointer<ress_relations>?) {
      withUnsafePointer(to: shape) {
        ress_graph_forward(
          $0, relations, Int64(rows.lowerBound), Int64(rows.upperBound), scores.pointer, Int64(scores.stride),
          graph.neighbours, graph.counts, graph.weights.pointer, graph.structure.pointer, scratch.heap, scratch.pool,
          scratch.places)
      }
    }
    if let relations { withUnsafePointer(to: relations.kernel) { choose($0) } } else { choose(nil) }
  }
}

/// Sums and gradients over some rows of a graph.
extension GraphRows {
  /// Σ (A − A')² over the union of the neighbourhoods in both graphs.
  package func squaredDifference(_ rows: Range<Int>, from other: GraphRows) -> Double {
    ress_graph_smooth(
      Int64(rows.lowerBound), Int64(rows.upperBound), Int64(capacity), neighbours, counts, weights.pointer,
      other.neighbours, other.counts, other.weights.pointer)
  }

  /// dweights (T, N) += factor · the gradient of `squaredDifference` with respect to A.
  package func backwardSquaredDifference(
    _ rows: Range<Int>, from other: GraphRows, factor: Real, into dweights: Matrix
  ) {
    ress_graph_smooth_backward(
      Int64(rows.lowerBound), Int64(rows.upperBound), Int64(capacity), 2 * factor, neighbours, counts,
      weights.pointer, other.neighbours, other.counts, other.weights.pointer, dweights.pointer)
  }

  /// The gradients of the scores of the edges, dscores (T, N), and of the queries, dqueries (T, R).
  /// - Parameters:
  ///   - scale: 1/√R.
  ///   - gain: the factor of log A + log |N| in each head's scores, (H).
  ///   - support: what attention has kept, and `dlogits` (T, H, k) the gradients of its scores.
  ///   - dweights: gradient of A (T, N).
  ///   - keys: those of the visible tokens, (S, R).
  package func backwardScores(
    _ rows: Range<Int>, scale: Real, gain: RealPointer, support: AttentionSupport, dlogits: RealPointer,
    dweights: Matrix, keys: RealPointer, into dscores: Matrix, dqueries: Matrix
  ) {
    ress_graph_backward(
      Int64(rows.lowerBound), Int64(rows.upperBound), Int64(capacity), Int64(dqueries.columns), Int64(support.heads),
      Int64(support.kept), scale, gain, neighbours, counts, weights.pointer, support.positions, support.counts, dlogits,
      dweights.pointer, keys, dscores.pointer, dqueries.pointer)
  }

  /// dkeys (T, R) += from the scores of all edges to tokens of the segment, row by row in order.
  /// - Parameter cached: visible tokens before the segment.
  package func backwardKeys(cached: Int, scale: Real, dscores: Matrix, queries: Matrix, into dkeys: Matrix) {
    ress_graph_backward_keys(
      Int64(dkeys.rows), Int64(capacity), Int64(dkeys.columns), Int64(cached), scale, neighbours, counts,
      dscores.pointer, queries.pointer, dkeys.pointer)
  }
}
