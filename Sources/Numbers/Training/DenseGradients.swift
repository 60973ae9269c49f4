// The gradients of the dense parameters: one for each unit under way, and their sums over this worker's units.

import Configuration
import Kernels
import Model

final class DenseGradients {
  private let layout: ParameterLayout
  private let model: ModelConfiguration
  private let pool = BufferPool()
  private let lock = Lock()
  private let tree = TeamTree<PooledBuffer>()
  /// Views of the buffers, which are used again in every step.
  private var views: [RealPointer: Weights] = [:]
  /// The right-hand sides of postponed sums, whose memory is free when these are formed.
  private var added: [PooledBuffer] = []

  var count: Int { layout.denseCount }
  var byteCount: Int { pool.byteCount }

  /// - Parameter reserve: gradients that exist at the same time, at most; their memory is not touched before it is
  ///   used.
  init(_ layout: ParameterLayout, _ model: ModelConfiguration, reserve: Int) {
    (self.layout, self.model) = (layout, model)
    let buffers = (0..<reserve).map { _ in pool.take(layout.denseCount) }
    for buffer in buffers {
      _ = view(of: buffer)
      pool.give(buffer)
    }
    added.reserveCapacity(reserve)
  }

  /// A gradient of zeros.
  func take(_ team: Team) -> PooledBuffer {
    let gradient = pool.take(count)
    team.clear(gradient.pointer, count: count)
    return gradient
  }

  func recycle(_ gradient: PooledBuffer) { pool.give(gradient) }

  func view(of gradient: PooledBuffer) -> Weights {
    lock.hold {
      if let known = views[gradient.pointer] { return known }
      let new = Weights(layout, dense: gradient.pointer, model: model)
      views[gradient.pointer] = new
      return new
    }
  }

  func begin(unitCount: Int) { tree.begin(unitCount: unitCount) }

  /// Adds the gradient of a unit, and gives up its memory.
  func insert(_ gradient: PooledBuffer, unit: Int, _ end: UnitEnd) {
    tree.insert(gradient, at: UnitNode(level: 0, index: unit), postpones: end.postpones) { left, right in
      end.team.add(right.pointer, to: left.pointer, count: count)
      pool.give(right)
      return left
    }
  }

  /// The sums of the largest subtrees of this worker's units.
  var sums: [(node: UnitNode, value: PooledBuffer?)] { tree.tree.pending }

  func takePairs(_ sums: PostponedSums) -> Bool {
    tree.takePairs { left, right in
      sums.add(right.pointer, to: left.pointer, count: count)
      added.append(right)
      return left
    }
  }

  func putBack() {
    for buffer in added { pool.give(buffer) }
    added.removeAll(keepingCapacity: true)
    tree.putBack()
  }

  /// Returns the memory of the step's gradients.
  func recycle() {
    for (_, buffer) in sums { if let buffer { pool.give(buffer) } }
    tree.begin(unitCount: 1)
  }
}
