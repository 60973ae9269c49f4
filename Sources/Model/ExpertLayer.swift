// ASAM's experts: Y = norm(G; moe_norm); the router picks A of E experts a token, and every token reaches all of them
// (dropless). Hᵗ⁺¹ = G + Σ u_j · expert_j(Y) (+ shared_expert(Y)).
//
// Rows are sorted by expert and, within one, by token; where experts live is the exchange's business.

import CKernels
import Kernels

package struct ExpertLayer {
  private let sizes: Sizes
  private let team: Team
  /// Rows in expert order, (T · A, D): sent and, in the backward, received.
  private let sent, received: Matrix
  /// (T, A) gradient of u, (T, E) of the router's logits; by lane (tile, D) of Y.
  private let dweights, dlogits, dy: Matrix
  /// By lane: hidden rows of the shared expert, their gradient and that of gate and up. (tile, F) × 4
  private let hidden: Matrix
  private let gainPartials: TilePartials

  package struct Activations {
    let g, y: Matrix
    let rstd: RealPointer
    let logits: Matrix
    let top: UnsafeMutablePointer<Int32>
    /// u (T, A), P (T, E), logsumexp (T)
    let weights, probabilities: Matrix
    let logsums: RealPointer
    /// Row of token and slot in expert order, (T, A).
    let places: UnsafeMutablePointer<Int32>
    /// The experts' outputs in expert order, (T · A, D).
    let outputs: Matrix
    /// Gate and up of the shared expert, (T, 2F), where there is one.
    let sharedGateUp: Matrix
    /// Rows each expert got, (E).
    let counts: UnsafeMutablePointer<Int32>
    init(_ arena: Arena, _ sizes: Sizes) {
      g = arena.matrix(sizes.segment, sizes.width)
      y = arena.matrix(sizes.segment, sizes.width)
      rstd = arena.reals(sizes.segment)
      logits = arena.matrix(sizes.segment, sizes.experts)
      top = arena.indices(sizes.segment * sizes.active)
      weights = arena.matrix(sizes.segment, sizes.active)
      probabilities = arena.matrix(sizes.segment, sizes.experts)
      logsums = arena.reals(sizes.segment)
      places = arena.indices(sizes.segment * sizes.active)
      outputs = arena.matrix(sizes.segment * sizes.active, sizes.width)
      sharedGateUp = arena.matrix(sizes.model.sharedExpert ? sizes.segment : 0, 2 * sizes.expertWidth)
      counts = arena.indices(sizes.experts)
    }

    func countsByExpert(_ experts: Int) -> [Int] { (0..<experts).map { Int(counts[$0]) } }
  }

  init(_ arena: Arena, _ sizes: Sizes, _ team: Team) {
    self.sizes = sizes
    self.team = team
    sent = arena.matrix(sizes.segment * sizes.active, sizes.width)
    received = arena.matrix(sizes.segment * sizes.active, sizes.width)
    dweights = arena.matrix(sizes.segment, sizes.active)
    dlogits = arena.matrix(sizes.segment, sizes.experts)
    dy = arena.matrix(team.laneCount, Sizes.rowTile * sizes.width)
    hidden = arena.matrix(team.laneCount, sizes.model.sharedExpert ? 4 * Sizes.rowTile * sizes.expertWidth : 0)
    gainPartials = TilePartials(arena, sizes)
  }

  /// a.g (T, D) → h (T, D)
  func forward(
    _ site: ExpertSite, _ span: Span, _ w: Weights, _ a: Activations, exchange: any ExpertExchange, keep: Bool,
    into h: Matrix
  ) throws {
    let tiles = span.tiles
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      let first = rows.lowerBound
      ress_rmsnorm_forward(
        Int64(rows.count), Int64(sizes.width), a.g.row(first), w.moeNorm, a.y.row(first), a.rstd + first)
      BLAS.multiplyTransposed(a.y[rows: rows], w.router, into: a.logits[rows: rows])
      ress_router_forward(
        Int64(rows.count), Int64(sizes.experts), Int64(sizes.active), a.logits.row(first), w.routerBias,
        a.top + first * sizes.active, a.weights.row(first), a.probabilities.row(first), a.logsums + first)
    }
    sortByExpert(span, a)
    let rowCount = span.rows.count * sizes.active
    team.run(tiles.count) { task, _ in
      for row in tiles[task] {
        for slot in 0..<sizes.active {
          sent.row(Int(a.places[row * sizes.active + slot])).update(from: a.y.row(row), count: sizes.width)
        }
      }
    }
    try exchange.forward(
      site, rows: sent[rows: 0..<rowCount], counts: a.countsByExpert(sizes.experts),
      into: a.outputs[rows: 0..<rowCount],
      keep: keep)
    team.run(tiles.count) { task, lane in
      let rows = tiles[task]
      h[rows: rows].copy(from: a.g[rows: rows])
      if let shared = w.sharedExpert {
        let hidden_TF = Matrix(hidden.row(lane), rows: rows.count, columns: sizes.expertWidth)
        BLAS.multiplyTransposed(a.y[rows: rows], shared.gateUp, into: a.sharedGateUp[rows: rows])
        ress_swiglu_forward(
          Int64(rows.count), Int64(sizes.expertWidth), a.sharedGateUp.row(rows.lowerBound), hidden_TF.pointer)
        BLAS.multiplyTransposed(hidden_TF, shared.down, into: h[rows: rows], adding: true)
      }
      for row in rows {
        for slot in 0..<sizes.active {
          let place = Int(a.places[row * sizes.active + slot])
          ress_axpy(Int64(sizes.width), a.weights.row(row)[slot], a.outputs.row(place), h.row(row))
        }
      }
    }
  }

  /// dh (T, D) is the gradient of h on entry and of a.g on return. `zScale` multiplies Σ logsumexp², `balance` (E) is the
  /// balance loss's gradient with respect to each token's P.
  func backward(
    _ site: ExpertSite, _ span: Span, _ w: Weights, _ a: Activations, exchange: any ExpertExchange, zScale: Real,
    balance: RealPointer, dh: Matrix, _ d: Weights
  ) throws {
    let tiles = span.tiles
    let all = 0..<span.rows.count
    let rowCount = span.rows.count * sizes.active
    team.run(tiles.count) { task, _ in
      for row in tiles[task] {
        for slot in 0..<sizes.active {
          let place = Int(a.places[row * sizes.active + slot])
          dweights.row(row)[slot] = ress_dot(Int64(sizes.width), dh.row(row), a.outputs.row(place))
          sent.row(place).update(repeating: 0, count: sizes.width)
          ress_axpy(Int64(sizes.width), a.weights.row(row)[slot], dh.row(row), sent.row(place))
        }
      }
    }
    try exchange.backward(
      site, dout: sent[rows: 0..<rowCount], counts: a.countsByExpert(sizes.experts), into: received[rows: 0..<rowCount])
    if let shared = w.sharedExpert, let dshared = d.sharedExpert {
      backwardShared(span, shared, a, dh: dh, dshared)
    }
    team.run(tiles.count) { task, lane in
      let rows = tiles[task]
      let first = rows.lowerBound
      let dy_TD = Matrix(dy.row(lane), rows: rows.count, columns: sizes.width)
      ress_router_backward(
        Int64(rows.count), Int64(sizes.experts), Int64(sizes.active), a.top + first * sizes.active,
        a.weights.row(first),
        a.probabilities.row(first), a.logsums + first, dweights.row(first), zScale, balance, dlogits.row(first))
      BLAS.multiply(dlogits[rows: rows], w.router, into: dy_TD)
      for row in rows {
        for slot in 0..<sizes.active {
          let place = Int(a.places[row * sizes.active + slot])
          ress_add(Int64(sizes.width), received.row(place), dy_TD.row(row - first))
        }
      }
      if let shared = w.sharedExpert {
        BLAS.multiply(a.sharedGateUp[rows: rows], shared.gateUp, into: dy_TD, adding: true)
      }
      ress_rmsnorm_backward(
        Int64(rows.count), Int64(sizes.width), a.g.row(first), w.moeNorm, a.rstd + first, dy_TD.pointer, dh.row(first),
        gainPartials.begin(task))
    }
    gainPartials.fold(tiles.count, into: d.moeNorm)
    addWeightGradient(dlogits[rows: all], a.y[rows: all], into: d.router, team)
  }

  /// Weight gradients of the shared expert; a.sharedGateUp becomes the gradient of gate and up, which the caller
  /// multiplies back to Y. Tiles run one after another because they add to the same weights.
  private func backwardShared(_ span: Span, _ w: ExpertWeights, _ a: Activations, dh: Matrix, _ d: ExpertWeights) {
    let tiles = span.tiles
    for index in 0..<tiles.count {
      let rows = tiles[index]
      let f = sizes.expertWidth
      let hidden_TF = Matrix(hidden.row(0), rows: rows.count, columns: f)
      let dhidden_TF = Matrix(hidden_TF.pointer + hidden_TF.count, rows: rows.count, columns: f)
      let dgateUp_T2F = Matrix(dhidden_TF.pointer + dhidden_TF.count, rows: rows.count, columns: 2 * f)
      BLAS.multiply(dh[rows: rows], w.down, into: dhidden_TF)
      ress_swiglu_backward(
        Int64(rows.count), Int64(f), a.sharedGateUp.row(rows.lowerBound), dhidden_TF.pointer, dgateUp_T2F.pointer,
        hidden_TF.pointer)
      addWeightGradient(dh[rows: rows], hidden_TF, into: d.down, team)
      addWeightGradient(dgateUp_T2F, a.y[rows: rows], into: d.gateUp, team)
      a.sharedGateUp[rows: rows].copy(from: dgateUp_T2F)
    }
  }

  /// Counts each expert's rows and gives every (token, slot) its place: by expert, then by token.
  private func sortByExpert(_ span: Span, _ a: Activations) {
    a.counts.update(repeating: 0, count: sizes.experts)
    let slots = span.rows.lowerBound * sizes.active..<span.rows.upperBound * sizes.active
    for slot in slots { a.counts[Int(a.top[slot])] += 1 }
    var next = [Int32](repeating: 0, count: sizes.experts)
    for expert in 1..<max(1, sizes.experts) { next[expert] = next[expert - 1] + a.counts[expert - 1] }
    for slot in slots {
      let expert = Int(a.top[slot])
      a.places[slot] = next[expert]
      next[expert] += 1
    }
  }
}
