// What a model is asked at its end (docs/model.md, "Heads"). A head is told of every segment in the forward, then of the whole
// sequence, then of every segment again in the backward, last first: losses that need one segment alone (the next token, a token's
// class) are computed there in one pass, others when the sequence is complete.

import Configuration
import Kernels

package protocol OutputHead {
  /// The forward reached the end of a segment: h (T, D) is its last H, `start` its first token's place in the sequence.
  func read(_ h: Matrix, start: Int, rowCount: Int, _ w: Weights)

  /// The sequence is complete. Returns the loss of what is asked of it as a whole. With `gradient`, dmemory (M, D) is that of the
  /// memory after the last segment (overwritten), and later calls of `segment` continue from here; all times `scale`.
  func sequence(
    memory: Matrix, targets: UnsafeBufferPointer<Int32>, tokenCount: Int, _ w: Weights, scale: Real, dmemory: Matrix,
    gradient d: Weights?
  ) -> Double

  /// One segment's own loss. With `gradient`, dh (T, D) overwritten and the gradients of the head's weights (+=), times `scale`.
  func segment(
    _ h: Matrix, start: Int, rowCount: Int, targets: UnsafeBufferPointer<Int32>, _ w: Weights, scale: Real, dh: Matrix,
    gradient d: Weights?
  ) -> Double

  /// Writes the logits that a segment's rows have, (rows, classes), into `out` from row `start`; none where only the whole sequence has.
  func writeLogits(_ h: Matrix, start: Int, rowCount: Int, _ w: Weights, into out: Matrix)

  /// Writes the logits of the whole sequence into the first row of `out`, where the head has any.
  func writeLogits(memory: Matrix, tokenCount: Int, _ w: Weights, into out: Matrix)
}

extension Sizes {
  func outputHead(_ arena: Arena, _ team: Team, maximumTokens: Int) -> any OutputHead {
    switch model.head {
    case .lm, .tag: TokenHead(arena, self, team)
    case .classify: ClassHead(arena, self)
    case .span: SpanHead(arena, self, maximumTokens: maximumTokens)
    }
  }

  /// Rows of logits that a sequence has.
  package func logitRows(_ tokenCount: Int) -> Int { model.head == .classify ? 1 : tokenCount }
  package var logitColumns: Int { model.head == .lm ? vocabulary : model.headClasses }

  /// Targets of a sequence.
  package func targetRows(_ tokenCount: Int) -> Int {
    switch model.head {
    case .lm, .tag: tokenCount
    case .classify: 1
    case .span: 2
    }
  }
}
