// The division of the dense parameters among their owners: which rows of large tensors each of them updates, and that
// no bit of a step depends on it.

import Configuration
import Kernels
import Model
import Testing
import Training

@Suite struct RowBordersTests {
  /// A layout whose first tensor is an embedding of `vocabulary` × `width`; the experts are left out.
  private func layout(vocabulary: Int, width: Int) -> ParameterLayout {
    var model = RunConfiguration.smallModel.model
    (model.width, model.feedForward) = (width, .dense)
    return ParameterLayout(model, vocabulary: vocabulary)
  }

  private func plan(_ layout: ParameterLayout, _ index: Int, of workers: Int) -> WorkPlan {
    WorkPlan(index: index, units: (0..<workers).map { $0..<$0 + 1 }, expertOwners: [], layout: layout)
  }

  @Test(arguments: [1, 2, 3, 7, 64], [(50_000, 1_024), (32_000, 768), (50_257, 1_000), (8_192, 512)])
  func `no owner has much more than an equal share of the parameters, and ranges end between rows and chunks`(
    workers: Int, size: (vocabulary: Int, width: Int)
  ) {
    let layout = layout(vocabulary: size.vocabulary, width: size.width)
    let ranges = plan(layout, 0, of: workers).denseRanges
    #expect(ranges.count == workers && ranges[0].lowerBound == 0 && ranges.last!.upperBound == layout.denseCount)
    #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
    let share = layout.denseCount / workers
    // Rows of 1,000 values begin with a chunk only every 8,192 rows.
    let length = max(share / 8, size.width == 1_000 ? 8_192_000 : size.width == 768 ? 196_608 : 65_536)
    #expect(ranges.allSatisfy { $0.count <= share + length }, "\(ranges.map(\.count)), \(share)")
    for cut in ranges.dropFirst().map(\.lowerBound) where cut < layout.denseCount {
      let entry = layout.dense.first { $0.range.contains(cut) }!
      #expect((cut - entry.offset) % entry.valuesARow == 0 && (cut - entry.offset) % Optimizer.chunkSize == 0)
    }
    for index in 0..<workers { #expect(plan(layout, index, of: workers).denseRanges == ranges) }
  }

  @Test
  func
    `an embedding larger than the rest is divided among all owners, and tensors below an eighth of a share are whole`()
  {
    let layout = layout(vocabulary: 50_000, width: 1_024)
    let ranges = plan(layout, 0, of: 4).denseRanges
    let embedding = layout.dense[0]
    #expect(embedding.name == "embed/weight" && embedding.count == 51_200_000)
    #expect(ranges.allSatisfy { TensorRows(embedding, within: $0) != nil })
    for entry in layout.dense.dropFirst() where entry.count <= layout.denseCount / 4 / 8 {
      #expect(ranges.count { TensorRows(entry, within: $0) != nil } <= 1, "\(entry.name)")
    }
    // Tensors of at most one chunk are whole on any number of workers.
    let small = self.layout(vocabulary: 4_096, width: 16)
    let borders = Set([0] + small.dense.map(\.range.upperBound))
    for range in plan(small, 0, of: 9).denseRanges {
      #expect(borders.contains(range.lowerBound) && borders.contains(range.upperBound))
    }
  }

  @Test func `of two borders that are equally near, the first is chosen, as by programs that divided no tensors`() {
    let layout = layout(vocabulary: 8_192, width: 16)
    let borders = RowBorders(layout, workers: 2)
    for (place, border) in [
      (0, 0), (32_768, 0), (32_769, 65_536), (65_536, 65_536), (98_304, 65_536), (131_071, 131_072),
      (layout.denseCount, layout.denseCount),
    ] { #expect(borders.nearest(to: place) == border, "\(place)") }
  }

  @Test(arguments: [1, 2, 3, 7])
  func `the shards of all owners have every value of the model once, and rows have names of their own`(workers: Int) {
    let layout = layout(vocabulary: 20_000, width: 16)
    var found: [String: [Range<Int>]] = [:]
    for index in 0..<workers {
      let shard = ShardLayout(layout, plan(layout, index, of: workers))
      var offset = 0
      for piece in shard.pieces {
        #expect(piece.offset == offset && piece.count == piece.rows.shape.reduce(1, *))
        offset += piece.count
        found[piece.kind.name(of: piece.entry), default: []].append(piece.rows.values)
        let name = piece.kind.name(of: piece.entry)
        #expect(piece.name == (piece.rows.isWhole ? name : TensorRows.stored(name, from: piece.rows.rows.lowerBound)))
      }
    }
    for entry in layout.dense where entry.count > 0 {
      for kind in StoredKind.allCases where kind == .values || entry.isTrained {
        let ranges = found[kind.name(of: entry)] ?? []
        #expect(ranges.first?.lowerBound == 0 && ranges.last?.upperBound == entry.count, "\(entry.name)")
        #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound }, "\(entry.name)")
      }
    }
    #expect(found["model/embed/weight"]!.count == min(workers, 5))
    #expect(TensorRows.stored("model/embed/weight", from: 4_096) == "model/embed/weight/rows-from-0004096")
  }

  /// The norm's sums and the parameters after two steps, with a gradient that is clipped.
  private func steps(_ layout: ParameterLayout, workers: Int) -> (sums: [[UInt64]], parameters: [Real]) {
    let team = Team(laneCount: 2)
    var configuration = OptimizerConfiguration()
    (configuration.clip, configuration.weightDecay) = (0.5, 0.1)
    let gradient = BufferPool().take(layout.denseCount), zeros = BufferPool().take(Optimizer.zeroCount)
    zeros.pointer.update(repeating: 0, count: Optimizer.zeroCount)
    let parameters = (0..<workers).map { _ in ParameterBuffer(layout, experts: []) }
    for each in parameters { each.initialize(seed: 5) }
    let plans = (0..<workers).map { plan(layout, $0, of: workers) }
    let optimizers = zip(parameters, plans).map {
      Optimizer(configuration, parameters: $0, plan: $1, team: team)
    }
    // The pointers below do not keep the buffers, which an optimised program frees after their last use.
    defer { withExtendedLifetime((gradient, zeros, parameters)) {} }
    var sums: [[UInt64]] = []
    for step in 0..<2 {
      Philox(seed: 9, stream: UInt64(step)).fillNormal(gradient.pointer, count: layout.denseCount, deviation: 0.01)
      let gradients = plans.map {
        Optimizer.Gradients(dense: gradient.pointer + $0.myDense.lowerBound, experts: [])
      }
      let parts = zip(optimizers, gradients).map { $0.squares($1) }
      let all = parts[0].indices.map { chunk in parts.reduce(0) { $0 + $1[chunk] } }
      sums.append(all.map(\.bitPattern))
      let scale = optimizers[0].clipScale(norm: all.reduce(0, +).squareRoot())
      #expect(scale < 1)
      for (optimizer, gradient) in zip(optimizers, gradients) {
        optimizer.update(gradient, scale: scale, step: step, rate: 0.01, zeros: zeros.pointer)
      }
      // The owners share what they have updated.
      for (owner, plan) in plans.enumerated() {
        for other in parameters where other !== parameters[owner] {
          (other.dense + plan.myDense.lowerBound).update(
            from: parameters[owner].dense + plan.myDense.lowerBound, count: plan.myDense.count)
        }
      }
    }
    return (sums, Array(UnsafeBufferPointer(start: parameters[0].dense, count: layout.denseCount)))
  }

  @Test func `norm, clipping, weight decay and update have the same bits whether a tensor has one owner or several`() {
    let layout = layout(vocabulary: 20_000, width: 16)
    let alone = steps(layout, workers: 1)
    for workers in [2, 3, 7] {
      let divided = steps(layout, workers: workers)
      #expect(divided.sums == alone.sums && divided.parameters == alone.parameters, "\(workers) owners")
    }
  }
}
