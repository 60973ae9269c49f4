// The head for one class per sequence: logits = P headᵀ. P is the mean of norm(Hᴷ; final_norm) over the tokens of the
// sequence, the mean of norm(S; final_norm) over the slots of the memory after the last segment, or the sum of both
// (`class_pool`). A model without memory reads the tokens.

import Kernels

package struct ClassHead: OutputHead {
  private let sizes: Sizes
  private let readsMemory, readsTokens: Bool
  /// The sum over tokens, P and its gradient (1, D), and the logits (1, classes).
  private let sum, pooled, dpooled, logits: Matrix
  /// Normalised slots or rows and their gradient (M or T, D), and 1/rms.
  private let normed, dnormed: Matrix
  private let rstd: RealPointer

  private var classes: Int { sizes.logitColumns }

  init(_ arena: Arena, _ sizes: Sizes) {
    self.sizes = sizes
    readsMemory = sizes.model.classReadsMemory
    readsTokens = sizes.model.classReadsTokens
    let rows = max(readsMemory ? sizes.slots : 0, readsTokens ? sizes.segment : 0)
    sum = arena.matrix(1, sizes.width)
    pooled = arena.matrix(1, sizes.width)
    dpooled = arena.matrix(1, sizes.width)
    logits = arena.matrix(1, sizes.logitColumns)
    normed = arena.matrix(rows, sizes.width)
    dnormed = arena.matrix(rows, sizes.width)
    rstd = arena.reals(rows)
  }

  /// Adds the segment's rows to the sum over tokens.
  package func read(_ h: Matrix, start: Int, rowCount: Int, weights w: Weights) {
    guard readsTokens else { return }
    if start == 0 { sum.clear() }
    add(h, count: rowCount, weights: w, to: sum)
  }

  /// sum += Σ norm(x; final_norm) over the first `count` rows.
  private func add(_ x: Matrix, count: Int, weights w: Weights, to sum: Matrix) {
    let normed = normed[rows: 0..<count]
    RMSNorm.forward(x[rows: 0..<count], gain: w.finalNorm, into: normed, rstd: rstd)
    normed.addRows(to: sum.pointer)
  }

  /// Computes P and the logits.
  private func finish(memory: Matrix, tokenCount: Int, weights w: Weights) {
    pooled.clear()
    if readsMemory {
      add(memory, count: sizes.slots, weights: w, to: pooled)
      for column in 0..<sizes.width { pooled.pointer[column] *= slotShare }
    }
    if readsTokens {
      let share = 1 / Real(tokenCount)
      for column in 0..<sizes.width { pooled.pointer[column] += sum.pointer[column] * share }
    }
    BLAS.multiplyTransposed(pooled, w.head.weight, into: logits)
  }

  private var slotShare: Real { 1 / Real(sizes.slots) }

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
    if readsMemory {
      // `finish` has left the norm of the slots in `rstd`.
      BLAS.multiply(logits, w.head.weight, into: dpooled, scale: slotShare)
      backward(memory, count: sizes.slots, weights: w, into: dmemory, gradient: d)
    }
    // From here on dP is that of a token.
    if readsTokens { BLAS.multiply(logits, w.head.weight, into: dpooled, scale: 1 / Real(tokenCount)) }
    return loss
  }

  package func segment(
    _ h: Matrix, start: Int, rowCount: Int, targets: UnsafeBufferPointer<Int32>, weights w: Weights, scale: Real,
    dh: Matrix,
    gradient d: Weights?
  ) -> Double {
    guard let d else { return 0 }
    dh.clear()
    if readsTokens {
      let rows = 0..<rowCount
      RMSNorm.forward(h[rows: rows], gain: w.finalNorm, into: normed[rows: rows], rstd: rstd)
      backward(h, count: rowCount, weights: w, into: dh, gradient: d)
    }
    return 0
  }

  /// Distributes dP to the rows and passes it through the norm; `rstd` must be that of these rows.
  private func backward(_ x: Matrix, count: Int, weights w: Weights, into dx: Matrix, gradient d: Weights) {
    let rows = 0..<count
    for row in rows { dnormed.row(row).update(from: dpooled.pointer, count: sizes.width) }
    RMSNorm.backward(
      x[rows: rows], gain: w.finalNorm, rstd: rstd, dy: dnormed[rows: rows], dx: dx[rows: rows], dgain: d.finalNorm)
  }

  package func writeLogits(_ h: Matrix, start: Int, rowCount: Int, weights w: Weights, into out: Matrix) {}

  package func writeLogits(memory: Matrix, tokenCount: Int, weights w: Weights, into out: Matrix) {
    finish(memory: memory, tokenCount: tokenCount, weights: w)
    out.pointer.update(from: logits.pointer, count: classes)
  }
}
