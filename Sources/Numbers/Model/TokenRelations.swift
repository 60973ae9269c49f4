// Relations of a sequence's tokens, which the input gives: edges of a graph, cells of one row of a table. SOES makes
// related tokens neighbours and adds a learned bias of the relation's kind to their score (docs/model.md,
// "Relations").

import Kernels

/// The relations of a sequence from some token on. It refers to memory that the caller keeps.
package struct TokenRelations {
  /// Where the pairs of each token begin, and the end.
  private let starts: UnsafePointer<Int32>
  private let pairs: UnsafePointer<Int32>
  /// Number of the token in the sequence that `starts` begins with.
  private let first: Int

  fileprivate init(_ starts: UnsafePointer<Int32>, _ pairs: UnsafePointer<Int32>, first: Int) {
    self.starts = starts
    self.pairs = pairs
    self.first = first
  }

  /// The relations of the tokens from token `count` of these on.
  func from(_ count: Int) -> TokenRelations { TokenRelations(starts + count, pairs, first: first + count) }

  /// The relations as the graph's kernels read them, for a segment that begins with the first of these tokens.
  /// - Parameters:
  ///   - cached: visible tokens before the segment.
  ///   - bias: by kind.
  func graph(cached: Int, bias: RealPointer) -> GraphRelations {
    GraphRelations(starts: starts, pairs: pairs, first: first - cached, bias: bias)
  }
}

/// The relations of one sequence. The memory is used again for the next one.
package struct RelationTable: Equatable, Sendable {
  /// Where the pairs of each token begin, counted in pairs, and the end; empty for a sequence without relations.
  private var starts: [Int32] = []
  /// The related token and the kind, one pair after the other; those of a token are ascending and all different.
  private var pairs: [Int32] = []

  package init() {}

  package var isEmpty: Bool { starts.isEmpty }
  /// Number of related pairs of tokens, each in one direction.
  package var count: Int { pairs.count / 2 }

  package mutating func clear() {
    starts.removeAll(keepingCapacity: true)
    pairs.removeAll(keepingCapacity: true)
  }

  /// Replaces the relations by those of a sequence of `tokens` tokens.
  /// - Parameter triples: token, related token and kind, one triple after the other, ascending and all different.
  ///   Those of tokens that the sequence does not have are left out.
  package mutating func set(_ triples: [Int32], tokens: Int) {
    clear()
    var place = 0
    for token in 0..<tokens {
      starts.append(Int32(count))
      while place < triples.count, triples[place] == token {
        if triples[place + 1] < tokens {
          pairs.append(triples[place + 1])
          pairs.append(triples[place + 2])
        }
        place += 3
      }
    }
    starts.append(Int32(count))
  }

  /// Keeps the relations of the first `tokens` tokens. Those to later tokens stay; a model of fewer tokens does not
  /// see these.
  package mutating func cut(to tokens: Int) {
    guard !isEmpty, tokens + 1 < starts.count else { return }
    starts.removeSubrange((tokens + 1)...)
    pairs.removeSubrange((2 * Int(starts[tokens]))...)
  }

  /// Calls `body` with a view of the relations; nil where the sequence has none.
  package func withView<Result>(_ body: (TokenRelations?) throws -> Result) rethrows -> Result {
    if starts.isEmpty { return try body(nil) }
    return try starts.withUnsafeBufferPointer { starts in
      try pairs.withUnsafeBufferPointer { pairs in
        // A sequence whose tokens are related to none has no pairs, which are then never read.
        try body(TokenRelations(starts.baseAddress!, pairs.baseAddress ?? starts.baseAddress!, first: 0))
      }
    }
  }
}
