// The router of the experts, and the way of rows into the order of experts and back (CKernels/router.c).

import CKernels

/// The experts of each row.
package struct ExpertChoices {
  /// The chosen experts, (T, A), and the row in expert order of each token and slot, (T, A).
  package let experts, places: UnsafeMutablePointer<Int32>
  /// u (T, A), and the router's softmax P (T, E).
  package let weights, probabilities: Matrix
  /// logsumexp of the router's logits, (T).
  package let logsums: RealPointer

  /// - Parameter active: A, experts of a row.
  package init(_ arena: Arena, rows: Int, experts count: Int, active: Int) {
    experts = arena.indices(rows * active)
    places = arena.indices(rows * active)
    weights = arena.matrix(rows, active)
    probabilities = arena.matrix(rows, count)
    logsums = arena.reals(rows)
  }

  /// A
  package var active: Int { weights.columns }
}

/// Chooses experts by their logits.
package struct RouterKernel {
  private let hasSigmoidGates: Int64

  /// - Parameter hasSigmoidGates: whether u_j = σ(l_j); otherwise u is the softmax over the chosen logits.
  package init(hasSigmoidGates: Bool) { self.hasSigmoidGates = hasSigmoidGates ? 1 : 0 }

  /// The A experts with the largest logit + bias; of equal ones the smaller index. logits (T, E), bias (E).
  package func forward(_ rows: Range<Int>, logits: Matrix, bias: RealPointer, into choices: ExpertChoices) {
    let first = rows.lowerBound, active = choices.active
    ress_router_forward(
      Int64(rows.count), Int64(logits.columns), Int64(active), hasSigmoidGates, logits.row(first), bias,
      choices.experts + first * active, choices.weights.row(first), choices.probabilities.row(first),
      choices.logsums + first)
  }

  /// dlogits (T, E) from dweights (T, A), the loss zScale · Σ logsumexp², and `balance` (E), the gradient of the
  /// balance loss with respect to each row's P.
  package func backward(
    _ rows: Range<Int>, _ choices: ExpertChoices, dweights: Matrix, zScale: Real, balance: RealPointer,
    into dlogits: Matrix
  ) {
    let first = rows.lowerBound, active = choices.active
    ress_router_backward(
      Int64(rows.count), Int64(dlogits.columns), Int64(active), hasSigmoidGates, choices.experts + first * active,
      choices.weights.row(first), choices.probabilities.row(first), choices.logsums + first, dweights.row(first),
      zScale, balance, dlogits.row(first))
  }
}

/// Rows in the order of tokens, (T, D), and in the order of experts, (T · A, D). Each function takes a range of tokens.
extension ExpertChoices {
  /// Brings rows into the order of experts.
  package func scatter(_ rows: Range<Int>, of x: Matrix, into sorted: Matrix) {
    ress_scatter_rows(
      Int64(rows.count), Int64(active), Int64(x.columns), x.row(rows.lowerBound), places + rows.lowerBound * active,
      sorted.pointer)
  }

  /// y[t] += Σ_slot u[t, slot] · sorted[place of (t, slot)]
  package func addWeighted(_ rows: Range<Int>, of sorted: Matrix, to y: Matrix) {
    gather(rows, sorted, weights: weights.row(rows.lowerBound), to: y)
  }

  /// y[t] += Σ_slot sorted[place of (t, slot)]
  package func add(_ rows: Range<Int>, of sorted: Matrix, to y: Matrix) { gather(rows, sorted, weights: nil, to: y) }

  private func gather(_ rows: Range<Int>, _ sorted: Matrix, weights: RealPointer?, to y: Matrix) {
    ress_gather_rows(
      Int64(rows.count), Int64(active), Int64(y.columns), sorted.pointer, places + rows.lowerBound * active, weights,
      y.row(rows.lowerBound))
  }

  /// The gradients of `addWeighted`: dweights (T, A) and dsorted, from sorted and dy (T, D).
  package func backwardWeighted(
    _ rows: Range<Int>, of sorted: Matrix, dy: Matrix, into dweights: Matrix, dsorted: Matrix
  ) {
    let first = rows.lowerBound
    ress_gather_rows_backward(
      Int64(rows.count), Int64(active), Int64(dy.columns), sorted.pointer, places + first * active, weights.row(first),
      dy.row(first), dweights.row(first), dsorted.pointer)
  }
}
