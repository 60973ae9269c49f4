// The graph that SOES chose for a segment at one step of recurrence, as a value that does not refer to the
// activations. It is shown to users (`ress graph`).

import Kernels

package struct TokenGraph: Equatable, Sendable {
  package struct Edge: Equatable, Sendable {
    /// Number of the token in the sequence.
    package var token: Int
    /// A_ij.
    package var weight: Real
  }

  /// The first token of the sequence that the segment sees, and the segment's own tokens.
  package let firstVisible: Int
  package let tokens: Range<Int>
  /// The neighbours of each of the segment's tokens, ascending; their weights add up to 1.
  package let edges: [[Edge]]

  init(_ graph: GraphRows, _ span: Span, sizes: Sizes) {
    let start = span.segment * sizes.segment, firstVisible = start - span.cached
    self.firstVisible = firstVisible
    tokens = start + span.rows.lowerBound..<start + span.rows.upperBound
    edges = span.rows.map { row in
      let first = row * sizes.neighbours
      return (first..<first + Int(graph.counts[row])).map { place in
        Edge(
          token: firstVisible + Int(graph.neighbours[place]),
          weight: graph.weights.row(row)[place - first])
      }
    }
  }
}
