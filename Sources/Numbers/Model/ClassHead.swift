// The head for one class per sequence: logits = P headᵀ. P is the mean of norm(S; final_norm) over the slots of the
// memory after the last segment or, in a model without memory, the mean of norm(Hᴷ; final_norm) over the tokens of
// the sequence.

import Kernels

package struct ClassHead: OutputHead {
  private let sizes: Sizes
  /// The sum over slots or tokens, P and its gradient (1, D), and the logits (1, classes).
  private let sum, pooled, dpooled, logits: Matrix
  /// Normalised slots or rows and their gradient (M or T, D), and 1/rms.
  private let normed, dnormed: Matrix
  private let rstd: RealPointer

  private var classes: Int { sizes.logitColumns }

  init(_ arena: Arena, _ sizes: Sizes) {
    self.sizes = sizes
    let rows = sizes.slots > 0 ? sizes.slots : sizes.segment
    sum = arena.matrix(1, sizes.width)
    pooled = arena.matrix(1, sizes.width)
    dpooled = arena.matrix(1, sizes.width)
    logits = arena.matrix(1, sizes.logitColumns)
    normed = arena.matrix(rows, sizes.width)
    dnormed = arena.matrix(rows, sizes.width)
    rstd = arena.reals(rows)
  }

  /// In a model without memory, adds the segment's rows to the sum.
  package func read(_ h: Matrix, start: Int, rowCount: Int, weights w: Weights) {
    guard sizes.slots == 0 else { return }
    if start == 0 { sum.clear() }
    add(h, count: rowCount, weights: w)
  }

  /// sum += Σ norm(x; final_norm) over the first `count` rows.
  private func add(_ x: Matrix, count: Int, weights w: Weights) {
    let normed = normed[rows: 0..<count]
    RMSNorm.forward(x[rows: 0..<count], gain: w.finalNorm, into: normed, rstd: rstd)
    normed.addRows(to: sum.pointer)
  }

  /// Computes P from the sum over slots or tokens, and the logits.
  private func finish(memory: Matrix, tokenCount: Int, weights w: Weights) {
    if sizes.slots > 0 {
      sum.clear()
      add(memory, count: sizes.slots, weights: w)
    }
    let share = self.share(tokenCount)
    for column in 0..<sizes.width { pooled.pointer[column] = sum.pointer[column] * share }
    BLAS.multiplyTransposed(pooled, w.head.weight, into: logits)
  }

  private func share(_ tokenCount: Int) -> Real { 1 / Real(sizes.slots > 0 ? sizes.slots : tokenCount) }

  package func sequence(
    memory: Matrix, targets: UnsafeBufferPointer<Int32>, tokenCount: Int, weights w: Weights, scale: Real,
    dmemory: Matrix,
    gradient d: Weights?
  ) -> Double {
    finish(memory: memory, tokenCount: tokenCount, weights: w)
    let loss = CrossEntropy.sum(logits, targets: targets.baseAddress!, gradientScale: d == nil ? 0 : scale)
    dmemory.clear()
    guard let d else { return loss }
    BLAS.transposeMultiply(logits, pooled, into: d.head.weight, adding: true)
    BLAS.multiply(logits, w.head.weight, into: dpooled, scale: share(tokenCount))
    if sizes.slots > 0 { backward(memory, count: sizes.slots, weights: w, into: dmemory, gradient: d) }
    return loss
  }

  package func segment(
    _ h: Matrix, start: Int, rowCount: Int, targets: UnsafeBufferPointer<Int32>, weights w: Weights, scale: Real,
    dh: Matrix,
    gradient d: Weights?
  ) -> Double {
    guard let d else { return 0 }
    dh.clear()
    if sizes.slots == 0 {
      let rows = 0..<rowCount
      RMSNorm.forward(h[rows: rows], gain: w.finalNorm, into: normed[rows: rows], rstd: rstd)
      backward(h, count: rowCount, weights: w, into: dh, gradient: d)
    }
    return 0
  }

  /// Distributes dP to the rows and passes it through the norm; `rstd` must be that of these rows.
  private func backward(_ x: Matrix, count: Int, weights w: Weights, into dx: Matrix, gradient d: Weights) {
    for row in 0..<count { dnormed.row(row).update(from: dpooled.pointer, count: sizes.width) }
    let rows = 0..<count
    RMSNorm.backward(
      x[rows: rows], gain: w.finalNorm, rstd: rstd, dy: dnormed[rows: rows], dx: dx[rows: rows], dgain: d.finalNorm)
  }

  package func writeLogits(_ h: Matrix, start: Int, rowCount: Int, weights w: Weights, into out: Matrix) {}

  package func writeLogits(memory: Matrix, tokenCount: Int, weights w: Weights, into out: Matrix) {
    finish(memory: memory, tokenCount: tokenCount, weights: w)
    out.pointer.update(from: logits.pointer, count: classes)
  }
}
