// Gradients of experts that are computed after their unit, from the rows of its backward calls (`ExpertGradients` tells
// why and when).
//
// A gradient is the sum over the unit's calls, in their order, and the sum of a subtree of units is that of its left
// and its right half. It is computed band by band: some rows of the weights at a time, so that a band stays in the
// cache from the first call of the first unit to the last sum. An element's operations and their order are those of a
// gradient that is added to in every call, so the bits are the same.

import Kernels

extension LocalExperts {
  /// Values of a band; at least one row.
  package static let bandSize = 1 << 16

  /// Keeps the rows of all backward calls from now on.
  /// - Parameter levels: level of the largest subtree of units that `addUp` is called for.
  package func delay(levels: Int) {
    store.delay()
    let size = max(LocalExperts.bandSize, width, expertWidth)
    bands = (0..<team.laneCount).map { _ in (0..<levels).map { _ in pool.take(size) } }
  }

  /// Memory for the rows of a backward call. The inputs of the forward call stay where they are.
  func keepRows(of call: ExpertStore.Kept, _ pieces: [ExpertPiece], unit: Int) -> ExpertStore.DelayedCall {
    let count = store.expertCount
    let later = ExpertStore.DelayedCall(
      inputs: call.buffer, outputs: pool.take(call.rows * (width + expertWidth) + count + 1), rows: call.rows,
      inputPool: call.pool, outputPool: pool)
    let firsts = firstRows(of: later)
    // The kept rows of the pieces follow each other, though other workers' pieces may lie between them in the caller's
    // matrix.
    var (expert, row) = (0, 0)
    for piece in pieces {
      while expert <= piece.expert {
        firsts[expert] = Int32(row)
        expert += 1
      }
      row += piece.rows.count
    }
    while expert <= count {
      firsts[expert] = Int32(call.rows)
      expert += 1
    }
    store.keep(later, unit: unit)
    return later
  }

  /// Keeps some rows of a call, `rows` of all that it keeps. The gate-up products are not needed any more; their
  /// gradient takes their place.
  func keep(
    _ dout_ND: Matrix, _ h_NF: Matrix, dgateUp_N2F: Matrix, gateUp gateUp_N2F: Matrix, rows: Range<Int>,
    delayed later: ExpertStore.DelayedCall
  ) {
    let (keptDout_ND, keptH_NF) = outputs(of: later, rows)
    keptDout_ND.copy(from: dout_ND)
    keptH_NF.copy(from: h_NF)
    gateUp_N2F.copy(from: dgateUp_N2F)
  }

  private func firstRows(of call: ExpertStore.DelayedCall) -> UnsafeMutablePointer<Int32> {
    UnsafeMutableRawPointer(call.outputs.pointer + call.rows * (width + expertWidth)).assumingMemoryBound(
      to: Int32.self)
  }

  private func rows(of expert: Int, in call: ExpertStore.DelayedCall) -> Range<Int> {
    let firsts = firstRows(of: call)
    return Int(firsts[expert])..<Int(firsts[expert + 1])
  }

  /// Gradients of the output (N, D), and hidden rows (N, F), of some rows of a call.
  func outputs(of call: ExpertStore.DelayedCall, _ rows: Range<Int>) -> (dout_ND: Matrix, h_NF: Matrix) {
    (
      Matrix(call.outputs.pointer, rows: call.rows, columns: width)[rows: rows],
      Matrix(call.outputs.pointer + call.rows * width, rows: call.rows, columns: expertWidth)[rows: rows]
    )
  }

  /// Input rows (N, D), and gradients of the gate-up products (N, 2F), of some rows of a call.
  private func inputs(of call: ExpertStore.DelayedCall, _ rows: Range<Int>) -> (rows_ND: Matrix, dgateUp_N2F: Matrix) {
    (
      Matrix(call.inputs.pointer, rows: call.rows, columns: width)[rows: rows],
      Matrix(call.inputs.pointer + call.rows * width, rows: call.rows, columns: 2 * expertWidth)[rows: rows]
    )
  }

  /// Whether an expert has rows of a unit that are kept.
  package func hasRows(unit: Int, expert: Int) -> Bool {
    store.calls(ofUnit: unit)?.contains { !rows(of: expert, in: $0).isEmpty } ?? false
  }

  /// Values of the rows of the weights in which a range of an expert's block lies.
  package func wholeRows(_ range: Range<Int>) -> Range<Int> {
    let down = 2 * expertWidth * width
    func begin(_ place: Int) -> Int {
      place < down ? place / width * width : down + (place - down) / expertWidth * expertWidth
    }
    func end(_ place: Int) -> Int {
      place <= down
        ? (place + width - 1) / width * width
        : down + (place - down + expertWidth - 1) / expertWidth * expertWidth
    }
    return begin(range.lowerBound)..<end(range.upperBound)
  }

  /// target = the gradient of values `range` of an expert's block, whole rows, over the units of a node of the tree of
  /// which at least one has rows. Called on a lane of the team.
  package func addUp(
    expert: Int, level: Int, index: Int, unitCount: Int, range: Range<Int>, into target: RealPointer, lane: Int
  ) {
    var place = range.lowerBound
    let down = 2 * expertWidth * width
    while place < range.upperBound {
      let columns = place < down ? width : expertWidth
      let end = place < down ? min(down, range.upperBound) : range.upperBound
      let band = place..<min(end, place + max(1, LocalExperts.bandSize / columns) * columns)
      _ = addUp(
        expert: expert, level: level, index: index, unitCount: unitCount, band: band,
        into: target + place - range.lowerBound, lane: lane)
      place = band.upperBound
    }
  }

  /// The same for a band, which is in one weight. Returns false, and writes nothing, where no unit has rows.
  private func addUp(
    expert: Int, level: Int, index: Int, unitCount: Int, band: Range<Int>, into target: RealPointer, lane: Int
  ) -> Bool {
    guard index << level < unitCount else { return false }
    guard level > 0 else { return gradient(expert, unit: index, band: band, into: target) }
    let isLeft = addUp(
      expert: expert, level: level - 1, index: 2 * index, unitCount: unitCount, band: band, into: target, lane: lane)
    guard isLeft else {
      return addUp(
        expert: expert, level: level - 1, index: 2 * index + 1, unitCount: unitCount, band: band, into: target,
        lane: lane)
    }
    let right = bands[lane][level - 1].pointer
    if addUp(
      expert: expert, level: level - 1, index: 2 * index + 1, unitCount: unitCount, band: band, into: right, lane: lane)
    {
      Vectors.add(right, to: target, count: band.count)
    }
    return true
  }

  /// The gradient of one unit: the sum over its calls.
  private func gradient(_ expert: Int, unit: Int, band: Range<Int>, into target: RealPointer) -> Bool {
    guard let calls = store.calls(ofUnit: unit) else { return false }
    let down = 2 * expertWidth * width
    var isFresh = true
    for call in calls {
      let rows = rows(of: expert, in: call)
      guard !rows.isEmpty else { continue }
      if band.lowerBound < down {
        let (rows_ND, dgateUp_N2F) = inputs(of: call, rows)
        let lines = band.lowerBound / width..<band.upperBound / width
        BLAS.transposeMultiply(
          dgateUp_N2F[columns: lines], rows_ND, into: Matrix(target, rows: lines.count, columns: width),
          factors: store.factors, adding: !isFresh)
      } else {
        let (dout_ND, h_NF) = outputs(of: call, rows)
        let lines = (band.lowerBound - down) / expertWidth..<(band.upperBound - down) / expertWidth
        BLAS.transposeMultiply(
          dout_ND[columns: lines], h_NF, into: Matrix(target, rows: lines.count, columns: expertWidth),
          factors: store.factors, adding: !isFresh)
      }
      isFresh = false
    }
    return !isFresh
  }

  /// Gives the rows of a unit back: its gradients are computed, or are not wanted.
  package func release(unit: Int) { store.release(unit: unit) }
}
