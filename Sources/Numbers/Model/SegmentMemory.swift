// R2MU's memory: M slots that carry information from one segment to the next. After every step of recurrence the
// slots pool the tokens of the segment (attention with learned queries), and a gate for each slot decides how much
// of its old content is kept:
//   Ŝ = softmax(pool_query (Z pool_keyᵀ)ᵀ / √D) (Z pool_valueᵀ), Z = norm(H; pool_norm)
//   α = σ([norm(S; memory_norm), Ŝ] · gate + bias),  S ← α ⊙ S + (1 − α) ⊙ Ŝ
//
// Both maps of Z are applied on the other side of the product that they are part of: (pool_query · pool_key) Zᵀ and
// (P Z) · pool_valueᵀ. Then M rows pass through a map instead of T, and T is much larger. The product pool_query ·
// pool_key is computed once per sequence.

import Kernels

/// Writes the memory.
package struct MemoryWrite {
  private let sizes: Sizes
  private let team: Team
  /// pool_query · pool_key of each block (M, D), and its gradient. Valid until the weights change.
  private let pooledQueries, dpooledQueries: [Matrix]
  /// Gradients: of P (M, T); of P Z, of Ŝ and of the normalised memory (M, D); by lane, of Z (tile, D).
  private let dprobabilities, dpooled, dcandidate, dnormed, dz: Matrix
  private let gainPartials: TilePartials

  /// Intermediate values of one write that its backward pass reads.
  package struct Activations {
    /// 1/rms of the segment's rows (T), and Z (T, D).
    let rstd: RealPointer
    let z: Matrix
    /// P (M, T) over the segment's tokens, P Z (M, D), Ŝ (M, D).
    let probabilities, pooled, candidate: Matrix
    /// S before the write and its norm (M, D), 1/rms (M), α (M).
    let before, normed: Matrix
    let memoryRstd, keep: RealPointer
    init(_ arena: Arena, _ sizes: Sizes) {
      rstd = arena.reals(sizes.segment)
      z = arena.matrix(sizes.segment, sizes.width)
      probabilities = arena.matrix(sizes.slots, sizes.segment)
      pooled = arena.matrix(sizes.slots, sizes.width)
      candidate = arena.matrix(sizes.slots, sizes.width)
      before = arena.matrix(sizes.slots, sizes.width)
      normed = arena.matrix(sizes.slots, sizes.width)
      memoryRstd = arena.reals(sizes.slots)
      keep = arena.reals(sizes.slots)
    }
  }

  init(_ arena: Arena, _ sizes: Sizes, team: Team) {
    self.sizes = sizes
    self.team = team
    pooledQueries = (0..<sizes.blocks).map { _ in arena.matrix(sizes.slots, sizes.width) }
    dpooledQueries = (0..<sizes.blocks).map { _ in arena.matrix(sizes.slots, sizes.width) }
    dprobabilities = arena.matrix(sizes.slots, sizes.segment)
    dpooled = arena.matrix(sizes.slots, sizes.width)
    dcandidate = arena.matrix(sizes.slots, sizes.width)
    dnormed = arena.matrix(sizes.slots, sizes.width)
    dz = arena.matrix(team.laneCount, Sizes.rowTile * sizes.width)
    gainPartials = TilePartials(arena, sizes)
  }

  /// 1/√D, the factor of the pooling scores.
  private var scale: Real { 1 / Real(sizes.width).squareRoot() }

  /// Must be called before a sequence and after every change of the weights.
  func begin(_ w: Weights) {
    for (block, w) in w.blocks.enumerated() {
      BLAS.multiply(w.poolQuery, w.poolKey, into: pooledQueries[block])
      dpooledQueries[block].clear()
    }
  }

  /// Passes the gradient of pool_query · pool_key, summed over the sequence's writes, on to the two factors.
  func finishBackward(_ w: Weights, _ d: Weights) {
    for (block, (w, d)) in zip(w.blocks, d.blocks).enumerated() {
      BLAS.multiplyTransposed(dpooledQueries[block], w.poolKey, into: d.poolQuery, adding: true)
      BLAS.transposeMultiply(w.poolQuery, dpooledQueries[block], into: d.poolKey, adding: true)
    }
  }

  /// Normalises the span's rows of h (T, D) and computes their scores for every slot.
  func score(_ h: Matrix, step: Int, span: Span, weights w: BlockWeights, activations a: Activations) {
    let tiles = span.tiles
    let pooledQuery = pooledQueries[sizes.block(step)]
    team.run(tiles.count) { task, _ in
      let rows = tiles[task]
      RMSNorm.forward(h[rows: rows], gain: w.poolNorm, into: a.z[rows: rows], rstd: a.rstd + rows.lowerBound)
      BLAS.multiplyTransposed(pooledQuery, a.z[rows: rows], into: a.probabilities[columns: rows])
    }
  }

  /// Writes a segment whose first `rowCount` rows were scored: memory (M, D) is S before on entry and after on
  /// return.
  func forward(rowCount: Int, weights w: BlockWeights, activations a: Activations, memory: Matrix) {
    let probabilities_MT = a.probabilities[columns: 0..<rowCount]
    Softmax.rows(of: probabilities_MT, scale: scale)
    BLAS.multiply(probabilities_MT, a.z[rows: 0..<rowCount], into: a.pooled)
    BLAS.multiplyTransposed(a.pooled, w.poolValue, into: a.candidate)
    a.before.copy(from: memory)
    RMSNorm.forward(memory, gain: w.memoryNorm, into: a.normed, rstd: a.memoryRstd)
    for slot in 0..<sizes.slots {
      let candidate = a.candidate.row(slot)
      let logit =
        Vectors.dot(a.normed.row(slot), w.gate, count: sizes.width)
        + Vectors.dot(candidate, w.gate + sizes.width, count: sizes.width) + w.gateBias[0]
      let keep = sigmoid(logit)
      a.keep[slot] = keep
      let row = memory.row(slot)
      for column in 0..<sizes.width { row[column] = keep * row[column] + (1 - keep) * candidate[column] }
    }
  }

  /// dmemory (M, D) is the gradient of S after the write on entry, and before it on return; dh (T, D) +=.
  ///
  /// With S' = α ⊙ S + (1 − α) ⊙ Ŝ, the old slots reach S' in two ways: directly, with factor α, and through the
  /// gate, which reads their norm. The candidate Ŝ likewise: with factor 1 − α, and through the gate. The gate's
  /// logit gets dα · α (1 − α), dα = dS' · (S − Ŝ). Then Ŝ = P Z pool_valueᵀ passes the gradient on to the rows.
  func backward(
    h: Matrix, step: Int, span: Span, weights w: BlockWeights, activations a: Activations, dmemory: Matrix, dh: Matrix,
    gradient d: BlockWeights
  ) {
    let (pooledQuery, dpooledQuery) = (pooledQueries[sizes.block(step)], dpooledQueries[sizes.block(step)])
    let width = sizes.width
    let all = 0..<span.rows.count
    for slot in 0..<sizes.slots {
      let keep = a.keep[slot]
      let dmemory_D = dmemory.row(slot)
      let dcandidate_D = dcandidate.row(slot)
      let candidate = a.candidate.row(slot)
      let dkeep =
        Vectors.dot(dmemory_D, a.before.row(slot), count: width) - Vectors.dot(dmemory_D, candidate, count: width)
      let dlogit = dkeep * keep * (1 - keep)
      for column in 0..<sizes.width {
        dcandidate_D[column] = (1 - keep) * dmemory_D[column] + dlogit * w.gate[sizes.width + column]
        dnormed.row(slot)[column] = dlogit * w.gate[column]
        dmemory_D[column] *= keep
      }
      Vectors.add(a.normed.row(slot), times: dlogit, to: d.gate, count: width)
      Vectors.add(candidate, times: dlogit, to: d.gate + width, count: width)
      d.gateBias[0] += dlogit
    }
    RMSNorm.backward(
      a.before, gain: w.memoryNorm, rstd: a.memoryRstd, dy: dnormed, dx: dmemory, dgain: d.memoryNorm)
    BLAS.transposeMultiply(dcandidate, a.pooled, into: d.poolValue, adding: true)
    BLAS.multiply(dcandidate, w.poolValue, into: dpooled)

    let probabilities_MT = a.probabilities[columns: all]
    let dprobabilities_MT = dprobabilities[columns: all]
    BLAS.multiplyTransposed(dpooled, a.z[rows: all], into: dprobabilities_MT)
    Softmax.backward(probabilities_MT, dp: dprobabilities_MT, scale: scale)
    BLAS.multiply(dprobabilities_MT, a.z[rows: all], into: dpooledQuery, adding: true)
    let tiles = span.tiles
    team.run(tiles.count) { task, lane in
      let rows = tiles[task]
      let dz_TD = Matrix(dz.row(lane), rows: rows.count, columns: sizes.width)
      BLAS.transposeMultiply(a.probabilities[columns: rows], dpooled, into: dz_TD)
      BLAS.transposeMultiply(dprobabilities[columns: rows], pooledQuery, into: dz_TD, adding: true)
      RMSNorm.backward(
        h[rows: rows], gain: w.poolNorm, rstd: a.rstd + rows.lowerBound, dy: dz_TD, dx: dh[rows: rows],
        dgain: gainPartials.begin(task))
    }
    gainPartials.fold(tiles.count, into: d.poolNorm)
  }

  private func sigmoid(_ x: Real) -> Real {
    var pair: (Real, Real) = (0, x)
    // The softmax of (0, x) is (1 − σ(x), σ(x)). Using the softmax kernel means that there is one definition of
    // exp.
    return withUnsafeMutablePointer(to: &pair) { pointer in
      pointer.withMemoryRebound(to: Real.self, capacity: 2) {
        Softmax.rows(of: Matrix($0, rows: 1, columns: 2), scale: 1)
        return $0[1]
      }
    }
  }
}

/// Reads the memory: computes the keys and values of its slots. In a causal model they are those at the segment's
/// start, for every step, so that no token sees a later one. In a bidirectional model every step reads what the
/// step before it has written.
package struct MemoryRead {
  private let sizes: Sizes
  private let dnormed: Matrix

  package struct Activations {
    /// S as it was read, its norm, and keys and values (M, D).
    let memory, normed, keys, values: Matrix
    let rstd: RealPointer
    init(_ arena: Arena, _ sizes: Sizes) {
      memory = arena.matrix(sizes.slots, sizes.width)
      normed = arena.matrix(sizes.slots, sizes.width)
      keys = arena.matrix(sizes.slots, sizes.width)
      values = arena.matrix(sizes.slots, sizes.width)
      rstd = arena.reals(sizes.slots)
    }
  }

  /// Gradients of the slots' keys and values, summed over the steps that read them.
  package struct Gradient {
    let keys, values: Matrix
    init(_ arena: Arena, _ sizes: Sizes) {
      keys = arena.matrix(sizes.slots, sizes.width)
      values = arena.matrix(sizes.slots, sizes.width)
    }
    func clear() {
      keys.clear()
      values.clear()
    }
  }

  init(_ arena: Arena, _ sizes: Sizes) {
    self.sizes = sizes
    dnormed = arena.matrix(sizes.slots, sizes.width)
  }

  func forward(_ memory: Matrix, weights w: BlockWeights, activations a: Activations) {
    a.memory.copy(from: memory)
    RMSNorm.forward(memory, gain: w.memoryNorm, into: a.normed, rstd: a.rstd)
    BLAS.apply(w.key, to: a.normed, into: a.keys)
    BLAS.apply(w.value, to: a.normed, into: a.values)
  }

  /// dmemory (M, D) +=.
  func backward(
    _ w: BlockWeights, _ a: Activations, readGradient gradient: Gradient, dmemory: Matrix, gradient d: BlockWeights
  ) {
    BLAS.transposeMultiply(gradient.keys, a.normed, into: d.key.weight, factors: d.key.factors, adding: true)
    BLAS.transposeMultiply(gradient.values, a.normed, into: d.value.weight, factors: d.value.factors, adding: true)
    BLAS.multiply(gradient.keys, w.key, into: dnormed)
    BLAS.multiply(gradient.values, w.value, into: dnormed, adding: true)
    RMSNorm.backward(a.memory, gain: w.memoryNorm, rstd: a.rstd, dy: dnormed, dx: dmemory, dgain: d.memoryNorm)
  }
}
