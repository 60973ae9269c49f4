// What the teams of a worker share of its experts: the weights, the forward calls that wait for their backward, and the
// gradients of the units under way. Any team may compute any unit's rows: the forward pass of a peer's rows runs in the
// team that took the request, and the backward pass perhaps in another one.

import Configuration
import Kernels

final class ExpertStore: @unchecked Sendable {
  let held: [Int]
  let width: Int
  let expertWidth: Int
  /// How the products with the weights read their factors.
  let factors: Factors
  /// Values of an expert's block of parameters.
  let blockCount: Int
  /// By expert of the model, nil for those on other workers; `packs` repacks them when the parameters change.
  private let weights: [ExpertWeights?]
  /// Nil where products read the weights where they lie.
  private let packs: WeightPacks?
  private let lock = Lock()
  private var kept: [ExpertSite: Kept] = [:]
  private var gradients: [UnitExpert: PooledBuffer] = [:]
  let gradientPool = BufferPool()
  /// Whether gradients are computed after their unit, from rows that are kept.
  private(set) var delays = false
  /// By unit, the backward calls whose rows are kept, in order; and lists to be used again.
  private var delayed: [Int: [DelayedCall]] = [:]
  private var spareLists: [[DelayedCall]] = []

  private struct UnitExpert: Hashable {
    var unit: Int
    var expert: Int
  }
  /// Input rows (N, D) and gate-up products (N, 2F) of all pieces of one forward call.
  struct Kept {
    var buffer: PooledBuffer
    var rows: Int
    /// The pool of the team that made the call.
    var pool: BufferPool
  }
  /// A backward call whose rows wait for their gradients (LocalExperts+Delay.swift).
  struct DelayedCall {
    /// Input rows (N, D) and gradients of the gate-up products (N, 2F) of all pieces.
    var inputs: PooledBuffer
    /// Gradients of the output (N, D), hidden rows (N, F), and the first row of each expert of the model and of the
    /// one after the last (Int32).
    var outputs: PooledBuffer
    var rows: Int
    /// The pools that they are from.
    var inputPool, outputPool: BufferPool
  }
  /// A fresh block has no valid contents; the first product overwrites it.
  struct GradientBlock {
    var buffer: PooledBuffer
    var isFresh: Bool
  }

  /// - Parameter packs: whether the weights are packed for products.
  init(_ model: ModelConfiguration, parameters: ParameterBuffer, held: [Int], packs isPacked: Bool) {
    self.held = held
    width = model.width
    expertWidth = model.expertWidth
    factors = model.factors
    blockCount = parameters.layout.expertCount
    var maps: [LinearMap] = []
    for expert in held {
      guard let block = parameters.experts[expert] else { preconditionFailure("expert \(expert) is not in the buffer") }
      let views = ExpertWeights(block, width: model.width, expertWidth: model.expertWidth, factors: factors)
      maps += [views.gateUp, views.down]
    }
    packs = isPacked ? WeightPacks(&maps, of: parameters) : nil
    var weights = [ExpertWeights?](repeating: nil, count: parameters.experts.count)
    for (place, expert) in held.enumerated() {
      weights[expert] = ExpertWeights(gateUp: maps[2 * place], down: maps[2 * place + 1])
    }
    self.weights = weights
  }

  func refresh(_ team: Team) { packs?.refresh(team) }

  func weights(_ expert: Int) -> ExpertWeights {
    guard let weights = weights[expert] else { preconditionFailure("expert \(expert) is not held here") }
    return weights
  }

  func keep(_ call: Kept, at site: ExpertSite) { lock.hold { kept[site] = call } }
  func hasForward(_ site: ExpertSite, rows: Int) -> Bool { lock.hold { kept[site]?.rows == rows } }

  func takeForward(_ site: ExpertSite, rows: Int) -> Kept {
    guard let call = lock.hold({ kept.removeValue(forKey: site) }), call.rows == rows else {
      preconditionFailure("no forward at \(site) with \(rows) rows")
    }
    return call
  }

  /// The block to which a call for the unit adds the gradient of the expert's weights.
  func gradientBlock(unit: Int, expert: Int) -> GradientBlock {
    let key = UnitExpert(unit: unit, expert: expert)
    if let buffer = lock.hold({ gradients[key] }) { return GradientBlock(buffer: buffer, isFresh: false) }
    let buffer = gradientPool.take(blockCount)
    lock.hold { gradients[key] = buffer }
    return GradientBlock(buffer: buffer, isFresh: true)
  }

  func takeGradient(unit: Int, expert: Int) -> PooledBuffer? {
    lock.hold { gradients.removeValue(forKey: UnitExpert(unit: unit, expert: expert)) }
  }

  /// Number of experts of the model.
  var expertCount: Int { weights.count }
  var byteCount: Int { (packs?.byteCount ?? 0) + gradientPool.byteCount }

  func delay() { delays = true }

  func keep(_ call: DelayedCall, unit: Int) {
    lock.hold {
      if delayed[unit] == nil { delayed[unit] = spareLists.popLast() ?? [] }
      delayed[unit]!.append(call)
    }
  }

  /// The backward calls of a unit whose rows are kept; nil for a unit without such calls.
  func calls(ofUnit unit: Int) -> [DelayedCall]? { lock.hold { delayed[unit] } }

  /// Gives the rows of a unit back to their pools.
  func release(unit: Int) {
    guard var calls = lock.hold({ delayed.removeValue(forKey: unit) }) else { return }
    for call in calls {
      call.inputPool.give(call.inputs)
      call.outputPool.give(call.outputs)
    }
    calls.removeAll(keepingCapacity: true)
    lock.hold { spareLists.append(calls) }
  }
}
