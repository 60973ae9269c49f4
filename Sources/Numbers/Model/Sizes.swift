// The sizes of a model under the names that the code uses, and the tiles by which rows are divided among threads.
// Partial sums are formed by tiles that depend on the sizes alone and not on the number of threads, because sums are
// added in their order. Work on rows that does not form sums may use smaller tiles, so that a team with more threads
// than tiles has work for all of them: a row has the same bits in any product.
//
// Legend for every file of this module:
//   T tokens a segment   D width            H heads          C head width       K recurrence steps
//   M memory slots       N graph neighbours kept a row (window + degree)        R structure rank
//   E experts            A active experts   F expert width   V vocabulary       S visible rows: cache, then segment
// Gradients: a layer's backward adds (+=) to the gradients of weights and of its input, and overwrites the others.

import Configuration
import Kernels

package struct Sizes: Equatable, Sendable {
  package let model: ModelConfiguration
  package let vocabulary: Int
  /// K as the model is run: as it was trained, or another number at evaluation.
  package let steps: Int

  /// - Parameter steps: recurrence steps to run instead of the trained number; a model allows it in which all steps
  ///   have the same experts.
  package init(_ model: ModelConfiguration, vocabulary: Int, steps: Int? = nil) {
    precondition(
      steps == nil || steps == model.steps || model.allowsOtherSteps, "blocks with experts of their own run as they are"
    )
    self.model = model
    self.vocabulary = vocabulary
    self.steps = steps ?? model.steps
  }

  package var segment: Int { model.segment }
  package var width: Int { model.width }
  package var heads: Int { model.heads }
  package var headWidth: Int { model.width / model.heads }
  package var slots: Int { model.slots }
  /// Number of tokens before a segment that stay visible.
  package var cache: Int { model.visibleCache }
  /// Number of taps before attention and before the experts.
  package var attentionTaps: Int { model.attentionTaps }
  package var expertTaps: Int { model.tapsBeforeExperts }
  package var forgets: Bool { model.forgets }
  /// Number of neighbours before and after a token in its window.
  package var windowBefore: Int { model.isCausal ? model.window - 1 : model.ordered ? model.window / 2 : 0 }
  package var windowAfter: Int { model.isCausal ? 0 : windowBefore }
  /// Most tokens that one token can see.
  package var visible: Int { cache + segment }
  /// Most neighbours that are chosen by score.
  package var degree: Int { min(model.graphDegree ?? visible, visible) }
  /// Most neighbours of a row.
  package var neighbours: Int { min(windowBefore + 1 + windowAfter + degree, visible) }
  /// Most attention weights of a row and head.
  package var kept: Int { min(model.keys ?? .max, neighbours + slots) }
  package var rank: Int { model.structureRank }
  /// Kinds of relations that the input may give.
  package var relationKinds: Int { model.relations }
  /// Number of routed experts among which a step's router chooses.
  package var experts: Int { model.routedExperts }
  package var active: Int { experts == 0 ? 0 : model.activeExperts }
  package var expertWidth: Int { model.expertWidth }
  package var blocks: Int { model.blockCount }
  /// The block whose weights a step uses.
  package func block(_ step: Int) -> Int { model.block(ofStep: step) }
  /// The number of the first expert that a step's router can choose.
  package func firstExpert(_ step: Int) -> Int { model.pool(ofStep: step) * experts }
  /// Whether the memory is read again at every step: it changes between steps, or every block has its own maps.
  package var readsEachStep: Bool { !model.isCausal || blocks > 1 }
  /// Number of rows before a segment that some part of it can still see.
  package var history: Int { max(cache, attentionTaps - 1, expertTaps - 1) }

  /// Rows of a task. Large enough for the products to reach their speed, small enough to divide a segment among
  /// threads.
  package static let rowTile = 128
  /// Rows of a weight gradient that one task computes, of `rows`: an eighth, but not so few that packing the other
  /// factor for each task costs much, nor so many that a task's part does not fit the cache.
  package static func weightTile(of rows: Int) -> Int { max(128, min(512, rows / 8 / 128 * 128)) }

  package var rowTiles: Int { (segment + Sizes.rowTile - 1) / Sizes.rowTile }
}

/// The rows that are being computed, and what they see.
package struct Span: Equatable, Sendable {
  /// Number of the segment in the sequence.
  package var segment: Int
  /// Row of the tables at which the segment begins.
  package var start: Int
  /// Number of visible tokens before the segment (the cache).
  package var cached: Int
  /// Number of tokens of the sequence before the segment.
  package var first: Int
  /// Rows of the segment to compute: all of them in training, the newest ones in generation.
  package var rows: Range<Int>

  /// Row of the tables of the first visible token.
  package var firstVisible: Int { start - cached }
  package var tiles: RowTiles { RowTiles(rows) }

  /// Tiles for work that forms no sums over a tile's rows: smaller ones where the threads of the team need them.
  func tiles(for team: Team) -> RowTiles {
    RowTiles(rows, size: RowTiles.size(of: rows.count, lanes: team.laneCount))
  }
}

/// Rows, divided into tiles.
package struct RowTiles: Sendable {
  package let count: Int
  private let rows: Range<Int>
  private let size: Int

  package init(_ rows: Range<Int>, size: Int = Sizes.rowTile) {
    self.rows = rows
    self.size = size
    count = (rows.count + size - 1) / size
  }

  package subscript(index: Int) -> Range<Int> {
    let lower = rows.lowerBound + index * size
    return lower..<min(rows.upperBound, lower + size)
  }

  /// The size of tiles, at most `Sizes.rowTile`, with which so many threads end soonest. A product of fewer rows reads
  /// its weights for less work.
  package static func size(of rows: Int, lanes: Int) -> Int {
    let half = Sizes.rowTile / 2, quarter = Sizes.rowTile / 4
    let whole = mostRows(of: rows, lanes: lanes, size: Sizes.rowTile)
    let halves = 1.03 * mostRows(of: rows, lanes: lanes, size: half)
    let quarters = 1.1 * mostRows(of: rows, lanes: lanes, size: quarter)
    if whole <= halves, whole <= quarters { return Sizes.rowTile }
    return halves <= quarters ? half : quarter
  }

  /// Rows of the thread that has most.
  package static func mostRows(of rows: Int, lanes: Int, size: Int) -> Double {
    Double(((rows + size - 1) / size + lanes - 1) / lanes * size)
  }
}

/// Partial sums of a gain's gradient, one row per tile. Threads fill them in any order; `fold` adds them in the
/// order of tiles.
package struct TilePartials {
  private let rows: Matrix

  package init(_ arena: Arena, _ sizes: Sizes) { rows = arena.matrix(sizes.rowTiles, sizes.width) }

  /// A cleared row for a tile.
  package func begin(_ tile: Int) -> RealPointer {
    let row = rows.row(tile)
    row.update(repeating: 0, count: rows.columns)
    return row
  }

  /// total (D) += the rows of the first `tiles` tiles, in order.
  package func fold(_ tiles: Int, into total: RealPointer) {
    rows[rows: 0..<tiles].addRows(to: total)
  }
}

/// dW (out, in) += dyᵀ x over all rows, divided into tiles of dW.
package func addWeightGradient(
  _ dy: Matrix, _ x: Matrix, into dw: Matrix, factors: Factors = .full, team: Team
) {
  let tiles = WeightTiles(dw, factors: factors, lanes: team.laneCount)
  team.run(tiles.count) { task, _ in tiles.multiply(task, dy, x: x, into: dw, adding: true) }
}

/// The same for the gradient of a linear map.
package func addWeightGradient(_ dy: Matrix, _ x: Matrix, into dw: LinearMap, team: Team) {
  addWeightGradient(dy, x, into: dw.weight, factors: dw.factors, team: team)
}

/// A weight's gradient, divided into tiles of rows, and of columns where a team has more threads than those.
struct WeightTiles {
  private let rows, columns: Tiles
  private let factors: Factors
  var count: Int { rows.count * columns.count }

  /// Least columns of a tile: both factors are copied for each tile.
  private static let leastColumns = 64

  init(_ dw: Matrix, factors: Factors, lanes: Int) {
    self.factors = factors
    rows = Tiles(of: dw.rows, size: Sizes.weightTile(of: dw.rows))
    let parts = max(1, min(dw.columns / WeightTiles.leastColumns, (lanes + rows.count - 1) / max(1, rows.count)))
    let least = WeightTiles.leastColumns
    columns = Tiles(
      of: dw.columns, size: parts == 1 ? max(1, dw.columns) : (dw.columns / parts + least - 1) / least * least)
  }

  /// One tile of dw = dyᵀ x, or dw += dyᵀ x.
  func multiply(_ tile: Int, _ dy: Matrix, x: Matrix, into dw: Matrix, adding: Bool) {
    let (part, across) = (rows[tile / columns.count], columns[tile % columns.count])
    BLAS.transposeMultiply(
      dy[columns: part], x[columns: across], into: dw[rows: part][columns: across], factors: factors, adding: adding)
  }
}
