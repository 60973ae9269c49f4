// How fast attention forgets: a token and head has the term f = log σ(x · forget + bias) ≤ 0, F is the terms' running sum over the
// visible tokens, and the score of two tokens falls by |F_i − F_j|, what lies between them (arXiv 2503.02130). Both kinds of
// attention use it. A cached token's term is kept with its keys and gets no gradient.

import CKernels
import Kernels

#if canImport(Glibc)
  import Glibc
#endif

package struct ForgetGates {
  private let sizes: Sizes
  private let team: Team
  /// (T, H) gradient of the logits.
  private let dlogits: Matrix
  /// (H, T) gradient of F at the segment's rows; attention adds to it.
  let ddecays: Matrix

  package struct Activations {
    /// F, a row a head over the visible tokens. (H, S)
    let decays: Matrix
    init(_ arena: Arena, _ sizes: Sizes) {
      decays = arena.matrix(sizes.forgets ? sizes.heads : 0, sizes.visible)
    }

    /// F of a head, or nil without gates.
    func head(_ head: Int) -> RealPointer? { decays.rows > 0 ? decays.row(head) : nil }
  }

  init(_ arena: Arena, _ sizes: Sizes, _ team: Team) {
    self.sizes = sizes
    self.team = team
    let heads = sizes.forgets ? sizes.heads : 0
    dlogits = arena.matrix(sizes.segment, heads)
    ddecays = arena.matrix(heads, sizes.segment)
  }

  /// x (T, D) → the rows' terms in the tables, and F over all visible tokens.
  func forward(_ x: Matrix, _ span: Span, _ tables: StepTables, _ w: BlockWeights, _ a: Activations) {
    guard sizes.forgets else { return }
    let tiles = span.tiles
    let heads = Int64(sizes.heads)
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      let terms = tables.forgets[rows: span.start + rows.lowerBound..<span.start + rows.upperBound]
      BLAS.multiplyTransposed(x[rows: rows], w.forget, into: terms)
      ress_forget_forward(Int64(rows.count), heads, terms.pointer, w.forgetBias, terms.pointer)
    }
    let visible = Int64(span.cached + span.rows.upperBound)
    for head in 0..<sizes.heads {
      ress_forget_sum(visible, heads, Int64(head), tables.forgets.row(span.firstVisible), a.decays.row(head))
    }
  }

  /// Before attention's backward.
  func beginBackward() { ddecays.clear() }

  /// From `ddecays` → dx (T, D) +=.
  func backward(_ x: Matrix, _ span: Span, _ tables: StepTables, _ w: BlockWeights, dx: Matrix, _ d: BlockWeights) {
    guard sizes.forgets else { return }
    let tiles = span.tiles
    let all = 0..<span.rows.count
    for head in 0..<sizes.heads {
      ress_forget_backward(
        Int64(all.count), Int64(sizes.heads), Int64(head), tables.forgets.row(span.start), ddecays.row(head),
        dlogits.pointer)
    }
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      BLAS.multiply(dlogits[rows: rows], w.forget, into: dx[rows: rows], adding: true)
    }
    addWeightGradient(dlogits[rows: all], x[rows: all], into: d.forget, team)
    ress_sum_rows(Int64(all.count), Int64(sizes.heads), dlogits.pointer, d.forgetBias)
  }
}

/// The learned factor of a head's scores, kept as its logarithm; 1 where it is fixed.
package struct ScoreScales {
  private let isLearned: Bool
  /// By head: the gradient of the logarithm.
  let gradient: RealPointer
  private let heads: Int

  init(_ arena: Arena, _ sizes: Sizes) {
    isLearned = sizes.model.scalesScores
    heads = sizes.heads
    gradient = arena.reals(sizes.heads)
  }

  func factor(_ head: Int, _ w: BlockWeights) -> Real { isLearned ? Real(exp(Double(w.temperature[head]))) : 1 }

  func beginBackward() { gradient.update(repeating: 0, count: heads) }

  func finishBackward(_ d: BlockWeights) {
    if isLearned { ress_add(Int64(heads), gradient, d.temperature) }
  }
}
