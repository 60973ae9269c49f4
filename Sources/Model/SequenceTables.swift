// What later tokens of a sequence still need of earlier ones, for each step of recurrence: keys, values, structure keys
// and the rows that the recency sum reads. A segment writes its rows behind those of the segment before, so the cache
// is simply the rows in front of it and nothing is copied.

import Kernels

/// One recurrence step's tables, rows × width; row 0 is the oldest token still held.
package struct StepTables {
  package let keys: Matrix
  package let values: Matrix
  package let structureKeys: Matrix
  /// Normalised inputs before the recency sum.
  package let inputs: Matrix
}

package final class SequenceTables {
  package let steps: [StepTables]
  private let sizes: Sizes
  private let arena: Arena
  private let capacity: Int
  /// Rows held.
  private var filled = 0

  /// Room for a whole sequence of `tokens`, in training, where the backward needs every row.
  /// `backing: .file` lets the kernel move rows of a very long sequence to disk.
  package convenience init(_ sizes: Sizes, wholeSequence tokens: Int, backing: Arena.Backing) {
    self.init(sizes, capacity: tokens, backing: backing)
  }

  /// Room for the visible past and one segment, however long the sequence: for evaluation and generation.
  package convenience init(rolling sizes: Sizes) {
    self.init(sizes, capacity: sizes.history + 2 * sizes.segment, backing: .memory)
  }

  private init(_ sizes: Sizes, capacity: Int, backing: Arena.Backing) {
    self.sizes = sizes
    self.capacity = capacity
    (arena, steps) = Arena.build(backing: backing) { arena in
      (0..<sizes.steps).map { _ in
        StepTables(
          keys: arena.matrix(capacity, sizes.width), values: arena.matrix(capacity, sizes.width),
          structureKeys: arena.matrix(capacity, sizes.model.isTransformer ? 0 : sizes.rank),
          inputs: arena.matrix(capacity, sizes.width))
      }
    }
  }

  package var byteCount: Int { arena.byteCount }

  /// A new sequence begins.
  package func begin() { filled = 0 }

  /// The span of the next segment, of `rows` tokens. Call `finish` when it is computed.
  package func next(segment: Int, rows: Int) -> Span {
    if filled + rows > capacity { roll() }
    return span(segment: segment, start: filled, rows: rows)
  }

  /// The span of a segment computed before, whose rows are still here.
  package func span(segment: Int, start: Int, rows: Int) -> Span {
    Span(
      segment: segment, start: start, cached: min(start, sizes.cache),
      before: min(start, sizes.taps - 1), rows: 0..<rows)
  }

  package func finish(_ span: Span) { filled = span.start + span.rows.upperBound }

  /// Moves the visible past to the front.
  private func roll() {
    let kept = min(sizes.history, filled)
    for step in steps {
      for table in [step.keys, step.values, step.structureKeys, step.inputs] {
        table.pointer.update(from: table.row(filled - kept), count: kept * table.columns)
      }
    }
    filled = kept
  }
}
