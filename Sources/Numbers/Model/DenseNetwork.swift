// The SwiGLU network (arXiv 2002.05202) that every token passes through, held by every worker: the shared expert
// beside the routed ones, or the dense network in place of experts.

import Kernels

package struct DenseNetwork {
  private let team: Team
  private let width: Int
  /// By lane: hidden rows of the forward pass, (tile, F).
  private let laneHidden: Matrix
  /// Hidden rows and their gradient (T, F), gradient of gate and up (T, 2F).
  private let hidden, dhidden, dgateUp: Matrix

  init(_ arena: Arena, _ sizes: Sizes, team: Team) {
    self.team = team
    width = sizes.model.denseWidth
    laneHidden = arena.matrix(team.laneCount, Sizes.rowTile * width)
    hidden = arena.matrix(sizes.segment, width)
    dhidden = arena.matrix(sizes.segment, width)
    dgateUp = arena.matrix(sizes.segment, 2 * width)
  }

  /// For a tile y (N, D): gateUp (N, 2F), and h (N, D) += down · (silu(gate · y) ⊙ (up · y)).
  func forward(_ y: Matrix, lane: Int, weights w: ExpertWeights, gateUp: Matrix, adding h: Matrix) {
    let hidden_NF = Matrix(laneHidden.row(lane), rows: y.rows, columns: width)
    BLAS.apply(w.gateUp, to: y, into: gateUp)
    SwiGLU.forward(gateUp: gateUp, into: hidden_NF)
    BLAS.apply(w.down, to: hidden_NF, into: h, adding: true)
  }

  /// Adds the gradients of the weights (+=) from dout (T, D), and computes that of gate and up, which
  /// `backwardInput` uses.
  func backward(
    _ span: Span, y: Matrix, weights w: ExpertWeights, gateUp: Matrix, dout: Matrix, gradient d: ExpertWeights
  ) {
    let tiles = span.tiles(for: team)
    let all = 0..<span.rows.count
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      BLAS.multiply(dout[rows: rows], w.down, into: dhidden[rows: rows])
      SwiGLU.backward(
        gateUp: gateUp[rows: rows], dh: dhidden[rows: rows], dgateUp: dgateUp[rows: rows], h: hidden[rows: rows])
    }
    addWeightGradient(dout[rows: all], hidden[rows: all], into: d.down, team: team)
    addWeightGradient(dgateUp[rows: all], y[rows: all], into: d.gateUp, team: team)
  }

  /// dy (N, D) of a tile's rows, overwritten.
  func backwardInput(_ rows: Range<Int>, weights w: ExpertWeights, into dy: Matrix) {
    BLAS.multiply(dgateUp[rows: rows], w.gateUp, into: dy)
  }
}
