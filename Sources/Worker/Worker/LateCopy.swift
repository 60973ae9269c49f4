// The state of a worker after a step, for threads that send or write it while the next step is computed.
//
// A step reads parameters and moments and changes them only in its update, at its end. Until then the trainer's own
// tensors are the copy, and no memory is needed. What is still read when the update comes is copied then (`move`).
// A checkpoint that is written within a step is never copied.
//
// Rejected: a copy at once, which cost 12 bytes a parameter and the time to make it; a process that is forked, whose
// memory doubles page by page in the update anyway.

import Kernels
import Training
import Wire

package final class LateCopy: @unchecked Sendable {
  package let layout: ShardLayout
  private let lock = Lock()
  private var shard: Shard
  private var isMoved = false
  /// Whether the last reader has ended.
  private var isOver = false
  /// Memory that `moveUnlessOver` has taken, and how to return it.
  private var spare: (memory: ShardMemory, giveBack: (ShardMemory) -> Void)?

  /// - Parameter shard: tensors that stay as they are until `move`.
  package init(_ shard: Shard) {
    self.shard = shard
    layout = shard.layout
  }

  /// Whether the copy is in memory of its own.
  package var isInOwnMemory: Bool { lock.hold { isMoved } }

  /// Calls `body` with the values of a piece. It must be short, because the step may wait for it.
  package func read(_ piece: Int, _ body: (UnsafePointer<Real>) -> Void) {
    lock.hold {
      body(shard.values(piece))
      shard.settle(piece)
    }
  }

  /// A copy of `range` of the values.
  package func payload(_ range: Range<Int>) -> Payload {
    let payload = Payload(byteCount: 4 * range.count)
    lock.hold { shard.copy(range, to: payload.reals) }
    return payload
  }

  /// Copies the values into `memory`, where they are read from now on: the tensors may change when this returns.
  package func move(to memory: ShardMemory, _ team: Team) {
    lock.hold { moveLocked(to: memory, team) }
  }

  private func moveLocked(to memory: ShardMemory, _ team: Team) {
    guard !isMoved else { return }
    shard = shard.copy(into: memory, team)
    isMoved = true
  }

  /// The same, but only if the copy is still read and has no memory of its own.
  /// - Parameters:
  ///   - memory: called where memory is needed.
  ///   - giveBack: called by the last reader, on its thread, with that memory.
  package func moveUnlessOver(
    to memory: () -> ShardMemory, _ team: Team, giveBack: @escaping (ShardMemory) -> Void
  ) {
    lock.hold {
      guard !isMoved, !isOver else { return }
      let taken = memory()
      moveLocked(to: taken, team)
      spare = (taken, giveBack)
    }
  }

  /// Called by the last reader: the copy is not read after this call.
  package func end() {
    let spare = lock.hold {
      defer { self.spare = nil }
      isOver = true
      return self.spare
    }
    if let spare { spare.giveBack(spare.memory) }
  }
}
