// A shard: one worker's share of a run's state, that is, the tensors and rows of tensors which it updates and their
// moments. The shards of all workers of a generation after the same step are together the whole state, whether they
// are in files of a checkpoint or in workers' memory.

import Kernels
import Model

/// The contents of a shard, in order. They follow from the model and the generation's work plan alone.
package struct ShardLayout: Equatable, Sendable {
  package struct Piece: Equatable, Sendable {
    /// The rows that the worker updates: all of the tensor's, except for large dense tensors (`RowBorders`).
    package let rows: TensorRows
    package var entry: ParameterEntry { rows.entry }
    /// Number of the tensor among all of the model, dense ones first.
    package let tensor: Int
    package let kind: StoredKind
    /// The expert that it belongs to; nil for dense tensors.
    package let expert: Int?
    /// Offset in the shard, in values.
    package let offset: Int
    package var count: Int { rows.count }

    package init(_ rows: TensorRows, tensor: Int, kind: StoredKind, expert: Int?, offset: Int) {
      self.rows = rows
      self.tensor = tensor
      self.kind = kind
      self.expert = expert
      self.offset = offset
    }

    /// The name in a checkpoint: `model/embed/weight`, `optimizer/first/embed/weight/rows-from-0004096`.
    package var name: String { rows.stored(as: kind.name(of: entry)) }

    /// The same rows, divided where the owner changes in another plan.
    package func divided(by plan: WorkPlan) -> [Piece] {
      guard expert == nil else { return [self] }
      return plan.denseRanges.compactMap { TensorRows(entry, within: $0.clamped(to: rows.range)) }.map {
        Piece(
          $0, tensor: tensor, kind: kind, expert: nil,
          offset: offset + $0.values.lowerBound - rows.values.lowerBound)
      }
    }
  }

  package private(set) var pieces: [Piece] = []
  /// Values of a message that carries a part of a shard (4 MiB).
  package static let messageSize = 1 << 20

  /// A range of values in the parts that fit a message: no message needs more memory than a part, and its receiver
  /// processes one part while the next ones are under way.
  package static func messages(of values: Range<Int>) -> [Range<Int>] {
    stride(from: values.lowerBound, to: values.upperBound, by: messageSize).map {
      $0..<min(values.upperBound, $0 + messageSize)
    }
  }

  package var count: Int { pieces.last.map { $0.offset + $0.count } ?? 0 }

  /// - Parameter pieces: in the order of their offsets, without gaps.
  package init(_ pieces: [Piece]) { self.pieces = pieces }

  /// The shard of the worker that the plan is for.
  package init(_ layout: ParameterLayout, _ plan: WorkPlan) {
    for (tensor, entry) in layout.dense.enumerated() {
      if let rows = plan.myRows(of: entry) { add(rows, tensor, expert: nil) }
    }
    for (expert, entries) in layout.experts.enumerated() where plan.expertOwners[expert] == plan.index {
      for (part, entry) in entries.enumerated() {
        add(TensorRows(entry), layout.dense.count + expert * entries.count + part, expert: expert)
      }
    }
  }

  private mutating func add(_ rows: TensorRows, _ tensor: Int, expert: Int?) {
    for kind in rows.entry.storedKinds {
      pieces.append(Piece(rows, tensor: tensor, kind: kind, expert: expert, offset: count))
    }
  }
}

/// The values of a shard: a copy, or the trainer's own tensors.
package final class Shard: @unchecked Sendable {
  package let layout: ShardLayout
  private let places: [RealPointer]
  /// The block that the values are in; nil for the trainer's own tensors.
  private let memory: ShardMemory?
  /// Keeps the memory alive that `places` point into.
  private let owner: AnyObject?

  private final class Owner {
    let parameters: ParameterBuffer
    let optimizer: Optimizer

    init(parameters: ParameterBuffer, optimizer: Optimizer) {
      self.parameters = parameters
      self.optimizer = optimizer
    }
  }

  /// The trainer's own tensors, which its next step will change.
  package init(of trainer: Trainer) {
    layout = ShardLayout(trainer.parameters.layout, trainer.plan)
    // The owner is not the trainer itself, whose activations would then be kept as well, and a change of generation
    // would need twice the memory.
    owner = Owner(parameters: trainer.parameters, optimizer: trainer.optimizer)
    memory = nil
    places = trainer.optimizer.owned.flatMap { owned in
      owned.entry.isTrained ? [owned.values, owned.first, owned.second] : [owned.values]
    }
    precondition(places.count == layout.pieces.count, "a shard's layout and its trainer differ")
  }

  /// A shard in a block of memory of at least `layout.count` values.
  package init(_ layout: ShardLayout, in memory: ShardMemory) {
    self.layout = layout
    owner = memory
    self.memory = memory
    places = layout.pieces.map { memory.pointer + $0.offset }
  }

  package func values(_ piece: Int) -> RealPointer { places[piece] }

  /// The values of a piece were read and are not needed soon.
  package func settle(_ piece: Int) {
    let piece = layout.pieces[piece]
    memory?.settle(piece.offset..<piece.offset + piece.count)
  }

  /// Copies the values of `range` of the shard, in the order of its pieces, to `target`.
  package func copy(_ range: Range<Int>, to target: RealPointer) {
    // The last piece that begins at or before the range.
    var low = 0, high = layout.pieces.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if layout.pieces[middle].offset <= range.lowerBound { low = middle } else { high = middle }
    }
    var place = range.lowerBound
    while place < range.upperBound {
      let piece = layout.pieces[low]
      let end = min(range.upperBound, piece.offset + piece.count)
      (target + place - range.lowerBound).update(from: places[low] + place - piece.offset, count: end - place)
      place = end
      low += 1
    }
  }

  /// Copies the values into `memory`, with all threads of the team.
  package func copy(into memory: ShardMemory, _ team: Team) -> Shard {
    precondition(memory.count >= layout.count, "a shard of \(layout.count) values and memory for \(memory.count)")
    let copy = Shard(layout, in: memory)
    team.run(layout.pieces.count) { task, _ in
      let piece = layout.pieces[task]
      for start in stride(from: 0, to: piece.count, by: ShardLayout.messageSize) {
        let count = min(ShardLayout.messageSize, piece.count - start)
        (copy.places[task] + start).update(from: places[task] + start, count: count)
        memory.settle(piece.offset + start..<piece.offset + start + count)
      }
    }
    return copy
  }
}

/// Memory for a shard, or a file in its place; freed with the last reference to it.
package final class ShardMemory: @unchecked Sendable {
  package let pointer: RealPointer
  package let count: Int
  private let file: FileMemory?

  package init(count: Int) {
    self.count = count
    file = nil
    let raw = LargePages.allocate(byteCount: max(1, count) * MemoryLayout<Real>.stride)
    pointer = raw.bindMemory(to: Real.self, capacity: max(1, count))
  }

  /// In a file, of whose values only those take memory that were used and not settled since.
  package init(onDisk count: Int, in folder: String = UnlinkedFile.folder) throws(FileMemoryError) {
    self.count = count
    let file = try FileMemory(byteCount: count * MemoryLayout<Real>.stride, in: folder)
    self.file = file
    pointer = file.bytes.bindMemory(to: Real.self, capacity: max(1, count))
  }

  package var isOnDisk: Bool { file != nil }

  /// Values that were written or read are not needed soon.
  package func settle(_ values: Range<Int>) {
    let size = MemoryLayout<Real>.stride
    file?.settle(values.lowerBound * size..<values.upperBound * size)
  }

  deinit { if file == nil { UnsafeMutableRawPointer(pointer).deallocate() } }
}

extension Trainer {
  /// Where this worker stores a piece of a shard; nil where it does not need it. A worker needs all dense
  /// parameters, its experts, and the moments of what it updates.
  package func place(of piece: ShardLayout.Piece) -> RealPointer? {
    let range = piece.rows.range
    switch (piece.kind, piece.expert) {
    case (.values, nil): return parameters.dense + range.lowerBound
    case (.values, let expert?): return parameters.experts[expert].map { $0 + range.lowerBound }
    case (.first, _), (.second, _):
      guard let owned = optimizer.owned.first(where: { $0.entry.name == piece.entry.name }),
        range.clamped(to: owned.rows.range) == range
      else { return nil }
      return (piece.kind == .first ? owned.first : owned.second) + range.lowerBound - owned.rows.range.lowerBound
    }
  }
}

extension WorkPlan {
  /// Whether a worker needs a piece of a shard, its own or another's. The piece must have one owner in this plan
  /// (`Piece.divided`).
  package func needs(_ piece: ShardLayout.Piece, worker: Int) -> Bool {
    if let expert = piece.expert {
      return expertOwners[expert] == worker || piece.kind == .values && copies[worker].contains(expert)
    }
    return piece.kind == .values || denseRanges[worker].contains(piece.rows.range.lowerBound)
  }
}
