// What a source reads a sequence into, again and again without a new allocation.

import Model

package struct SequenceBuffer {
  /// The inputs' features; of text each token is one.
  package var tokens: [Int32] = []
  /// First feature of each token and the last one's end; empty where each token is one feature.
  package var bags: [Int32] = []
  /// As the model's head wants them (docs/model.md); a negative one counts nothing.
  package var targets: [Int32] = []

  package init() {}

  package var tokenCount: Int { bags.isEmpty ? tokens.count : bags.count - 1 }

  /// The first `count` tokens alone. What is asked of them is left as it is, and belongs to the whole sequence.
  package mutating func cut(to count: Int) {
    tokens.removeSubrange((bags.isEmpty ? count : Int(bags[count]))...)
    if !bags.isEmpty { bags.removeSubrange((count + 1)...) }
  }

  package func withInput<Result>(
    _ body: (TokenInput, UnsafeBufferPointer<Int32>) throws -> Result
  ) rethrows -> Result {
    try tokens.withUnsafeBufferPointer { tokens in
      try bags.withUnsafeBufferPointer { bags in
        try targets.withUnsafeBufferPointer { targets in try body(TokenInput(tokens, bags: bags), targets) }
      }
    }
  }
}
