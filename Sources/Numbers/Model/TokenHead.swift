// The head with a prediction at every token: the next token, with the embedding as output map, or a class. logits =
// norm(Hᴷ; final_norm) mapᵀ. Logits exist for one chunk of rows at a time. Forward and backward are one pass
// (`segment`), because nothing else reads the last H.

import Configuration
import Kernels

/// The logits of a segment, (T, V), are the largest matrix of a model with a large vocabulary. They are computed in
/// chunks of `tilesPerChunk` tiles; in training they are turned into their own gradient in place, used for both
/// products of the backward pass, and overwritten by the next chunk.
package struct TokenHead: OutputHead {
  private let sizes: Sizes
  private let team: Team
  /// For one chunk: normalised rows and their gradient (chunk, D), logits (chunk, V).
  private let normed, dnormed, logits: Matrix
  private let rstd: RealPointer
  private let gainPartials: Matrix
  /// Of each tile, and of each row of the chunk.
  private let losses, rowLosses: DoubleBuffer

  /// Rows of one task: enough that packing the map for a product takes a small part of the time.
  private static let tile = 128
  /// Most logits of a chunk.
  private static let chunkValues = 1 << 24
  /// Number of tiles whose logits exist at the same time.
  private let tilesPerChunk: Int
  private var chunk: Int { tilesPerChunk * TokenHead.tile }

  init(_ arena: Arena, _ sizes: Sizes, team: Team) {
    self.sizes = sizes
    self.team = team
    let segmentTiles = (sizes.segment + TokenHead.tile - 1) / TokenHead.tile
    tilesPerChunk = max(1, min(8, segmentTiles, TokenHead.chunkValues / (TokenHead.tile * sizes.logitColumns)))
    let chunk = tilesPerChunk * TokenHead.tile
    normed = arena.matrix(chunk, sizes.width)
    dnormed = arena.matrix(chunk, sizes.width)
    logits = arena.matrix(chunk, sizes.logitColumns)
    rstd = arena.reals(chunk)
    gainPartials = arena.matrix(tilesPerChunk, sizes.width)
    losses = DoubleBuffer(tilesPerChunk)
    rowLosses = DoubleBuffer(chunk)
  }

  /// The output map, (V, D): the embedding itself in a language model (tied weights), otherwise a map of classes.
  private func map(_ w: Weights) -> LinearMap { sizes.model.head == .lm ? w.embed : w.head }

  package func read(_ h: Matrix, start: Int, rowCount: Int, weights w: Weights) {}

  package func sequence(
    memory: Matrix, targets: UnsafeBufferPointer<Int32>, tokenCount: Int, weights w: Weights, scale: Real,
    dmemory: Matrix,
    gradient d: Weights?
  ) -> Double {
    dmemory.clear()
    return 0
  }

  /// The sum of the cross-entropies of the rows' targets; negative targets are ignored.
  package func segment(
    _ h: Matrix, start: Int, rowCount: Int, targets: UnsafeBufferPointer<Int32>, weights w: Weights, scale: Real,
    dh: Matrix,
    gradient d: Weights?
  ) -> Double {
    var total = 0.0
    let targets = targets.baseAddress! + start
    let map = map(w)
    // The losses of tiles are added in the order of tiles, so the sum does not depend on the threads.
    for first in stride(from: 0, to: rowCount, by: self.chunk) {
      let chunk = min(self.chunk, rowCount - first)
      let tiles = Tiles(of: chunk, size: TokenHead.tile)
      let fine = RowTiles(0..<chunk, size: RowTiles.size(of: chunk, lanes: team.laneCount))
      team.run(fine.count) { task, _ in
        let rows = fine[task]
        let row = first + rows.lowerBound
        RMSNorm.forward(
          h[rows: row..<row + rows.count], gain: w.finalNorm, into: normed[rows: rows], rstd: rstd + rows.lowerBound)
        BLAS.apply(map, to: normed[rows: rows], into: logits[rows: rows])
        for place in rows {
          rowLosses.pointer[place] = CrossEntropy.sum(
            logits[rows: place..<place + 1], targets: targets + first + place, gradientScale: d == nil ? 0 : scale)
        }
        if d != nil { BLAS.multiply(logits[rows: rows], map, into: dnormed[rows: rows]) }
      }
      team.run(tiles.count) { task, _ in
        let rows = tiles[task]
        losses.pointer[task] = 0
        for place in rows { losses.pointer[task] += rowLosses.pointer[place] }
        guard d != nil else { return }
        let row = first + rows.lowerBound
        let h = h[rows: row..<row + rows.count], rstd = rstd + rows.lowerBound
        gainPartials.row(task).update(repeating: 0, count: sizes.width)
        let dh = dh[rows: row..<row + rows.count]
        dh.clear()
        RMSNorm.backward(
          h, gain: w.finalNorm, rstd: rstd, dy: dnormed[rows: rows], dx: dh, dgain: gainPartials.row(task))
      }
      for task in 0..<tiles.count { total += losses.pointer[task] }
      if let d {
        gainPartials[rows: 0..<tiles.count].addRows(to: d.finalNorm)
        addWeightGradient(logits[rows: 0..<chunk], normed[rows: 0..<chunk], into: self.map(d), team: team)
      }
    }
    return total
  }

  /// Logits of one row, (V).
  func logits(_ h: Matrix, row: Int, weights w: Weights, into out: Matrix) {
    let normed = normed[rows: 0..<1]
    RMSNorm.forward(h[rows: row..<row + 1], gain: w.finalNorm, into: normed, rstd: rstd)
    BLAS.apply(map(w), to: normed, into: out)
  }

  package func writeLogits(_ h: Matrix, start: Int, rowCount: Int, weights w: Weights, into out: Matrix) {
    for row in 0..<rowCount { logits(h, row: row, weights: w, into: out[rows: start + row..<start + row + 1]) }
  }

  package func writeLogits(memory: Matrix, tokenCount: Int, weights w: Weights, into out: Matrix) {}
}
