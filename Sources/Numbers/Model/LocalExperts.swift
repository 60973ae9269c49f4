// The experts that this process holds: SwiGLU networks, arXiv 2002.05202.
//
// Requests come from this worker's own units and from those of other workers, several units at a time and in an
// order that depends on chance. To keep chance out of the results, what the backward pass needs is stored by site
// and gradients are stored by unit. The gradients are added over the units later, in the tree. Each team of the worker
// has a `LocalExperts` of its own; all of them have one `ExpertStore`.
//
// Order of operations in one unit: the calls of one (unit, expert) come from the worker that computes the unit,
// which makes them one after the other, so a unit's gradient is added in the same order wherever the expert is.
//
// Legend: N rows of one expert at one site, D width, F expert width. Gradients of weights add (+=); gradients of
// rows overwrite.

import Configuration
import Kernels

package final class LocalExperts: ExpertExchange {
  package var held: [Int] { store.held }
  let store: ExpertStore
  var width: Int { store.width }
  var expertWidth: Int { store.expertWidth }
  package let team: Team
  /// Memory of the rows of this team's calls.
  package let pool = BufferPool()
  /// By lane and level of the units' tree: a band of a gradient (`delay`).
  var bands: [[PooledBuffer]] = []
  /// By lane: hidden rows, their gradient, and the gradient of gate and up, (F + F + 2F) · rows.
  private var scratch: [PooledBuffer?]
  /// Gradient blocks of the current call, one per piece. The list is reused, and so is that of tasks.
  private var gradientBlocks: [ExpertStore.GradientBlock] = []
  private var tasks: [Task] = []

  /// A tile of a piece's rows, or of the gradients of its weights.
  private struct Task {
    var piece: Int
    var tile: Int
    var isOfDown = false
  }

  /// - Parameter packs: whether products read packed copies of the weights. They take as much memory as the weights,
  ///   and change no bit.
  package convenience init(
    _ model: ModelConfiguration, parameters: ParameterBuffer, held: [Int], team: Team, packs: Bool = true
  ) {
    self.init(ExpertStore(model, parameters: parameters, held: held, packs: packs), team)
  }

  /// The same experts for another team, which may compute at the same time. The weights of `other` must be packed
  /// (`refresh`), and must not change while both are used.
  package convenience init(sharing other: LocalExperts, team: Team) { self.init(other.store, team) }

  private init(_ store: ExpertStore, _ team: Team) {
    self.store = store
    self.team = team
    scratch = Array(repeating: nil, count: team.laneCount)
    tasks.reserveCapacity(LocalExperts.usualTasks)
  }

  /// More tasks than a call has, as a rule: lists that grow in a steady step would be allocated.
  private static let usualTasks = 1024

  /// Packs the weights for products, if they have changed since.
  package func refresh() { store.refresh(team) }

  /// Makes memory for so many gradients of `size` values in advance.
  package func reserveGradients(_ count: Int, of size: Int) { store.gradientPool.reserve(count, of: size) }

  /// out = down · (silu(gate · y) ⊙ (up · y)) for the rows of each piece; one task per expert, or tiles of an expert's
  /// rows where a team has more threads than experts.
  package func forward(_ site: ExpertSite, pieces: [ExpertPiece], rows: Matrix, into out: Matrix, keep: Bool) {
    store.refresh(team)
    let rowCount = LocalExperts.rowCount(pieces)
    let buffer = pool.take(rowCount * (width + 2 * expertWidth))
    reserveScratch(pieces)
    let size = rowTile(pieces, rowCount)
    listRowTiles(pieces, size)
    team.run(tasks.count) { task, lane in
      let task = tasks[task]
      let (tile, place) = tileRows(of: task, pieces, size: size)
      let w = store.weights(pieces[task.piece].expert)
      let whole = parts(buffer, of: rowCount, pieces: pieces, at: task.piece)
      let (rows_ND, gateUp_N2F) = (whole.rows_ND[rows: tile], whole.gateUp_N2F[rows: tile])
      let h_NF = Matrix(scratch[lane]!.pointer, rows: tile.count, columns: expertWidth)
      rows_ND.copy(from: rows[rows: place])
      BLAS.apply(w.gateUp, to: rows_ND, into: gateUp_N2F)
      SwiGLU.forward(gateUp: gateUp_N2F, into: h_NF)
      BLAS.apply(w.down, to: h_NF, into: out[rows: place])
    }
    if keep { store.keep(.init(buffer: buffer, rows: rowCount, pool: pool), at: site) } else { pool.give(buffer) }
  }

  /// Whether a forward call of that many rows was kept for the backward pass.
  package func hasForward(_ site: ExpertSite, rows: Int) -> Bool { store.hasForward(site, rows: rows) }

  /// drows = the gradient of the rows of the forward call at this site, whose inputs were kept; the gradients of the
  /// experts' weights are added to the unit's blocks. The hidden rows h are computed again, since keeping them would
  /// take half as much memory again as gate and up.
  package func backward(_ site: ExpertSite, pieces: [ExpertPiece], dout: Matrix, into drows: Matrix) {
    let rowCount = LocalExperts.rowCount(pieces)
    let call = store.takeForward(site, rows: rowCount)
    gradientBlocks.removeAll(keepingCapacity: true)
    let later = store.delays ? keepRows(of: call, pieces, unit: site.unit) : nil
    if later == nil {
      for piece in pieces { gradientBlocks.append(store.gradientBlock(unit: site.unit, expert: piece.expert)) }
    }
    defer { if later == nil { call.pool.give(call.buffer) } }
    let size = rowTile(pieces, rowCount)
    if size < rowCount {
      return backward(pieces, rowCount, size: size, kept: call.buffer, delayed: later, dout: dout, into: drows)
    }
    reserveScratch(pieces)
    team.run(pieces.count) { task, lane in
      let piece = pieces[task]
      let count = piece.rows.count
      let w = store.weights(piece.expert)
      let (rows_ND, gateUp_N2F) = parts(call.buffer, of: rowCount, pieces: pieces, at: task)
      let h_NF = Matrix(scratch[lane]!.pointer, rows: count, columns: expertWidth)
      let dh_NF = Matrix(h_NF.pointer + h_NF.count, rows: count, columns: expertWidth)
      let dgateUp_N2F = Matrix(dh_NF.pointer + dh_NF.count, rows: count, columns: 2 * expertWidth)
      let dout_ND = dout[rows: piece.rows]

      BLAS.multiply(dout_ND, w.down, into: dh_NF)
      SwiGLU.backward(gateUp: gateUp_N2F, dh: dh_NF, dgateUp: dgateUp_N2F, h: h_NF)
      if let later {
        let before = LocalExperts.rowCount(pieces[..<task])
        keep(dout_ND, h_NF, dgateUp_N2F: dgateUp_N2F, gateUp: gateUp_N2F, rows: before..<before + count, delayed: later)
      } else {
        let d = ExpertWeights(gradientBlocks[task].buffer.pointer, width: width, expertWidth: expertWidth)
        let adding = !gradientBlocks[task].isFresh
        BLAS.transposeMultiply(dout_ND, h_NF, into: d.down.weight, factors: store.factors, adding: adding)
        BLAS.transposeMultiply(dgateUp_N2F, rows_ND, into: d.gateUp.weight, factors: store.factors, adding: adding)
      }
      BLAS.multiply(dgateUp_N2F, w.gateUp, into: drows[rows: piece.rows])
    }
  }

  /// The same for a team with more threads than experts: first tiles of all rows, and then tiles of all weights'
  /// gradients, which need the hidden rows of a whole piece.
  private func backward(
    _ pieces: [ExpertPiece], _ rowCount: Int, size: Int, kept: PooledBuffer, delayed later: ExpertStore.DelayedCall?,
    dout: Matrix, into drows: Matrix
  ) {
    let buffer = pool.take(4 * rowCount * expertWidth)
    defer { pool.give(buffer) }
    let h_NF = Matrix(buffer.pointer, rows: rowCount, columns: expertWidth)
    let dh_NF = Matrix(h_NF.pointer + h_NF.count, rows: rowCount, columns: expertWidth)
    let dgateUp_N2F = Matrix(dh_NF.pointer + dh_NF.count, rows: rowCount, columns: 2 * expertWidth)
    listRowTiles(pieces, size)
    team.run(tasks.count) { task, _ in
      let task = tasks[task]
      let (tile, place) = tileRows(of: task, pieces, size: size)
      let w = store.weights(pieces[task.piece].expert)
      let gateUp_N2F = parts(kept, of: rowCount, pieces: pieces, at: task.piece).gateUp_N2F[rows: tile]
      let before = LocalExperts.rowCount(pieces[..<task.piece])
      let own = before + tile.lowerBound..<before + tile.upperBound
      BLAS.multiply(dout[rows: place], w.down, into: dh_NF[rows: own])
      SwiGLU.backward(gateUp: gateUp_N2F, dh: dh_NF[rows: own], dgateUp: dgateUp_N2F[rows: own], h: h_NF[rows: own])
      BLAS.multiply(dgateUp_N2F[rows: own], w.gateUp, into: drows[rows: place])
      if let later {
        keep(
          dout[rows: place], h_NF[rows: own], dgateUp_N2F: dgateUp_N2F[rows: own], gateUp: gateUp_N2F, rows: own,
          delayed: later)
      }
    }
    guard later == nil else { return }
    tasks.removeAll(keepingCapacity: true)
    let shape = ExpertWeights(gradientBlocks[0].buffer.pointer, width: width, expertWidth: expertWidth)
    let share = (team.laneCount + pieces.count - 1) / pieces.count
    let down = WeightTiles(shape.down.weight, factors: store.factors, lanes: share),
      gateUp = WeightTiles(shape.gateUp.weight, factors: store.factors, lanes: share)
    for piece in pieces.indices {
      for tile in 0..<down.count { tasks.append(Task(piece: piece, tile: tile, isOfDown: true)) }
      for tile in 0..<gateUp.count { tasks.append(Task(piece: piece, tile: tile)) }
    }
    team.run(tasks.count) { task, _ in
      let task = tasks[task]
      let block = gradientBlocks[task.piece]
      let d = ExpertWeights(block.buffer.pointer, width: width, expertWidth: expertWidth)
      let before = LocalExperts.rowCount(pieces[..<task.piece])
      let own = before..<before + pieces[task.piece].rows.count
      if task.isOfDown {
        down.multiply(
          task.tile, dout[rows: pieces[task.piece].rows], x: h_NF[rows: own], into: d.down.weight,
          adding: !block.isFresh)
      } else {
        let rows_ND = parts(kept, of: rowCount, pieces: pieces, at: task.piece).rows_ND
        gateUp.multiply(task.tile, dgateUp_N2F[rows: own], x: rows_ND, into: d.gateUp.weight, adding: !block.isFresh)
      }
    }
  }

  /// Rows of a task: all rows of a piece, unless the team has too many threads for that.
  private func rowTile(_ pieces: [ExpertPiece], _ rowCount: Int) -> Int {
    guard team.laneCount > 1, pieces.count < 2 * team.laneCount else { return max(1, rowCount) }
    return RowTiles.size(of: rowCount, lanes: team.laneCount)
  }

  private func listRowTiles(_ pieces: [ExpertPiece], _ size: Int) {
    tasks.removeAll(keepingCapacity: true)
    for (place, piece) in pieces.enumerated() {
      for tile in 0..<Tiles(of: piece.rows.count, size: size).count { tasks.append(Task(piece: place, tile: tile)) }
    }
  }

  /// The rows of a task's tile: among those of its piece, and in the caller's matrix.
  private func tileRows(of task: Task, _ pieces: [ExpertPiece], size: Int) -> (tile: Range<Int>, place: Range<Int>) {
    let rows = pieces[task.piece].rows
    let tile = Tiles(of: rows.count, size: size)[task.tile]
    return (tile, rows.lowerBound + tile.lowerBound..<rows.lowerBound + tile.upperBound)
  }

  /// Ends a unit for an expert. Returns the block of its gradients, nil if it had no rows. The caller returns it
  /// with `recycle`.
  package func takeGradient(unit: Int, expert: Int) -> PooledBuffer? { store.takeGradient(unit: unit, expert: expert) }

  package func recycle(_ buffer: PooledBuffer) { store.gradientPool.give(buffer) }
  package func take(_ count: Int) -> PooledBuffer { store.gradientPool.take(count) }

  /// Bytes of the rows of this team's calls; and of what all teams share: packed weights and gradients.
  package var byteCount: Int { pool.byteCount }
  package var sharedByteCount: Int { store.byteCount }

  private static func rowCount(_ pieces: some Sequence<ExpertPiece>) -> Int { pieces.reduce(0) { $0 + $1.rows.count } }

  /// The rows and gate-up products of one piece in the buffer of a call with `total` rows.
  func parts(
    _ buffer: PooledBuffer, of total: Int, pieces: [ExpertPiece], at place: Int
  ) -> (rows_ND: Matrix, gateUp_N2F: Matrix) {
    let first = LocalExperts.rowCount(pieces[..<place])
    let rows = pieces[place].rows.count
    return (
      Matrix(buffer.pointer + first * width, rows: rows, columns: width),
      Matrix(buffer.pointer + total * width + first * 2 * expertWidth, rows: rows, columns: 2 * expertWidth)
    )
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
