// Next-token prediction with the embedding as output map: logits = norm(Hᴷ; final_norm) embedᵀ. Logits exist for a chunk
// of rows at a time; forward and backward are one pass, because nothing else reads the last H.

import CKernels
import Kernels

package struct LanguageModelHead {
  private let sizes: Sizes
  private let team: Team
  /// One chunk: normed rows and their gradient (chunk, D), logits (chunk, V).
  private let normed, dnormed, logits: Matrix
  private let rstd: RealPointer
  private let gainPartials: Matrix
  private let losses: DoubleBuffer

  /// Rows whose logits exist at once, and the rows of one task.
  private static let chunk = 128
  private static let tile = 32
  private static var tilesPerChunk: Int { chunk / tile }

  init(_ arena: Arena, _ sizes: Sizes, _ team: Team) {
    self.sizes = sizes
    self.team = team
    normed = arena.matrix(LanguageModelHead.chunk, sizes.width)
    dnormed = arena.matrix(LanguageModelHead.chunk, sizes.width)
    logits = arena.matrix(LanguageModelHead.chunk, sizes.vocabulary)
    rstd = arena.reals(LanguageModelHead.chunk)
    gainPartials = arena.matrix(LanguageModelHead.tilesPerChunk, sizes.width)
    losses = DoubleBuffer(LanguageModelHead.tilesPerChunk)
  }

  /// Cross-entropy sum of the rows' targets (a negative one counts nothing). With `gradient`, also dh (T, D) overwritten
  /// and the gradients of embed and final_norm, all times `scale`.
  func loss(
    _ h: Matrix, rowCount: Int, targets: UnsafePointer<Int32>, _ w: Weights, scale: Real = 0, dh: Matrix? = nil,
    gradient d: Weights? = nil
  ) -> Double {
    var total = 0.0
    let width = Int64(sizes.width)
    for first in stride(from: 0, to: rowCount, by: LanguageModelHead.chunk) {
      let chunk = min(LanguageModelHead.chunk, rowCount - first)
      let tiles = Tiles(of: chunk, size: LanguageModelHead.tile)
      team.run(tiles.count) { task, _ in
        let rows = tiles[task]
        let row = first + rows.lowerBound
        let count = Int64(rows.count)
        ress_rmsnorm_forward(count, width, h.row(row), w.finalNorm, normed.row(rows.lowerBound), rstd + rows.lowerBound)
        BLAS.multiplyTransposed(normed[rows: rows], w.embed, into: logits[rows: rows])
        losses.pointer[task] = ress_cross_entropy(
          count, Int64(sizes.vocabulary), logits.row(rows.lowerBound), targets + row, scale)
        guard let dh else { return }
        BLAS.multiply(logits[rows: rows], w.embed, into: dnormed[rows: rows])
        gainPartials.row(task).update(repeating: 0, count: sizes.width)
        dh.row(row).update(repeating: 0, count: rows.count * sizes.width)
        ress_rmsnorm_backward(
          count, width, h.row(row), w.finalNorm, rstd + rows.lowerBound, dnormed.row(rows.lowerBound), dh.row(row),
          gainPartials.row(task))
      }
      for task in 0..<tiles.count { total += losses.pointer[task] }
      if let d {
        ress_sum_rows(Int64(tiles.count), width, gainPartials.pointer, d.finalNorm)
        addWeightGradient(logits[rows: 0..<chunk], normed[rows: 0..<chunk], into: d.embed, team)
      }
    }
    return total
  }

  /// Logits of one row, (V).
  func logits(_ h: Matrix, row: Int, _ w: Weights, into out: Matrix) {
    ress_rmsnorm_forward(1, Int64(sizes.width), h.row(row), w.finalNorm, normed.pointer, rstd)
    BLAS.multiplyTransposed(normed[rows: 0..<1], w.embed, into: out)
  }
}
