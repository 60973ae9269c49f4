// The rows of earlier tokens that later tokens still need, for each step of recurrence: keys, values, structure
// keys, and the rows that the taps read. A segment writes its rows after those of the segment before, so the
// visible past (the cache) is simply the rows before the segment's own.
//
// Tables have room for a whole sequence, or for the visible past and one segment. In the second case the past is
// moved to the front after each segment, and a backward pass that recomputes segments reads each one's past from a
// `BorderFile`.

import Kernels

/// The tables of one recurrence step, (rows, width); row 0 is the oldest token that is still held.
package struct StepTables {
  package let keys: Matrix
  package let values: Matrix
  package let structureKeys: Matrix
  /// Normalised inputs of attention and of the experts, before the taps.
  package let inputs: Matrix
  package let expertInputs: Matrix
  /// Terms of the forget gates, (rows, H).
  package let forgets: Matrix

  /// All tables.
  var all: [Matrix] { [keys, values, structureKeys, inputs, expertInputs, forgets] }

  /// The tables that are in use, and how many rows each must keep for the next segment: the cache, or the reach of
  /// the taps.
  fileprivate func remembered(_ sizes: Sizes) -> [(table: Matrix, rows: Int)] {
    let held = [
      (keys, sizes.cache), (values, sizes.cache), (structureKeys, sizes.cache), (forgets, sizes.cache),
      (inputs, sizes.attentionTaps - 1), (expertInputs, sizes.expertTaps - 1),
    ]
    return held.filter { $0.0.columns > 0 && $0.1 > 0 }
  }
}

/// The tables of all steps of recurrence, and where the rows of each segment are in them.
package final class SequenceTables {
  package let steps: [StepTables]
  private let sizes: Sizes
  private let arena: Arena
  private let capacity: Int
  /// Number of rows held, in rolling tables.
  private var filled = 0
  /// What crosses the borders of segments, where the tables do not hold a whole sequence.
  private let borders: BorderFile?

  /// Tables for a whole sequence of `tokens` tokens.
  package convenience init(_ sizes: Sizes, wholeSequence tokens: Int) {
    self.init(sizes, capacity: tokens, borders: nil)
  }

  /// Tables for the visible past and one segment; a file has what the backward pass needs of the rest.
  package convenience init(segmentwise sizes: Sizes) {
    var counted: [StepTables] = []
    _ = Arena.measure { counted = SequenceTables.steps($0, sizes, rows: 0) }
    let recordCount = counted.flatMap { $0.remembered(sizes) }
      .reduce(0) { $0 + min(sizes.segment, $1.rows) * $1.table.columns }
    self.init(
      sizes, capacity: sizes.history + sizes.segment,
      borders: BorderFile(recordByteCount: (recordCount + sizes.slots * sizes.width) * MemoryLayout<Real>.stride))
  }

  /// Tables for the visible past and up to two segments, for text of any length: used for generation.
  package convenience init(rolling sizes: Sizes) {
    self.init(sizes, capacity: sizes.history + 2 * sizes.segment, borders: nil)
  }

  private init(_ sizes: Sizes, capacity: Int, borders: BorderFile?) {
    self.sizes = sizes
    self.capacity = capacity
    self.borders = borders
    (arena, steps) = Arena.build { SequenceTables.steps($0, sizes, rows: capacity) }
  }

  private static func steps(_ arena: Arena, _ sizes: Sizes, rows: Int) -> [StepTables] {
    (0..<sizes.steps).map { _ in
      StepTables(
        keys: arena.matrix(rows, sizes.width), values: arena.matrix(rows, sizes.width),
        structureKeys: arena.matrix(rows, sizes.model.isTransformer ? 0 : sizes.rank),
        inputs: arena.matrix(rows, sizes.width),
        expertInputs: arena.matrix(rows, sizes.expertTaps > 1 ? sizes.width : 0),
        forgets: arena.matrix(rows, sizes.forgets ? sizes.heads : 0))
    }
  }

  package var byteCount: Int { arena.byteCount }

  /// Bytes of tables with that many rows.
  package static func byteCount(_ sizes: Sizes, rows: Int) -> Int {
    Arena.measure { _ = steps($0, sizes, rows: rows) }
  }

  /// The span of a segment whose first token is token `first` of the sequence.
  package func span(segment: Int, first: Int, rows: Int) -> Span {
    Span(
      segment: segment, start: borders == nil ? first : sizes.history, cached: min(first, sizes.cache),
      first: first, rows: 0..<rows)
  }

  // MARK: segment by segment

  /// Stores the memory (M, D) at a segment's start, for the backward pass.
  func keep(memory: Matrix, segment: Int) throws {
    try borders?.write(memory[rows: 0..<memory.rows], to: segment, at: 0)
  }

  /// Called when a segment of `rows` tokens is computed and another follows: moves the rows that the next one sees
  /// to the front and, with `keeping`, writes them to the file.
  func advance(segment: Int, rows: Int, keeping: Bool) throws {
    guard let borders else { return }
    var place = sizes.slots * sizes.width
    for step in steps {
      for (table, remembered) in step.remembered(sizes) {
        let own = min(rows, remembered)
        let end = sizes.history + rows
        if keeping { try borders.write(table[rows: end - own..<end], to: segment, at: place) }
        place += min(sizes.segment, remembered) * table.columns
        // Rows before the kept history are unused; copying them along is harmless.
        let moved = min(sizes.history, remembered)
        (table.row(sizes.history - moved)).update(from: table.row(end - moved), count: moved * table.columns)
      }
    }
  }

  /// Restores the past of a segment, and the memory (M, D) at its start. All segments before it were full.
  func restore(segment: Int, memory: Matrix) throws {
    guard let borders else { return }
    try borders.read(memory, from: segment, at: 0)
    var place = sizes.slots * sizes.width
    for step in steps {
      for (table, remembered) in step.remembered(sizes) {
        let kept = min(sizes.segment, remembered)
        var left = min(segment * sizes.segment, remembered)
        var end = sizes.history
        var earlier = segment - 1
        while left > 0 {
          // The newest rows that segment `earlier` has kept.
          let rows = min(left, kept)
          try borders.read(
            table[rows: end - rows..<end], from: earlier, at: place + (kept - rows) * table.columns)
          left -= rows
          end -= rows
          earlier -= 1
        }
        place += kept * table.columns
      }
    }
  }

  // MARK: rolling

  /// Starts a new text.
  package func begin() { filled = 0 }

  /// The span of the next segment, of `rows` tokens. `finish` must be called when it is computed.
  package func next(segment: Int, rows: Int) -> Span {
    if filled + rows > capacity { roll() }
    return span(segment: segment, first: filled, rows: rows)
  }

  /// The rows of the span are computed: the next segment begins after them.
  package func finish(_ span: Span) { filled = span.start + span.rows.upperBound }

  /// Moves the visible past to the front.
  private func roll() {
    let kept = min(sizes.history, filled)
    for step in steps {
      for table in step.all {
        table.pointer.update(from: table.row(filled - kept), count: kept * table.columns)
      }
    }
    filled = kept
  }
}
