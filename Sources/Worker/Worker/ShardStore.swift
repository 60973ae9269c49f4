// The shards (parts of a run's state) that this process holds in memory: copies of its own shard, copies of the
// shard of the peer whose mirror it is, and between two generations its live shard. When workers die, the run
// continues from the newest step whose shards all survive in some worker's memory.
//
// Which copies are kept. Every `cluster.mirror_every` steps a worker sends its shard to its mirror, from the trainer's
// own tensors, while it computes the units of the next step. It waits for the arrival before it sends the norms of
// that step (`StateCopies`). So a worker that has everyone's norms knows that the shards of all workers are complete
// at their mirrors. Then it puts its own copy in the place of the one before, drops the older copy of its peer
// (`complete`), and changes its state. Until then its state is the shard after that step, and if the generation ends
// it is kept as such (`setLive`). Hence at every moment there is a step of which every worker has its shard, and every
// mirror a complete copy.
//
// In memory that is one copy of the own shard, and one of the peer's with a second one while that arrives. With
// `cluster.state_copies: disk` all of them are in files; each part of a copy leaves the memory as soon as it is
// written.
//
// Threads: the training thread copies, the network thread receives peers' copies. `NSCondition` protects all
// fields.

import Configuration
import Foundation
import Kernels
import Synchronization
import Training
import Wire

package final class ShardStore: @unchecked Sendable {
  private struct Copy {
    var memory: ShardMemory
    /// Pieces that have not arrived; 0 for a complete copy.
    var missing = 0
    var isMirror = false
    /// Number of the piece that must come next. The link keeps the order of pieces.
    var due = 0
    /// Whether the values are being copied; they must not be read yet.
    var isFilling = false
  }

  /// Values of one piece of a copy on its way to a mirror.
  package static let mirrorPieceSize = MirrorSender.pieceSize

  private let condition = NSCondition()
  private var copies: [HeldShard: Copy] = [:]
  private var live: (key: HeldShard, shard: Shard)?
  private var mirroredStep = -1
  /// Generation and, by roster index, number of values of the peers whose copies this worker keeps.
  private var expected: (generation: UInt32, counts: [Int: Int]) = (0, [:])
  /// Memory of copies that were dropped. Reusing it for the next copies of that size saves touching new pages.
  private var free: [ShardMemory] = []
  /// Blocks of each size that are kept; more were never needed at once.
  private static let freeLimit = 2
  /// Counts generations that began to load; see `epoch`.
  private var loads = 0
  /// Where copies of this generation are, and why one of them is in memory nevertheless.
  private var place = CopyPlace.memory
  private var problem: (reason: String, isReported: Bool)?

  /// The folder of files.
  private let folder: String

  package init(folder: String = UnlinkedFile.folder) { self.folder = folder }

  private func locked<Result>(_ body: () -> Result) -> Result {
    condition.lock()
    defer { condition.unlock() }
    return body()
  }

  /// All complete shards here, for the heartbeats.
  package var held: [HeldShard] {
    locked { copies.filter { $0.value.missing == 0 }.map(\.key) + (live.map { [$0.key] } ?? []) }
      .sorted { ($0.generation, $0.step, $0.index) < ($1.generation, $1.step, $1.index) }
  }

  /// Values in memory of all copies here, and of memory that is kept for the next ones; and values on disk.
  package var valueCount: Int { count(onDisk: false) }
  package var diskValueCount: Int { count(onDisk: true) }

  private func count(onDisk: Bool) -> Int {
    locked { (copies.values.map(\.memory) + free).reduce(0) { $0 + ($1.isOnDisk == onDisk ? $1.count : 0) } }
  }

  /// A shard to read from; nil where it is not here or not complete.
  package func shard(_ key: HeldShard, _ layout: ShardLayout) -> Shard? {
    locked {
      while copies[key]?.isFilling == true { condition.wait() }
      if let live, live.key == key { return live.shard }
      guard let copy = copies[key], copy.missing == 0 else { return nil }
      return Shard(layout, in: copy.memory)
    }
  }

  // MARK: for the training thread

  /// A generation of a run begins to load: shards of other runs are dropped.
  /// - Parameters:
  ///   - start: where it begins. A live shard that is not part of that state has no use then.
  ///   - place: where its copies are kept.
  package func begin(_ run: RunID, from start: StartState = .fresh, keepingOn place: CopyPlace = .memory) {
    let state: MemoryState? = if case .memory(let state) = start { state } else { nil }
    locked {
      copies = copies.filter { $0.key.run == run }
      if let key = live?.key, key.run != run || key.generation != state?.generation || key.step != state?.step {
        live = nil
      }
      mirroredStep = -1
      (self.place, problem) = (place, nil)
      // Shards of the new generation may have other sizes.
      free = []
      loads += 1
    }
  }

  /// Registers the trainer's own tensors as its shard, between two generations.
  package func setLive(_ key: HeldShard, _ shard: Shard) { locked { live = (key, shard) } }
  package func dropLive() { locked { live = nil } }

  /// Memory for a copy of `count` values.
  package func memory(_ count: Int) -> ShardMemory { locked { take(count) } }

  private func take(_ count: Int) -> ShardMemory {
    if let place = free.firstIndex(where: { $0.count == count }) { return free.remove(at: place) }
    if place == .disk {
      do { return try ShardMemory(onDisk: count, in: folder) } catch {
        if problem == nil { problem = ("\(error)", false) }
      }
    }
    return ShardMemory(count: count)
  }

  /// Why a copy of this generation that should be on disk is in memory; nil where none is, and after the first call
  /// that has returned it.
  package func takeProblem() -> String? {
    locked {
      guard let problem, !problem.isReported else { return nil }
      self.problem?.isReported = true
      return problem.reason
    }
  }

  /// Sets whose mirror this worker is in a generation: roster indices, and how many values their shards have.
  /// Copies of others are refused.
  package func expect(_ generation: UInt32, _ counts: [Int: Int]) { locked { expected = (generation, counts) } }

  /// Identifies the generation that began to load last; see `giveBack`.
  package var epoch: Int { locked { loads } }

  /// Returns memory that is no longer read. It is kept for reuse if its epoch is still the current one.
  package func giveBack(_ memory: ShardMemory, _ epoch: Int) {
    locked {
      if epoch == loads, free.count(where: { $0.count == memory.count }) < Self.freeLimit { free.append(memory) }
    }
  }

  /// The copies of this step are complete at the mirrors of all workers, so older ones are not needed any more. Keeps
  /// this worker's own copy, in the memory of the one before if that is not being read.
  package func complete(_ key: HeldShard, _ copy: LateCopy, _ team: Team) {
    let memory = locked {
      for old in Array(copies.keys) where old.generation < key.generation || old.step < key.step {
        drop(old, in: key.generation)
      }
      let memory = take(copy.layout.count)
      copies[key] = Copy(memory: memory, isFilling: true)
      return memory
    }
    copy.move(to: memory, team)
    locked {
      copies[key]!.isFilling = false
      condition.broadcast()
    }
  }

  /// Blocks until the copy of `step` is complete at the mirror. Returns false where `abandoned` returns true before
  /// that.
  package func waitForMirror(of step: Int, abandoned: () -> Bool) -> Bool {
    condition.lock()
    defer { condition.unlock() }
    while mirroredStep < step {
      if abandoned() { return false }
      _ = condition.wait(until: Date().addingTimeInterval(0.05))
    }
    return true
  }

  /// A generation without mirrors has written its first checkpoint: copies of earlier generations are no longer
  /// needed.
  package func checkpointed(in generation: UInt32) {
    locked { for key in Array(copies.keys) where key.generation < generation { drop(key, in: generation) } }
  }

  /// The caller must not hold the dictionary (as a loop over `copies.keys` does): its memory would then count as still
  /// read.
  private func drop(_ key: HeldShard, in generation: UInt32) {
    guard var memory = copies.removeValue(forKey: key)?.memory else { return }
    // Only memory of this generation fits its next copies, and only if no checkpoint is still being written from it.
    let count = memory.count
    if key.generation == generation, isKnownUniquelyReferenced(&memory),
      free.count(where: { $0.count == count }) < Self.freeLimit
    {
      free.append(memory)
    }
  }

  // MARK: for the network thread

  /// The mirror has this worker's complete copy of `step`.
  package func mirrored(_ step: Int) {
    locked {
      mirroredStep = max(mirroredStep, step)
      condition.broadcast()
    }
  }

  /// Stores a piece of a peer's shard. Returns false where it is not the next piece of an expected copy; then
  /// nothing is stored and no memory allocated. Sizes in the header are compared with those that the generation's
  /// plan implies, so that a forged header cannot make this worker allocate.
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
        // A sender completes a copy before it begins the next, which is of a later step.
        guard piece == 0, others.allSatisfy({ $0.value.missing == 0 && $0.key.step < key.step }),
          others.count < ShardStore.mirrorLimit
        else { return false }
        copies[key] = Copy(memory: take(count), missing: pieces, isMirror: true)
      }
      guard let copy = copies[key], copy.isMirror, copy.missing > 0, copy.due == piece else { return false }
      withExtendedLifetime(payload) {
        (copy.memory.pointer + piece * size).update(from: payload.reals, count: payload.bytes.count / 4)
      }
      copy.memory.settle(piece * size..<min(count, (piece + 1) * size))
      copies[key]!.missing -= 1
      copies[key]!.due += 1
      return true
    }
  }

  /// Most copies of one peer: the newest, the one before until everyone's newest is complete, and one more, because a
  /// peer can be a step ahead.
  private static let mirrorLimit = 3
}
