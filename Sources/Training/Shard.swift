// A worker's share of a run's state: the tensors that it alone updates, and their moments. The shards of all workers of a
// generation at one step are the whole state, whether they lie in the files of a checkpoint or in somebody's memory.

import Kernels
import Model

/// What is in a shard, in order: it follows from the model and the generation alone.
package struct ShardLayout: Equatable, Sendable {
  package enum Kind: Int, CaseIterable, Sendable { case values, first, second }

  package struct Piece: Equatable, Sendable {
    package let entry: ParameterEntry
    /// Of the tensor among all of the model, dense ones first.
    package let tensor: Int
    package let kind: Kind
    /// The expert it belongs to; nil for dense ones.
    package let expert: Int?
    /// Where it begins in the shard, in values.
    package let offset: Int
    package var count: Int { entry.count }

    /// `model/embed/weight`, `optimizer/first/embed/weight`
    package var name: String {
      switch kind {
      case .values: "model/" + entry.name
      case .first: "optimizer/first/" + entry.name
      case .second: "optimizer/second/" + entry.name
      }
    }
  }

  package private(set) var pieces: [Piece] = []
  package var count: Int { pieces.last.map { $0.offset + $0.count } ?? 0 }

  /// The shard of the worker that the plan is for.
  package init(_ layout: ParameterLayout, _ plan: WorkPlan) {
    for (tensor, entry) in layout.dense.enumerated() where entry.count > 0 && plan.myDense.contains(entry.offset) {
      add(entry, tensor, expert: nil)
    }
    for (expert, entries) in layout.experts.enumerated() where plan.expertOwners[expert] == plan.index {
      for (part, entry) in entries.enumerated() {
        add(entry, layout.dense.count + expert * entries.count + part, expert: expert)
      }
    }
  }

  private mutating func add(_ entry: ParameterEntry, _ tensor: Int, expert: Int?) {
    for kind in Kind.allCases where kind == .values || entry.isTrained {
      pieces.append(Piece(entry: entry, tensor: tensor, kind: kind, expert: expert, offset: count))
    }
  }
}

/// A shard's values: a copy of its own, or where a trainer keeps them.
package final class Shard: @unchecked Sendable {
  package let layout: ShardLayout
  private let places: [RealPointer]
  /// Keeps what `places` point into.
  private let owner: AnyObject?

  private final class Owner {
    let parameters: ParameterBuffer
    let optimizer: Optimizer

    init(parameters: ParameterBuffer, optimizer: Optimizer) {
      self.parameters = parameters
      self.optimizer = optimizer
    }
  }

  /// What a trainer holds now, and changes with its next step.
  package init(of trainer: Trainer) {
    layout = ShardLayout(trainer.parameters.layout, trainer.plan)
    // Not the trainer itself: its activations must not outlive it, or a change of generation would hold two workers' memory at once.
    owner = Owner(parameters: trainer.parameters, optimizer: trainer.optimizer)
    places = trainer.optimizer.owned.flatMap { owned in
      owned.entry.isTrained ? [owned.values, owned.first, owned.second] : [owned.values]
    }
    precondition(places.count == layout.pieces.count, "a shard's layout and its trainer differ")
  }

  /// A shard in a block of memory, which must hold `layout.count` values.
  package init(_ layout: ShardLayout, in memory: ShardMemory) {
    self.layout = layout
    owner = memory
    places = layout.pieces.map { memory.pointer + $0.offset }
  }

  package func values(_ piece: Int) -> RealPointer { places[piece] }

  /// A copy into `memory`, made by all threads of the team.
  package func copy(into memory: ShardMemory, _ team: Team) -> Shard {
    precondition(memory.count >= layout.count, "a shard of \(layout.count) values and memory for \(memory.count)")
    let copy = Shard(layout, in: memory)
    team.run(layout.pieces.count) { task, _ in
      copy.places[task].update(from: places[task], count: layout.pieces[task].count)
    }
    return copy
  }
}

/// Memory for a shard, given back with its last user.
package final class ShardMemory: @unchecked Sendable {
  package let pointer: RealPointer
  package let count: Int

  package init(count: Int) {
    self.count = count
    let raw = LargePages.allocate(byteCount: max(1, count) * MemoryLayout<Real>.stride)
    pointer = raw.bindMemory(to: Real.self, capacity: max(1, count))
  }

  deinit { UnsafeMutableRawPointer(pointer).deallocate() }
}

extension Trainer {
  /// Where this worker keeps a piece of a shard, if it needs it: all dense parameters, its experts, and the moments of what it
  /// updates.
  package func place(of piece: ShardLayout.Piece) -> RealPointer? {
    switch (piece.kind, piece.expert) {
    case (.values, nil): parameters.dense + piece.entry.offset
    case (.values, let expert?): parameters.experts[expert].map { $0 + piece.entry.offset }
    case (.first, _): optimizer.owned.first { $0.entry.name == piece.entry.name }?.first
    case (.second, _): optimizer.owned.first { $0.entry.name == piece.entry.name }?.second
    }
  }
}

extension WorkPlan {
  /// Whether a worker needs a piece of some shard.
  package func needs(_ piece: ShardLayout.Piece, worker: Int) -> Bool {
    if let expert = piece.expert { return expertOwners[expert] == worker }
    return piece.kind == .values || denseRanges[worker].contains(piece.entry.offset)
  }

  /// The same generation, seen from another place.
  package func at(_ index: Int, _ layout: ParameterLayout) -> WorkPlan {
    WorkPlan(index: index, units: units, expertOwners: expertOwners, layout: layout)
  }
}
