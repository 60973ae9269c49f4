// The experts that this process holds: SwiGLU networks, arXiv 2002.05202.
//
// Requests come from this worker's own units and from those of other workers, several units at a time and in an
// order that depends on chance. To keep chance out of the results, what the backward pass needs is stored by site
// and gradients are stored by unit. The gradients are added over the units later, in the tree.
//
// Order of operations in one unit: the calls of one (unit, expert) come from the worker that computes the unit,
// which makes them one after the other, so a unit's gradient is added in the same order wherever the expert is.
//
// Legend: N rows of one expert at one site, D width, F expert width. Gradients of weights add (+=); gradients of
// rows overwrite.

import CKernels
import Configuration
import Kernels

package final class LocalExperts: ExpertExchange {
  package let held: [Int]
  let width: Int
  let expertWidth: Int
  private let blockCount: Int
  /// By expert of the model, nil for those on other workers; `packs` repacks them when the parameters change.
  let weights: [ExpertWeights?]
  private let packs: WeightPacks
  package let team: Team
  let pool = BufferPool()
  private var kept: [ExpertSite: Kept] = [:]
  private var gradients: [UnitExpert: PooledBuffer] = [:]
  /// By lane: hidden rows, their gradient, and the gradient of gate and up, (F + F + 2F) · rows.
  private var scratch: [PooledBuffer?]
  /// Whether gradients are computed after their unit, from rows that are kept (`delay`).
  var delays = false
  /// By unit, the backward calls whose rows are kept, in order; and lists to be used again.
  var delayed: [Int: [DelayedCall]] = [:]
  var spareLists: [[DelayedCall]] = []
  /// By lane and level of the units' tree: a band of a gradient.
  var bands: [[PooledBuffer]] = []
  /// Gradient blocks of the current call, one per piece. The list is reused.
  private var gradientBlocks: [GradientBlock] = []

  private struct UnitExpert: Hashable {
    var unit: Int
    var expert: Int
  }
  /// A fresh block has no valid contents; the first product overwrites it.
  private struct GradientBlock {
    var buffer: PooledBuffer
    var isFresh: Bool
  }
  /// Input rows (N, D) and gate-up products (N, 2F) of all pieces of one forward call.
  struct Kept {
    var buffer: PooledBuffer
    var rows: Int
  }

  /// A backward call whose rows wait for their gradients.
  struct DelayedCall {
    /// Input rows (N, D) and gradients of the gate-up products (N, 2F) of all pieces.
    var inputs: PooledBuffer
    /// Gradients of the output (N, D), hidden rows (N, F), and the first row of each expert of the model and of the
    /// one after the last (Int32).
    var outputs: PooledBuffer
    var rows: Int
  }

  package init(_ model: ModelConfiguration, parameters: ParameterBuffer, held: [Int], team: Team) {
    self.held = held
    self.team = team
    width = model.width
    expertWidth = model.expertWidth
    blockCount = parameters.layout.expertCount
    scratch = Array(repeating: nil, count: team.laneCount)
    var maps: [LinearMap] = []
    for expert in held {
      guard let block = parameters.experts[expert] else { preconditionFailure("expert \(expert) is not in the buffer") }
      let views = ExpertWeights(block, width: model.width, expertWidth: model.expertWidth)
      maps += [views.gateUp, views.down]
    }
    packs = WeightPacks(&maps, of: parameters)
    var weights = [ExpertWeights?](repeating: nil, count: parameters.experts.count)
    for (place, expert) in held.enumerated() {
      weights[expert] = ExpertWeights(gateUp: maps[2 * place], down: maps[2 * place + 1])
    }
    self.weights = weights
  }

  /// The same experts for another team: the weights are shared, and everything that a call writes is its own. The
  /// weights of `other` must be packed (`refresh`), and must not change while both are used.
  package init(sharing other: LocalExperts, team: Team) {
    (held, width, expertWidth, blockCount) = (other.held, other.width, other.expertWidth, other.blockCount)
    (weights, packs) = (other.weights, other.packs)
    self.team = team
    scratch = Array(repeating: nil, count: team.laneCount)
  }

  /// Packs the weights for products, if they have changed since.
  package func refresh() { packs.refresh(team) }

  /// out = down · (silu(gate · y) ⊙ (up · y)) for the rows of each piece; one task per expert.
  package func forward(_ site: ExpertSite, pieces: [ExpertPiece], rows: Matrix, into out: Matrix, keep: Bool) {
    packs.refresh(team)
    let rowCount = LocalExperts.rowCount(pieces)
    let buffer = pool.take(rowCount * (width + 2 * expertWidth))
    reserveScratch(pieces)
    team.run(pieces.count) { task, lane in
      let piece = pieces[task]
      let w = weights(piece.expert)
      let (rows_ND, gateUp_N2F) = parts(buffer, of: rowCount, pieces, task)
      let h_NF = Matrix(scratch[lane]!.pointer, rows: piece.rows.count, columns: expertWidth)
      rows_ND.copy(from: rows[rows: piece.rows])
      BLAS.apply(w.gateUp, to: rows_ND, into: gateUp_N2F)
      ress_swiglu_forward(Int64(h_NF.rows), Int64(expertWidth), gateUp_N2F.pointer, h_NF.pointer)
      BLAS.apply(w.down, to: h_NF, into: out[rows: piece.rows])
    }
    if keep { kept[site] = Kept(buffer: buffer, rows: rowCount) } else { pool.give(buffer) }
  }

  /// Whether a forward call of that many rows was kept for the backward pass.
  package func hasForward(_ site: ExpertSite, rows: Int) -> Bool { kept[site]?.rows == rows }

  /// drows = the gradient of the rows of the forward call at this site, whose inputs were kept; the gradients of the
  /// experts' weights are added to the unit's blocks. The hidden rows h are computed again, since keeping them would
  /// take half as much memory again as gate and up.
  package func backward(_ site: ExpertSite, pieces: [ExpertPiece], dout: Matrix, into drows: Matrix) {
    reserveScratch(pieces)
    let rowCount = LocalExperts.rowCount(pieces)
    guard let call = kept.removeValue(forKey: site), call.rows == rowCount else {
      preconditionFailure("no forward at \(site) with \(rowCount) rows")
    }
    gradientBlocks.removeAll(keepingCapacity: true)
    let later = delays ? keepRows(of: call, pieces, site.unit) : nil
    if later == nil {
      for piece in pieces { gradientBlocks.append(gradientBlock(unit: site.unit, expert: piece.expert)) }
    }
    team.run(pieces.count) { task, lane in
      let piece = pieces[task]
      let count = piece.rows.count
      let w = weights(piece.expert)
      let (rows_ND, gateUp_N2F) = parts(call.buffer, of: rowCount, pieces, task)
      let h_NF = Matrix(scratch[lane]!.pointer, rows: count, columns: expertWidth)
      let dh_NF = Matrix(h_NF.pointer + h_NF.count, rows: count, columns: expertWidth)
      let dgateUp_N2F = Matrix(dh_NF.pointer + dh_NF.count, rows: count, columns: 2 * expertWidth)
      let dout_ND = dout[rows: piece.rows]

      BLAS.multiply(dout_ND, w.down.weight, into: dh_NF)
      ress_swiglu_backward(
        Int64(count), Int64(expertWidth), gateUp_N2F.pointer, dh_NF.pointer, dgateUp_N2F.pointer, h_NF.pointer)
      if let later {
        let (keptDout_ND, keptH_NF) = outputs(of: later, piece.rows)
        keptDout_ND.copy(from: dout_ND)
        keptH_NF.copy(from: h_NF)
        // The gate-up products are not needed any more; their gradient takes their place.
        gateUp_N2F.copy(from: dgateUp_N2F)
      } else {
        let d = ExpertWeights(gradientBlocks[task].buffer.pointer, width: width, expertWidth: expertWidth)
        let adding = !gradientBlocks[task].isFresh
        BLAS.transposeMultiply(dout_ND, h_NF, into: d.down.weight, adding: adding)
        BLAS.transposeMultiply(dgateUp_N2F, rows_ND, into: d.gateUp.weight, adding: adding)
      }
      BLAS.multiply(dgateUp_N2F, w.gateUp.weight, into: drows[rows: piece.rows])
    }
    if later == nil { pool.give(call.buffer) }
  }

  /// Ends a unit for an expert. Returns the block of its gradients, nil if it had no rows. The caller returns it
  /// with `recycle`.
  package func takeGradient(unit: Int, expert: Int) -> PooledBuffer? {
    gradients.removeValue(forKey: UnitExpert(unit: unit, expert: expert))
  }

  /// Bytes of packed weights, kept rows and gradients.
  package var byteCount: Int { packs.byteCount + pool.byteCount }

  package func recycle(_ buffer: PooledBuffer) { pool.give(buffer) }
  package func take(_ count: Int) -> PooledBuffer { pool.take(count) }

  /// Drops all kept forward calls and gradients, after a step was abandoned.
  package func reset() {
    kept.removeAll()
    gradients.removeAll()
    delayed.removeAll()
  }

  private func weights(_ expert: Int) -> ExpertWeights {
    guard let weights = weights[expert] else { preconditionFailure("expert \(expert) is not held here") }
    return weights
  }

  private static func rowCount(_ pieces: some Sequence<ExpertPiece>) -> Int { pieces.reduce(0) { $0 + $1.rows.count } }

  /// The rows and gate-up products of one piece in the buffer of a call with `total` rows.
  private func parts(
    _ buffer: PooledBuffer, of total: Int, _ pieces: [ExpertPiece], _ place: Int
  ) -> (rows_ND: Matrix, gateUp_N2F: Matrix) {
    let first = LocalExperts.rowCount(pieces[..<place])
    let rows = pieces[place].rows.count
    return (
      Matrix(buffer.pointer + first * width, rows: rows, columns: width),
      Matrix(buffer.pointer + total * width + first * 2 * expertWidth, rows: rows, columns: 2 * expertWidth)
    )
  }

  private func gradientBlock(unit: Int, expert: Int) -> GradientBlock {
    let key = UnitExpert(unit: unit, expert: expert)
    if let buffer = gradients[key] { return GradientBlock(buffer: buffer, isFresh: false) }
    let buffer = pool.take(blockCount)
    gradients[key] = buffer
    return GradientBlock(buffer: buffer, isFresh: true)
  }

  private func reserveScratch(_ pieces: [ExpertPiece]) {
    // Rounded up to a power of two, because the number of an expert's rows varies a little from call to call.
    let rows = pieces.reduce(1) { max($0, $1.rows.count) }
    let needed = 4 * expertWidth << (Int.bitWidth - (rows - 1).leadingZeroBitCount)
    for lane in scratch.indices where (scratch[lane]?.capacity ?? 0) < needed {
      scratch[lane].map(pool.give)
      scratch[lane] = pool.take(needed)
    }
  }
}
