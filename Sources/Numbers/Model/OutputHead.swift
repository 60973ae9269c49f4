// The output heads, as a protocol: what a model predicts (docs/model.md, "Heads").
//
// Order of calls for one training sequence (SequenceModel.train):
//   for each segment, first to last:   forward of the segment, then head.read
//   once:                              head.sequence   (loss of the whole sequence, for classes and spans)
//   for each segment, last to first:   head.segment    (loss of the segment's own rows, and dh), then backward of the
//                                                      segment
//
// A loss that needs one segment alone (next token, class of each token) is computed in `segment`, forward and
// backward in one pass, so that the logits of only one segment exist at a time. Other losses are computed in
// `sequence`.

import Configuration
import Kernels

/// Legend: T tokens of the segment, M slots, D width.
package protocol OutputHead {
  /// The forward pass has computed a segment: h (T, D) is its last H, `start` the number of its first token in the
  /// sequence.
  func read(_ h: Matrix, start: Int, rowCount: Int, weights w: Weights)

  /// The sequence is complete. Returns the loss of the head's predictions for the sequence as a whole. With
  /// `gradient`, dmemory (M, D) is the gradient of the memory after the last segment (overwritten), and later calls
  /// of `segment` continue from it; all times `scale`.
  func sequence(
    memory: Matrix, targets: UnsafeBufferPointer<Int32>, tokenCount: Int, weights w: Weights, scale: Real,
    dmemory: Matrix,
    gradient d: Weights?
  ) -> Double

  /// Returns the loss of one segment's rows. With `gradient`, dh (T, D) is overwritten and the gradients of the
  /// head's weights are added to, times `scale`.
  func segment(
    _ h: Matrix, start: Int, rowCount: Int, targets: UnsafeBufferPointer<Int32>, weights w: Weights, scale: Real,
    dh: Matrix,
    gradient d: Weights?
  ) -> Double

  /// Writes the logits of a segment's rows, (rows, classes), into `out` from row `start`; nothing for a head that
  /// has only logits of the whole sequence.
  func writeLogits(_ h: Matrix, start: Int, rowCount: Int, weights w: Weights, into out: Matrix)

  /// Writes the logits of the whole sequence into the first row of `out`; nothing for a head that has logits per
  /// token.
  func writeLogits(memory: Matrix, tokenCount: Int, weights w: Weights, into out: Matrix)
}

extension Sizes {
  func outputHead(_ arena: Arena, _ team: Team, maximumTokens: Int) -> any OutputHead {
    switch model.head {
    case .lm, .tag: TokenHead(arena, self, team: team)
    case .classify: ClassHead(arena, self)
    case .span: SpanHead(arena, self, maximumTokens: maximumTokens)
    }
  }

  /// Number of rows of logits of a sequence.
  package func logitRows(_ tokenCount: Int) -> Int { model.head == .classify ? 1 : tokenCount }
  package var logitColumns: Int { model.head == .lm ? vocabulary : model.headClasses }

  /// Number of targets of a sequence.
  package func targetRows(_ tokenCount: Int) -> Int {
    switch model.head {
    case .lm, .tag: tokenCount
    case .classify: 1
    case .span: 2
    }
  }
}
