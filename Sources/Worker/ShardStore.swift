// The parts of runs' states that this process holds in memory: its own shard as of the last two copies, those of the peer whose
// mirror it is, and between two generations the live one. Whatever dies, the newest step of which all shards are left somewhere
// is where the run goes on.
//
// Which copies stay. A worker keeps its two newest, and a third until the step after it is done: then every worker has made
// that copy, and before it waited for its second newest to arrive at its mirror (`waitForMirror`). So the second newest is
// whole everywhere, and in the mirrors too, at every moment.

import Foundation
import Synchronization
import Training
import Wire

package final class ShardStore: @unchecked Sendable {
  private struct Copy {
    var memory: ShardMemory
    /// Pieces of a copy under way that have not come; 0: it is whole.
    var missing = 0
    var isMirror = false
    /// The piece that is due next: a link keeps their order.
    var due = 0
  }

  /// Values of one piece of a copy on its way to a mirror.
  package static let mirrorPieceSize = MirrorSender.pieceSize

  private let condition = NSCondition()
  private var copies: [HeldShard: Copy] = [:]
  private var live: (key: HeldShard, shard: Shard)?
  private var mirroredStep = -1
  /// Whose copies are kept here in a generation, and how many values each has.
  private var expected: (generation: UInt32, counts: [Int: Int]) = (0, [:])
  /// Memory of copies that are gone: the next ones of that size, own ones and peers', touch no new page.
  private var free: [ShardMemory] = []
  /// Of each size; more than that were never needed at once.
  private static let freeLimit = 2
  private var loads = 0

  package init() {}

  private func locked<Result>(_ body: () -> Result) -> Result {
    condition.lock()
    defer { condition.unlock() }
    return body()
  }

  /// What is whole here, for the heartbeats.
  package var held: [HeldShard] {
    locked { copies.filter { $0.value.missing == 0 }.map(\.key) + (live.map { [$0.key] } ?? []) }
      .sorted { ($0.generation, $0.step, $0.index) < ($1.generation, $1.step, $1.index) }
  }

  /// A shard to read from; nil where it is not here.
  package func shard(_ key: HeldShard, _ layout: ShardLayout) -> Shard? {
    locked {
      if let live, live.key == key { return live.shard }
      guard let copy = copies[key], copy.missing == 0 else { return nil }
      return Shard(layout, in: copy.memory)
    }
  }

  // MARK: for the training thread

  /// A generation of a run begins to load; what other runs left is gone.
  package func begin(_ run: RunID) {
    locked {
      copies = copies.filter { $0.key.run == run }
      if live?.key.run != run { live = nil }
      mirroredStep = -1
      // Shards of the next generation have other sizes.
      free = []
      loads += 1
    }
  }

  /// Between two generations a trainer's own tensors serve as its shard.
  package func setLive(_ key: HeldShard, _ shard: Shard) { locked { live = (key, shard) } }
  package func dropLive() { locked { live = nil } }

  /// Memory for a copy of `count` values.
  package func memory(_ count: Int) -> ShardMemory { locked { take(count) } }

  private func take(_ count: Int) -> ShardMemory {
    if let place = free.firstIndex(where: { $0.count == count }) { return free.remove(at: place) }
    return ShardMemory(count: count)
  }

  /// Whose mirror this worker is in a generation, by place, and how many values their shards have. Only their copies are taken.
  package func expect(_ generation: UInt32, _ counts: [Int: Int]) { locked { expected = (generation, counts) } }

  /// A number of the generation that has begun to load last.
  package var epoch: Int { locked { loads } }

  /// Memory from `memory` that nothing is read from any more. That of an epoch which is over goes.
  package func giveBack(_ memory: ShardMemory, _ epoch: Int) {
    locked {
      if epoch == loads, free.count(where: { $0.count == memory.count }) < Self.freeLimit { free.append(memory) }
    }
  }

  package func keep(_ key: HeldShard, _ memory: ShardMemory) { locked { copies[key] = Copy(memory: memory) } }

  /// Waits until the copy of `step` is whole in its mirror. False where `abandoned` says so before.
  package func waitForMirror(of step: Int, abandoned: () -> Bool) -> Bool {
    condition.lock()
    defer { condition.unlock() }
    while mirroredStep < step {
      if abandoned() { return false }
      _ = condition.wait(until: Date().addingTimeInterval(0.05))
    }
    return true
  }

  /// A step of the generation is done: its third copy, and those of the generations before, have served.
  package func stepDone(_ generation: UInt32) {
    locked {
      func steps(mirrors: Bool) -> [Int] {
        copies.filter { $0.key.generation == generation && $0.value.isMirror == mirrors && $0.value.missing == 0 }
          .map(\.key.step).sorted()
      }
      let own = steps(mirrors: false)
      guard own.count >= 2 else { return }
      let oldestOwn = own[own.count - 2]
      let mirrored = steps(mirrors: true)
      let oldestMirrored = mirrored.count >= 2 ? mirrored[mirrored.count - 2] : 0
      for key in copies.keys {
        let isOld = key.generation < generation || key.step < (copies[key]!.isMirror ? oldestMirrored : oldestOwn)
        if isOld { drop(key, in: generation) }
      }
    }
  }

  /// A generation that mirrors nothing has a checkpoint of its own: what is held of those before has served.
  package func checkpointed(in generation: UInt32) {
    locked { for key in copies.keys where key.generation < generation { drop(key, in: generation) } }
  }

  private func drop(_ key: HeldShard, in generation: UInt32) {
    guard var memory = copies.removeValue(forKey: key)?.memory else { return }
    // Shards of other generations have other sizes. A checkpoint may still be written from it.
    let count = memory.count
    if key.generation == generation, isKnownUniquelyReferenced(&memory),
      free.count(where: { $0.count == count }) < Self.freeLimit
    {
      free.append(memory)
    }
  }

  // MARK: for the network thread

  /// A peer has the whole copy of this worker's shard.
  package func mirrored(_ step: Int) {
    locked {
      mirroredStep = max(mirroredStep, step)
      condition.broadcast()
    }
  }

  /// A piece of a peer's shard. False where it is not the piece that is due, of a copy that is due: then nothing is kept of it, and no
  /// memory was taken. What a header says of sizes is compared with what the generation's plan makes them.
  package func accept(_ key: HeldShard, piece: Int, of pieces: Int, _ payload: Payload) -> Bool {
    locked {
      let size = MirrorSender.pieceSize
      guard key.generation == expected.generation, let count = expected.counts[key.index],
        pieces == (count + size - 1) / size, (0..<pieces).contains(piece),
        payload.bytes.count == 4 * min(size, count - piece * size)
      else { return false }
      if copies[key] == nil {
        let others = copies.filter {
          $0.value.isMirror && $0.key.index == key.index && $0.key.generation == key.generation
        }
        // A sender finishes a copy before it begins the next, of a later step.
        guard piece == 0, others.allSatisfy({ $0.value.missing == 0 && $0.key.step < key.step }),
          others.count < ShardStore.mirrorLimit
        else { return false }
        copies[key] = Copy(memory: take(count), missing: pieces, isMirror: true)
      }
      guard let copy = copies[key], copy.isMirror, copy.missing > 0, copy.due == piece else { return false }
      withExtendedLifetime(payload) {
        (copy.memory.pointer + piece * size).update(from: payload.reals, count: payload.bytes.count / 4)
      }
      copies[key]!.missing -= 1
      copies[key]!.due += 1
      return true
    }
  }

  /// Copies of one peer: the two newest, those that wait for the end of a step here, and one under way.
  private static let mirrorLimit = 6
}
