// The experts that this process holds: SwiGLU networks, arXiv 2002.05202.
//
// Rows come from this worker's own units and from other workers', several units at a time. What the backward needs is
// therefore kept by site, and gradients by unit: they are summed over units later, in the tree, so that the order in
// which requests happen to arrive never reaches a number.
//
// Legend: N rows of one expert at one site, D width, F expert width. Weight gradients add (+=); row gradients overwrite.

import CKernels
import Configuration
import Kernels

package final class LocalExperts: ExpertExchange {
  package let owned: [Int]
  private let width: Int
  private let expertWidth: Int
  private let blockCount: Int
  private let parameters: ParameterBuffer
  private let team: Team
  private let pool = BufferPool()
  private var kept: [ExpertCall: Kept] = [:]
  private var gradients: [UnitExpert: PooledBuffer] = [:]
  /// By lane: hidden rows, their gradient, and the gradient of gate and up. (F + F + 2F) · rows
  private var scratch: [PooledBuffer?]

  private struct ExpertCall: Hashable {
    var site: ExpertSite
    var expert: Int
  }
  private struct UnitExpert: Hashable {
    var unit: Int
    var expert: Int
  }
  /// Input rows (N, D) and gate-up products (N, 2F) of one forward call.
  private struct Kept {
    var buffer: PooledBuffer
    var rows: Int
  }

  package init(_ model: ModelConfiguration, parameters: ParameterBuffer, owned: [Int], team: Team) {
    self.owned = owned
    self.parameters = parameters
    self.team = team
    width = model.width
    expertWidth = model.expertWidth
    blockCount = parameters.layout.expertCount
    scratch = Array(repeating: nil, count: team.laneCount)
  }

  /// out = down · (silu(gate · y) ⊙ (up · y)) for the rows of each piece, one task an expert.
  package func forward(_ site: ExpertSite, pieces: [ExpertPiece], rows: Matrix, into out: Matrix, keep: Bool) {
    let buffers = pieces.map { pool.take($0.rows.count * (width + 2 * expertWidth)) }
    reserveScratch(pieces)
    team.run(pieces.count) { task, lane in
      let piece = pieces[task]
      let w = weights(piece.expert)
      let (rows_ND, gateUp_N2F) = parts(buffers[task], rows: piece.rows.count)
      let h_NF = Matrix(scratch[lane]!.pointer, rows: piece.rows.count, columns: expertWidth)
      rows_ND.copy(from: rows[rows: piece.rows])
      BLAS.multiplyTransposed(rows_ND, w.gateUp, into: gateUp_N2F)
      ress_swiglu_forward(Int64(h_NF.rows), Int64(expertWidth), gateUp_N2F.pointer, h_NF.pointer)
      BLAS.multiplyTransposed(h_NF, w.down, into: out[rows: piece.rows])
    }
    for (piece, buffer) in zip(pieces, buffers) {
      if keep {
        kept[ExpertCall(site: site, expert: piece.expert)] = Kept(buffer: buffer, rows: piece.rows.count)
      } else {
        pool.give(buffer)
      }
    }
  }

  package func backward(_ site: ExpertSite, pieces: [ExpertPiece], dout: Matrix, into drows: Matrix) {
    reserveScratch(pieces)
    let calls = pieces.map { piece in
      guard let call = kept.removeValue(forKey: ExpertCall(site: site, expert: piece.expert)),
        call.rows == piece.rows.count
      else { preconditionFailure("no forward of expert \(piece.expert) at \(site) with \(piece.rows.count) rows") }
      return call
    }
    let gradientBuffers = pieces.map { gradientBuffer(unit: site.unit, expert: $0.expert) }
    team.run(pieces.count) { task, lane in
      let piece = pieces[task]
      let count = piece.rows.count
      let w = weights(piece.expert)
      let d = ExpertWeights(gradientBuffers[task].pointer, width: width, expertWidth: expertWidth)
      let (rows_ND, gateUp_N2F) = parts(calls[task].buffer, rows: count)
      let h_NF = Matrix(scratch[lane]!.pointer, rows: count, columns: expertWidth)
      let dh_NF = Matrix(h_NF.pointer + h_NF.count, rows: count, columns: expertWidth)
      let dgateUp_N2F = Matrix(dh_NF.pointer + dh_NF.count, rows: count, columns: 2 * expertWidth)
      let dout_ND = dout[rows: piece.rows]

      BLAS.multiply(dout_ND, w.down, into: dh_NF)
      ress_swiglu_backward(
        Int64(count), Int64(expertWidth), gateUp_N2F.pointer, dh_NF.pointer, dgateUp_N2F.pointer, h_NF.pointer)
      BLAS.transposeMultiply(dout_ND, h_NF, into: d.down, adding: true)
      BLAS.transposeMultiply(dgateUp_N2F, rows_ND, into: d.gateUp, adding: true)
      BLAS.multiply(dgateUp_N2F, w.gateUp, into: drows[rows: piece.rows])
    }
    for call in calls { pool.give(call.buffer) }
  }

  /// Ends a unit: its gradients, one block an expert that had rows, ascending by expert. The caller gives each buffer
  /// back with `recycle`.
  package func takeGradients(unit: Int) -> [(expert: Int, block: PooledBuffer)] {
    owned.compactMap { expert in
      gradients.removeValue(forKey: UnitExpert(unit: unit, expert: expert)).map { (expert, $0) }
    }
  }

  package func recycle(_ buffer: PooledBuffer) { pool.give(buffer) }

  /// Forgets every kept forward and gradient: the step was abandoned.
  package func reset() {
    kept.removeAll()
    gradients.removeAll()
  }

  private func weights(_ expert: Int) -> ExpertWeights {
    guard let block = parameters.experts[expert] else { preconditionFailure("expert \(expert) is not held here") }
    return ExpertWeights(block, width: width, expertWidth: expertWidth)
  }

  private func parts(_ buffer: PooledBuffer, rows: Int) -> (rows_ND: Matrix, gateUp_N2F: Matrix) {
    (
      Matrix(buffer.pointer, rows: rows, columns: width),
      Matrix(buffer.pointer + rows * width, rows: rows, columns: 2 * expertWidth)
    )
  }

  private func gradientBuffer(unit: Int, expert: Int) -> PooledBuffer {
    let key = UnitExpert(unit: unit, expert: expert)
    if let buffer = gradients[key] { return buffer }
    let buffer = pool.take(blockCount)
    buffer.pointer.update(repeating: 0, count: blockCount)
    gradients[key] = buffer
    return buffer
  }

  private func reserveScratch(_ pieces: [ExpertPiece]) {
    let needed = 4 * expertWidth * (pieces.map(\.rows.count).max() ?? 0)
    for lane in scratch.indices where (scratch[lane]?.capacity ?? 0) < needed {
      scratch[lane].map(pool.give)
      scratch[lane] = pool.take(needed)
    }
  }
}
