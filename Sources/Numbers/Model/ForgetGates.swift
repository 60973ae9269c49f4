// Forget gates (arXiv 2503.02130): attention scores decrease with the distance of two tokens, at a rate that the
// model chooses by content. Each token and head has a term f = log σ(x · forget + bias) ≤ 0. F is the running sum
// of the terms over the visible tokens, and the score of two tokens is reduced by |F_i − F_j|, the sum of the terms
// between them. Both kinds of attention use it. The terms of cached tokens are stored with their keys and get no
// gradient.

import Kernels

package struct ForgetGates {
  private let sizes: Sizes
  private let team: Team
  /// Gradient of the logits, (T, H).
  private let dlogits: Matrix
  /// Gradient of F at the segment's rows, (H, T); attention adds to it.
  let ddecays: Matrix

  package struct Activations {
    /// F, one row per head over the visible tokens, (H, S).
    let decays: Matrix
    init(_ arena: Arena, _ sizes: Sizes) {
      decays = arena.matrix(sizes.forgets ? sizes.heads : 0, sizes.visible)
    }

    /// F of a head; nil without forget gates.
    func head(_ head: Int) -> RealPointer? { decays.rows > 0 ? decays.row(head) : nil }
  }

  init(_ arena: Arena, _ sizes: Sizes, team: Team) {
    self.sizes = sizes
    self.team = team
    let heads = sizes.forgets ? sizes.heads : 0
    dlogits = arena.matrix(sizes.segment, heads)
    ddecays = arena.matrix(heads, sizes.segment)
  }

  /// Computes the rows' terms, into the tables, and F over all visible tokens. x (T, D).
  func forward(_ x: Matrix, span: Span, tables: StepTables, weights w: BlockWeights, activations a: Activations) {
    guard sizes.forgets else { return }
    let tiles = span.tiles(for: team)
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      let terms = tables.forgets[rows: span.start + rows.lowerBound..<span.start + rows.upperBound]
      BLAS.multiplyTransposed(x[rows: rows], w.forget, into: terms)
      ForgetKernel.forward(terms, bias: w.forgetBias)
    }
    let terms = tables.forgets[rows: span.firstVisible..<span.start + span.rows.upperBound]
    for head in 0..<sizes.heads { ForgetKernel.sum(terms, head: head, into: a.decays.row(head)) }
  }

  /// Clears the gradient; call before attention's backward pass.
  func beginBackward() { ddecays.clear() }

  /// dx (T, D) += the part that comes through `ddecays`.
  func backward(
    _ x: Matrix, span: Span, tables: StepTables, weights w: BlockWeights, dx: Matrix, gradient d: BlockWeights
  ) {
    guard sizes.forgets else { return }
    let tiles = span.tiles(for: team)
    let all = 0..<span.rows.count
    let terms = tables.forgets[rows: span.start..<span.start + all.count]
    for head in 0..<sizes.heads {
      ForgetKernel.backward(terms, head: head, ddecays: ddecays.row(head), into: dlogits.pointer)
    }
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      BLAS.multiply(dlogits[rows: rows], w.forget, into: dx[rows: rows], adding: true)
    }
    addWeightGradient(dlogits[rows: all], x[rows: all], into: d.forget, team: team)
    dlogits[rows: all].addRows(to: d.forgetBias)
  }
}

/// The learned factor τ of a head's scores, stored as its logarithm; 1 where it is not learned.
package struct ScoreScales {
  private let isLearned: Bool
  /// Gradient of the logarithm, by head.
  let gradient: RealPointer
  private let heads: Int

  init(_ arena: Arena, _ sizes: Sizes) {
    isLearned = sizes.model.scalesScores
    heads = sizes.heads
    gradient = arena.reals(sizes.heads)
  }

  func factor(_ head: Int, weights w: BlockWeights) -> Real {
    isLearned ? Real(SameEverywhere.exp(Double(w.temperature[head]))) : 1
  }

  func beginBackward() { gradient.update(repeating: 0, count: heads) }

  func finishBackward(_ d: BlockWeights) {
    if isLearned { Vectors.add(gradient, to: d.temperature, count: heads) }
  }
}
