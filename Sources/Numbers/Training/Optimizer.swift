// AdamW (arXiv 1711.05101) on what one worker owns: its part of the dense parameters, and its experts. Every parameter
// is updated by exactly one worker, so moments are stored once in the cluster.
//
// The global norm of the gradient is a sum of squares over fixed chunks of tensors. The chunks' sums are always
// added in the same order, whichever workers own the tensors, so that the norm has the same bits on any cluster.

import Configuration
import Kernels
import Model

package final class Optimizer {
  /// A tensor that this worker updates, or the rows of it: values, and the first and second moments.
  package struct Owned {
    package let rows: TensorRows
    package var entry: ParameterEntry { rows.entry }
    package let values: RealPointer
    package let first: RealPointer
    package let second: RealPointer
    /// Its expert, nil for a dense tensor; the gradient's offset in the expert's block, or in the worker's dense
    /// range.
    let expert: Int?
    let gradientOffset: Int
    /// Its chunks in the list of all chunks of the model.
    let chunks: Range<Int>
  }

  /// One chunk of a trained tensor: the unit of work of a thread. `start` is counted from the first value owned.
  private struct Piece {
    let tensor: Owned
    let start: Int
    let count: Int
    let chunk: Int
    /// The place of its gradient: a dense tensor's offset, or an expert's part (`ParameterLayout.expertParts`) by
    /// expert and part, and the offset there.
    let part: Int?
    let offset: Int
  }

  package let owned: [Owned]
  private let pieces: [Piece]
  private let sums: DoubleBuffer
  /// Sum of squares of each chunk of the model.
  private var squares: [Double]
  /// Number of chunks of the whole model.
  package let chunkCount: Int
  private let configuration: OptimizerConfiguration
  private let team: Team
  private let arena: Arena

  /// Values of a chunk, whose squares are added in one loop.
  package static let chunkSize = 65_536

  package init(_ configuration: OptimizerConfiguration, parameters: ParameterBuffer, plan: WorkPlan, team: Team) {
    self.configuration = configuration
    self.team = team
    let layout = parameters.layout
    let dense = plan.myDense.lowerBound
    let experts = Set(plan.myExperts)
    var chunk = 0
    func chunks(_ entry: ParameterEntry) -> Range<Int> {
      let count = (entry.count + Optimizer.chunkSize - 1) / Optimizer.chunkSize
      defer { chunk += count }
      return chunk..<chunk + count
    }
    // Chunks are numbered over all tensors of the model, so that their numbers do not depend on who owns what.
    let tensors = layout.dense.map { ($0, chunks($0)) }
    let blocks = layout.experts.map { $0.map { ($0, chunks($0)) } }
    chunkCount = chunk
    let (arena, owned) = Arena.build { arena in
      var owned: [Owned] = []
      for (entry, chunks) in tensors {
        guard let rows = plan.myRows(of: entry) else { continue }
        let first = rows.range.lowerBound, size = Optimizer.chunkSize
        precondition(rows.values.lowerBound % size == 0, "rows \(rows.rows) of \(entry.name) begin within a chunk")
        let begun = chunks.lowerBound + rows.values.lowerBound / size
        owned.append(
          Owned(
            rows: rows, values: parameters.dense + first, first: arena.reals(rows.momentCount),
            second: arena.reals(rows.momentCount), expert: nil, gradientOffset: first - dense,
            chunks: begun..<begun + (rows.count + size - 1) / size))
      }
      for (expert, entries) in blocks.enumerated() where experts.contains(expert) {
        for (entry, chunks) in entries {
          let rows = TensorRows(entry)
          owned.append(
            Owned(
              rows: rows, values: parameters.experts[expert]! + entry.offset, first: arena.reals(rows.momentCount),
              second: arena.reals(rows.momentCount), expert: expert, gradientOffset: entry.offset, chunks: chunks))
        }
      }
      return owned
    }
    self.arena = arena
    self.owned = owned
    let parts = layout.expertParts
    pieces = owned.filter(\.entry.isTrained).flatMap { tensor in
      tensor.chunks.enumerated().map { index, chunk in
        let start = index * Optimizer.chunkSize, place = tensor.gradientOffset + start
        let count = min(Optimizer.chunkSize, tensor.rows.count - start)
        let part = tensor.expert.map { _ in parts.firstIndex { $0.contains(place) }! }
        if let part { precondition(parts[part].upperBound >= place + count, "a chunk at \(place) is in two parts") }
        return Piece(
          tensor: tensor, start: start, count: count, chunk: chunk,
          part: part.map { tensor.expert! * parts.count + $0 }, offset: place - (part.map { parts[$0].lowerBound } ?? 0)
        )
      }
    }
    squares = Array(repeating: 0, count: chunkCount)
    sums = DoubleBuffer(pieces.count)
  }

  package var byteCount: Int { arena.byteCount }

  /// Number of chunks of a whole model.
  package static func chunkCount(_ layout: ParameterLayout) -> Int {
    (layout.dense + layout.experts.flatMap { $0 }).reduce(0) { $0 + ($1.count + chunkSize - 1) / chunkSize }
  }

  /// Gradients summed over the batch: this worker's range of the dense parameters, and the parts of its experts'
  /// blocks, which are nil where no token reached the expert.
  package struct Gradients {
    package var dense: RealPointer
    /// By expert of the whole model and part of its block.
    package var experts: [RealPointer?]

    package init(dense: RealPointer, experts: [RealPointer?]) {
      self.dense = dense
      self.experts = experts
    }
  }

  private func gradient(of piece: Piece, _ gradients: Gradients) -> RealPointer? {
    guard let part = piece.part else { return gradients.dense + piece.offset }
    return gradients.experts[part].map { $0 + piece.offset }
  }

  /// Sums of squares of this worker's chunks, in the list of all chunks; 0 in the others' places.
  package func squares(_ gradients: Gradients) -> [Double] {
    team.run(pieces.count) { task, _ in
      let piece = pieces[task]
      let gradient = gradient(of: piece, gradients)
      sums.pointer[task] = gradient.map { Vectors.sumOfSquares($0, count: piece.count) } ?? 0
    }
    for (place, piece) in pieces.enumerated() { squares[piece.chunk] = sums.pointer[place] }
    return squares
  }

  /// The factor that reduces a gradient of this norm to the clipping limit; 1 for a smaller norm.
  package func clipScale(norm: Double) -> Double {
    configuration.clip > 0 && norm > configuration.clip ? configuration.clip / norm : 1
  }

  /// Applies step `step` (from 0). An expert that no token reached has a zero gradient: its moments and weights
  /// decay.
  package func update(_ gradients: Gradients, scale: Double, step: Int, rate: Double, zeros: RealPointer) {
    let rule = AdamW(
      rate: rate, gradientScale: scale, beta1: configuration.beta1, beta2: configuration.beta2,
      epsilon: configuration.epsilon, correction1: 1 - power(configuration.beta1, step + 1),
      correction2: 1 - power(configuration.beta2, step + 1))
    team.run(pieces.count) { task, _ in
      let (tensor, start) = (pieces[task].tensor, pieces[task].start)
      let gradient = gradient(of: pieces[task], gradients) ?? zeros
      rule.update(
        tensor.values + start, first: tensor.first + start, second: tensor.second + start, gradient: gradient,
        count: pieces[task].count, decay: tensor.entry.decays ? Real(configuration.weightDecay) : 0)
    }
  }

  /// Number of zeros that `zeros` in `update` must have.
  package static var zeroCount: Int { chunkSize }

  /// base^exponent by squaring, in a fixed order of operations. pow would do, but its bits may differ between C
  /// libraries.
  private func power(_ base: Double, _ exponent: Int) -> Double {
    var result = 1.0
    var square = base
    var left = exponent
    while left > 0 {
      if left & 1 == 1 { result *= square }
      square *= square
      left >>= 1
    }
    return result
  }
}

extension TensorRows {
  /// Values of each of their moments: a tensor that is not trained has none.
  fileprivate var momentCount: Int { entry.isTrained ? count : 0 }
}
