// The buffer into which a source reads a sequence. It is reused for every sequence, so that a steady training step
// does not allocate.

import Model

package struct SequenceBuffer {
  /// Features of all tokens. In text every token has one feature.
  package var tokens: [Int32] = []
  /// Index of the first feature of each token, and the end of the last one's; empty where every token has one
  /// feature.
  package var bags: [Int32] = []
  /// Targets in the form that the model's head needs (docs/model.md); negative ones are ignored.
  package var targets: [Int32] = []
  /// Relations of the tokens; empty where the dataset has none, or the model reads none.
  package var relations = RelationTable()

  package init() {}

  package var tokenCount: Int { bags.isEmpty ? tokens.count : bags.count - 1 }

  /// Keeps only the first `count` tokens. The targets are not changed; they belong to the whole sequence.
  package mutating func cut(to count: Int) {
    tokens.removeSubrange((bags.isEmpty ? count : Int(bags[count]))...)
    if !bags.isEmpty { bags.removeSubrange((count + 1)...) }
    relations.cut(to: count)
  }

  package func withInput<Result>(
    _ body: (TokenInput, UnsafeBufferPointer<Int32>) throws -> Result
  ) rethrows -> Result {
    try tokens.withUnsafeBufferPointer { tokens in
      try bags.withUnsafeBufferPointer { bags in
        try targets.withUnsafeBufferPointer { targets in
          try relations.withView { try body(TokenInput(tokens, bags: bags, relations: $0), targets) }
        }
      }
    }
  }
}
