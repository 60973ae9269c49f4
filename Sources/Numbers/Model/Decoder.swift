// Generates text with the same segment code as training, some rows at a time. It holds the visible past, one
// segment and the memory, so its memory does not grow with the text.

import Configuration
import Kernels

/// Usage: `begin()`, then `append` first the prompt and then each token that was sampled from the returned logits.
///
/// A segment may be filled over several calls: `span` has the segment's rows so far, and each call computes only
/// the new rows, for which the tables hold what earlier rows left (keys, values, tap inputs). A full segment is
/// closed as in training: its rows are written into the memory, and the next segment sees them in the tables. Up to
/// the order of some sums, the logits therefore equal those that training computes for the same text.
package final class Decoder {
  private let sizes: Sizes
  private let weights: Weights
  private let team: Team
  private let segment: Segment
  private let head: TokenHead
  private let tables: SequenceTables
  private let activations: SegmentActivations
  private let memory: Matrix
  private let logits: Matrix
  private let exchange: any ExpertExchange
  private let arena: Arena
  private var tokens: [Int32]
  private var span: Span?
  private var segmentIndex = 0

  package init(_ sizes: Sizes, weights: Weights, team: Team, exchange: any ExpertExchange) {
    precondition(sizes.model.head == .lm, "only a language model writes text")
    self.sizes = sizes
    self.weights = weights
    self.team = team
    self.exchange = exchange
    let (arena, parts) = Arena.build { arena in
      (
        Segment(arena, sizes, team: team), TokenHead(arena, sizes, team: team), SegmentActivations(arena, sizes),
        arena.matrix(sizes.slots, sizes.width), arena.matrix(1, sizes.vocabulary)
      )
    }
    self.arena = arena
    (segment, head, activations, memory, logits) = parts
    tables = SequenceTables(rolling: sizes)
    tokens = Array(repeating: 0, count: sizes.segment)
    begin()
  }

  /// Memory in use, without the weights.
  package var byteCount: Int { arena.byteCount + tables.byteCount }

  /// Starts a new text.
  package func begin() {
    tables.begin()
    segmentIndex = 0
    span = nil
    if sizes.slots > 0 {
      memory.copy(from: weights.memoryInitial)
      segment.step.memory.begin(weights)
    }
  }

  /// Reads tokens and returns the logits (V) of the token after the last one, valid until the next call.
  package func append(_ newTokens: [Int32]) throws -> UnsafeBufferPointer<Real> {
    precondition(!newTokens.isEmpty)
    weights.refresh(team)
    // One turn per part of `newTokens` that fits into the current segment.
    var position = 0
    while position < newTokens.count {
      var current = openSpan()
      let first = current.rows.upperBound
      let count = min(newTokens.count - position, sizes.segment - first)
      for index in 0..<count { tokens[first + index] = newTokens[position + index] }
      current.rows = first..<first + count
      try tokens.withUnsafeBufferPointer { tokens in
        try segment.forward(
          TokenInput(tokens), ExpertSite(unit: 0, sequence: 0, segment: segmentIndex, recurrence: 0), span: current,
          tables: tables, memory: memory, weights: weights, activations: activations, exchange: exchange, keep: false)
      }
      tables.finish(current)
      span = current
      position += count
      if position == newTokens.count {
        head.logits(activations.last, row: current.rows.upperBound - 1, weights: weights, into: logits)
      }
      if current.rows.upperBound == sizes.segment { closeSegment() }
    }
    return UnsafeBufferPointer(start: logits.pointer, count: sizes.vocabulary)
  }

  /// The current segment, with the rows computed so far; begins a new one where there is none.
  private func openSpan() -> Span {
    if let span { return span }
    var fresh = tables.next(segment: segmentIndex, rows: sizes.segment)
    fresh.rows = 0..<0
    segment.begin(memory: memory, weights: weights, activations: activations)
    span = fresh
    return fresh
  }

  /// Writes the memory from the full segment, in all steps of recurrence, so that the next segment can read it.
  private func closeSegment() {
    segment.end(rowCount: sizes.segment, memory: memory, weights: weights, activations: activations)
    segmentIndex += 1
    span = nil
  }
}
