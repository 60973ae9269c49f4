// The copies of one worker's state in a generation: for its mirror, so that the loss of a worker costs few steps, and
// for checkpoints. All of them are made late (`LateCopy`): they are the trainer's own tensors until an update.
//
// A copy for the mirror is sent while the units of the next step are computed. The worker waits for its arrival
// before it sends the norms of that step, and keeps it when it has the norms of all others (`ShardStore`). So the
// wait is the time by which sending a shard takes longer than computing a step, once in `cluster.mirror_every` steps.
//
// The training thread calls everything here.

import Checkpoint
import Configuration
import Foundation
import Kernels
import Model
import RunFolder
import Training
import Wire

final class StateCopies: StateKeeper {
  private let assignment: Assignment
  private unowned let trainer: Trainer
  private let link: NetworkLink
  private let network: any WorkerChannel
  private let store: ShardStore
  private let layout: ParameterLayout
  private let saver = CheckpointSaver()
  /// The newest copy for the mirror, while this worker's state is still the copy.
  private var mirrored: (step: Int, copy: LateCopy)?
  /// The copy from which a checkpoint is written, while this worker's state is still the copy.
  private var saved: LateCopy?
  private var savedStep = -1
  /// Seconds that training was paused since the last report.
  private var stall = 0.0

  init(
    _ assignment: Assignment, _ trainer: Trainer, _ link: NetworkLink, _ network: any WorkerChannel,
    _ store: ShardStore, _ layout: ParameterLayout
  ) {
    self.assignment = assignment
    self.trainer = trainer
    self.link = link
    self.network = network
    self.store = store
    self.layout = layout
  }

  /// Whether copies go to a mirror.
  var mirrors: Bool { assignment.configuration.cluster.mirrorEvery > 0 && trainer.plan.workerCount > 1 }

  /// Seconds that training was paused (copies, waiting for the mirror or the disk) since the last call.
  func takeStall() -> Double {
    defer { stall = 0 }
    return stall
  }

  func key(_ step: Int) -> HeldShard {
    HeldShard(
      run: assignment.run, generation: assignment.generation, index: assignment.index, count: assignment.roster.count,
      step: step)
  }

  /// Begins a copy of the state after `step`, for the mirror, for a checkpoint, or for both.
  func begin(_ step: Int, mirrors: Bool, saves: Bool) {
    let copy = LateCopy(Shard(of: trainer))
    if mirrors {
      mirrored = (step, copy)
      network.mirror(key(step), copy, to: assignment.mirror(of: assignment.index)!)
    }
    if saves, savedStep != step {
      savedStep = step
      saved = copy
      save(copy, step)
    }
  }

  func beforeNorms() throws {
    guard let step = mirrored?.step else { return }
    let begun = ContinuousClock.now
    defer { stall += begun.duration(to: .now).inSeconds }
    let arrived = store.waitForMirror(of: step) {
      link.note("its copy of step \(step) to arrive", since: begun)
      return network.pendingStop() != nil
    }
    if !arrived { throw Stopped(reason: network.pendingStop() ?? "") }
  }

  func beforeUpdate() {
    guard mirrored != nil || saved != nil else { return }
    let begun = ContinuousClock.now
    defer { stall += begun.duration(to: .now).inSeconds }
    if let (step, copy) = mirrored {
      mirrored = nil
      store.complete(key(step), copy, trainer.team)
    }
    if let copy = saved {
      saved = nil
      let store = self.store, epoch = store.epoch
      copy.moveUnlessOver(to: { store.memory(copy.layout.count) }, trainer.team) { store.giveBack($0, epoch) }
    }
  }

  /// The generation was stopped: keeps the state after `step` for the next one, if it is whole. Copies that have not
  /// arrived at every mirror are worth nothing without it.
  func keepLive(after step: Int) {
    if trainer.isWhole, trainer.plan.workerCount > 1, step > 0 { store.setLive(key(step), Shard(of: trainer)) }
  }

  // MARK: checkpoints

  /// Writes the shard in the background and reports the result to the coordinator.
  private func save(_ copy: LateCopy, _ step: Int) {
    let generation = assignment.generation, folder = assignment.folder, place = assignment.index
    let shardCount = assignment.roster.count, boundary = Boundary(assignment.roots ?? [])
    let links = place == 0 ? RunJob.links(trainer.plan, layout) : nil
    nonisolated(unsafe) let channel = network
    let store = self.store, mirrors = self.mirrors
    saver.save { () throws(CheckpointError) in
      let writer = try CheckpointWriter(
        folder: folder, step: step, generation: generation, shardCount: shardCount, boundary)
      return try CheckpointSaver.write(copy, writer, place, links)
    } done: { result in
      switch result {
      case .success(let files):
        // Only after success: after an error the same copy is written again.
        copy.end()
        channel.report(.saved(step: step, files: files), generation: generation)
        if !mirrors { store.checkpointed(in: generation) }
      case .failure(let error):
        channel.report(.saveFailed(step: step, reason: "\(error)"), generation: generation)
      }
    }
  }

  /// Waits until checkpoint files are written; with `insisting` also for those that failed and will be tried again.
  func finishSaving(insisting: Bool) throws {
    let begun = ContinuousClock.now
    saver.finish(insisting: insisting) { failedAt in
      // The reported waiting time starts anew with every error: a disk that reports errors does not hang.
      link.note("its part of a checkpoint to be written", since: max(begun, failedAt ?? begun))
      return network.pendingStop() != nil
    }
    stall += begun.duration(to: .now).inSeconds
    if let reason = network.pendingStop() { throw Stopped(reason: reason) }
    network.note(link.heartbeat)
  }

  func close() { saver.close() }
}
