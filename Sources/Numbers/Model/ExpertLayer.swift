// ASAM's experts. Y = norm(G; moe_norm), with taps (`Taps`) where the input has an order. The router picks A of E
// experts for each token, and every token reaches all of them (dropless: an expert has no capacity limit). Then
// Hᵗ⁺¹ = G + Σ_j u_j · expert_j(Y) (+ dense(Y)), where the dense network is the shared expert, or replaces all
// experts.
//
// Rows are sorted by expert and, within an expert, by token, and passed to the exchange, which knows where the
// experts are.

import Kernels

package struct ExpertLayer {
  private let sizes: Sizes
  private let team: Team
  /// Rows in the order of experts, (T · A, D): those that are sent and, in the backward pass, those that are
  /// received.
  private let sent, received: Matrix
  /// Gradients of u (T, A), of the router's logits (T, E), of Y (T, D); by lane, of Y before the taps (tile, D).
  private let dweights, dlogits, dy, untapped: Matrix
  private let dense: DenseNetwork?
  private let gainPartials: TilePartials
  private let order: ExpertOrder
  private let router: RouterKernel
  private let taps: Taps

  package struct Activations {
    let g: Matrix
    /// Y (T, D), after the taps.
    let y: Matrix
    let rstd: RealPointer
    let logits: Matrix
    let choices: ExpertChoices
    /// The experts' outputs, in expert order, (T · A, D).
    let outputs: Matrix
    /// Gate and up products of the dense network, (T, 2F).
    let denseGateUp: Matrix
    /// Number of rows of each expert, (E).
    let counts: UnsafeMutablePointer<Int32>
    init(_ arena: Arena, _ sizes: Sizes) {
      g = arena.matrix(sizes.segment, sizes.width)
      y = arena.matrix(sizes.segment, sizes.width)
      rstd = arena.reals(sizes.segment)
      logits = arena.matrix(sizes.segment, sizes.experts)
      choices = ExpertChoices(arena, rows: sizes.segment, experts: sizes.experts, active: sizes.active)
      outputs = arena.matrix(sizes.segment * sizes.active, sizes.width)
      denseGateUp = arena.matrix(sizes.segment, 2 * sizes.model.denseWidth)
      counts = arena.indices(sizes.experts)
    }
  }

  init(_ arena: Arena, _ sizes: Sizes, team: Team) {
    self.sizes = sizes
    self.team = team
    sent = arena.matrix(sizes.segment * sizes.active, sizes.width)
    received = arena.matrix(sizes.segment * sizes.active, sizes.width)
    dweights = arena.matrix(sizes.segment, sizes.active)
    dlogits = arena.matrix(sizes.segment, sizes.experts)
    taps = Taps(sizes, taps: sizes.expertTaps, team: team)
    dy = arena.matrix(sizes.segment, sizes.width)
    untapped = arena.matrix(taps.areOn ? team.laneCount : 0, Sizes.rowTile * sizes.width)
    dense = sizes.model.denseWidth > 0 ? DenseNetwork(arena, sizes, team: team) : nil
    gainPartials = TilePartials(arena, sizes)
    order = ExpertOrder(experts: sizes.experts)
    router = RouterKernel(hasSigmoidGates: sizes.model.gates == .sigmoid)
  }

  /// a.g (T, D) → h (T, D)
  func forward(
    _ site: ExpertSite, _ span: Span, tables: StepTables, weights w: BlockWeights, network: ExpertWeights?,
    activations a: Activations, exchange: any ExpertExchange, keep: Bool, into h: Matrix
  ) throws {
    let tiles = span.tiles(for: team)
    let isRouted = sizes.experts > 0
    // Taps read rows of other tiles, so all rows are normalised first.
    if taps.areOn {
      team.run(tiles.count) { task, _ in
        normalize(
          tiles[task], weights: w, activations: a, into: tables.expertInputs.row(span.start + tiles[task].lowerBound))
      }
    }
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      if taps.areOn {
        taps.forward(rows, span, x: tables.expertInputs.row(span.start), weight: w.expertRecency, into: a.y.pointer)
      } else {
        normalize(rows, weights: w, activations: a, into: a.y.row(rows.lowerBound))
      }
      guard isRouted else { return }
      BLAS.multiplyTransposed(a.y[rows: rows], w.router, into: a.logits[rows: rows])
      router.forward(rows, logits: a.logits, bias: w.routerBias, into: a.choices)
    }
    if isRouted {
      order.sort(span.rows, active: sizes.active, activations: a)
      let rowCount = span.rows.count * sizes.active
      team.run(tiles.count) { task, _ in a.choices.scatter(tiles[task], of: a.y, into: sent) }
      try team.measure(.experts, .forward) {
        try exchange.forward(
          site, pieces: order.pieces(first: sizes.firstExpert(site.recurrence), a.counts),
          rows: sent[rows: 0..<rowCount],
          into: a.outputs[rows: 0..<rowCount], keep: keep)
      }
    }
    team.run(tiles.count) { task, lane in
      let rows = tiles[task]
      h[rows: rows].copy(from: a.g[rows: rows])
      if let dense, let network {
        dense.forward(
          a.y[rows: rows], lane: lane, weights: network, gateUp: a.denseGateUp[rows: rows], adding: h[rows: rows])
      }
      if isRouted { a.choices.addWeighted(rows, of: a.outputs, to: h) }
    }
  }

  /// norm(G; moe_norm) of a tile's rows.
  private func normalize(_ rows: Range<Int>, weights w: BlockWeights, activations a: Activations, into y: RealPointer) {
    RMSNorm.forward(
      a.g[rows: rows], gain: w.moeNorm, into: Matrix(y, rows: rows.count, columns: sizes.width),
      rstd: a.rstd + rows.lowerBound)
  }

  /// dh (T, D) is the gradient of h on entry and of a.g on return. `zScale` is the factor of Σ logsumexp²,
  /// `balance` (E) the gradient of the balance loss with respect to each token's P.
  func backward(
    _ site: ExpertSite, _ span: Span, tables: StepTables, weights w: BlockWeights, network: ExpertWeights?,
    activations a: Activations, exchange: any ExpertExchange, zScale: Real, balance: RealPointer, dh: Matrix,
    gradient d: BlockWeights,
    networkGradient: ExpertWeights?
  ) throws {
    let tiles = span.tiles
    // Without taps the norm's backward is part of the tasks, and it forms the sums of a tile.
    let fine = taps.areOn ? span.tiles(for: team) : tiles
    let all = 0..<span.rows.count
    let isRouted = sizes.experts > 0
    if isRouted {
      let rowCount = span.rows.count * sizes.active
      team.run(fine.count) { task, _ in
        a.choices.backwardWeighted(fine[task], of: a.outputs, dy: dh, into: dweights, dsorted: sent)
      }
      try team.measure(.experts, .backward) {
        try exchange.backward(
          site, pieces: order.pieces(first: sizes.firstExpert(site.recurrence), a.counts),
          dout: sent[rows: 0..<rowCount],
          into: received[rows: 0..<rowCount])
      }
    }
    if let dense, let network, let networkGradient {
      dense.backward(span, y: a.y, weights: network, gateUp: a.denseGateUp, dout: dh, gradient: networkGradient)
    }
    team.run(fine.count) { task, _ in
      let rows = fine[task]
      let dy_TD = dy[rows: rows]
      if let dense, let network { dense.backwardInput(rows, weights: network, into: dy_TD) }
      if isRouted {
        router.backward(rows, a.choices, dweights: dweights, zScale: zScale, balance: balance, into: dlogits)
        BLAS.multiply(dlogits[rows: rows], w.router, into: dy_TD, adding: dense != nil)
        a.choices.add(rows, of: received, to: dy)
      }
      if !taps.areOn { backwardNorm(task, rows, weights: w, activations: a, dy: dy_TD.pointer, dh: dh) }
    }
    if taps.areOn {
      taps.backwardWeight(span, x: tables.expertInputs.row(span.start), dy: dy.pointer, into: d.expertRecency)
      team.run(tiles.count) { task, lane in
        let rows = tiles[task]
        let own = untapped.row(lane)
        // The kernel computes addresses from the segment's first row; only this tile's rows are written.
        taps.backwardInput(
          rows, span, dy: dy.pointer, weight: w.expertRecency, into: own - rows.lowerBound * sizes.width)
        backwardNorm(task, rows, weights: w, activations: a, dy: own, dh: dh)
      }
    }
    gainPartials.fold(tiles.count, into: d.moeNorm)
    if isRouted { addWeightGradient(dlogits[rows: all], a.y[rows: all], into: d.router, team: team) }
  }

  /// dh (T, D) += from dy, the gradient of a tile's rows of norm(G).
  private func backwardNorm(
    _ tile: Int, _ rows: Range<Int>, weights w: BlockWeights, activations a: Activations, dy: RealPointer, dh: Matrix
  ) {
    RMSNorm.backward(
      a.g[rows: rows], gain: w.moeNorm, rstd: a.rstd + rows.lowerBound,
      dy: Matrix(dy, rows: rows.count, columns: sizes.width), dx: dh[rows: rows], dgain: gainPartials.begin(tile))
  }
}

/// Sorts rows by expert. Its lists are reused, so that a steady step does not allocate.
private final class ExpertOrder {
  private let experts: Int
  private var next: [Int32]
  private var list: [ExpertPiece] = []

  init(experts: Int) {
    self.experts = experts
    next = Array(repeating: 0, count: experts)
    list.reserveCapacity(experts)
  }

  /// Counts the rows of each expert and assigns every (token, slot) its row: sorted by expert, then by token (a
  /// counting sort).
  func sort(_ rows: Range<Int>, active: Int, activations a: ExpertLayer.Activations) {
    a.counts.update(repeating: 0, count: experts)
    let slots = rows.lowerBound * active..<rows.upperBound * active
    for slot in slots { a.counts[Int(a.choices.experts[slot])] += 1 }
    next[0] = 0
    for expert in 1..<max(1, experts) { next[expert] = next[expert - 1] + a.counts[expert - 1] }
    for slot in slots {
      let expert = Int(a.choices.experts[slot])
      a.choices.places[slot] = next[expert]
      next[expert] += 1
    }
  }

  /// The rows of each expert that has any. The step can reach the model's experts from `first`.
  func pieces(first: Int, _ counts: UnsafeMutablePointer<Int32>) -> [ExpertPiece] {
    ExpertPiece.split(UnsafeBufferPointer(start: counts, count: experts), first: first, into: &list)
    return list
  }
}
