// The queue: runs of higher priority come first, then those that were queued first. No run overtakes another one that
// waits for workers, so no run waits for ever.

import Configuration
import Wire

extension Coordinator {
  /// Before runs of lower priority have to give up their workers, a run waits this long for workers that are about to
  /// be free; or half its patience, if that is shorter.
  private static let graceBeforeGivingWay = Duration.milliseconds(500)
  /// Workers that join within this time cause a single change of generation.
  private static let growAfter = Duration.seconds(1)

  /// Puts a run at the end of the queue.
  mutating func enqueue(_ id: RunID, _ reason: String, _ turn: inout Turn) {
    counters.place += 1
    runs[id].enqueue(reason, number: counters.place, firstGeneration: counters.generation + 1, &turn)
  }

  /// Places the runs at the front of the queue.
  mutating func schedule(_ turn: inout Turn) {
    var blocker: String?
    for id in runs.queue.map(\.id) {
      if let blocker {
        if runs[id].state == .queued {
          runs[id].change(to: .queued, "waits until run \(blocker) has its workers", &turn)
        }
        continue
      }
      switch runs[id].phase {
      case .idle: runs[id].prepare(again: runs[id].wasEverPrepared, &turn)
      case .waiting(_, _, .pause(let reason)?):
        runs[id].rest(reason, &members, &turn)
        continue
      case .waiting:
        runs[id].phase.pending = nil
        place(id, &turn)
      case .preparing, .loading, .training, .halting, .collecting, .saving: break
      }
      if runs[id].phase.isWaiting || runs[id].phase.isPreparing { blocker = runs[id].name }
    }
    if blocker == nil { grow(&turn) }
    for id in runs.ids(where: \.phase.hasWorkers) { runs[id].beginHalt(&members, &turn) }
  }

  /// Runs whose checkpoint is on disk release their workers: they are paused, or wait in the queue again.
  mutating func concludeSaving(_ turn: inout Turn) {
    for id in runs.ids {
      guard case .saving(_, let change) = runs[id].phase, runs[id].checkpoints.areSettled else { continue }
      runs[id].rest(change.reason, &members, &turn)
      switch change {
      case .giveWay(let reason): enqueue(id, reason, &turn)
      case .pause: break
      case .renew: preconditionFailure("a run saves only before it leaves its workers")
      }
    }
  }

  /// Gives a run its workers, or records what it waits for.
  private mutating func place(_ id: RunID, _ turn: inout Turn) {
    switch Placement.find(for: runs[id], among: members, at: turn.now) {
    case .workers(let workers, let state):
      counters.generation += 1
      runs[id].assign(counters.generation, workers, from: state, &members, &turn)
    case .tooFew(let reason, let missing):
      makeRoom(for: runs[id], missing: missing, turn)
      let isNew = !runs[id].wasPlaced && runs[id].state == .queued
      runs[id].change(to: isNew ? .queued : .placing, reason, &turn)
    case .unequal(let reason): runs[id].change(to: .placing, reason, &turn)
    case .memoryIsGone: runs[id].memoryIsGone(members, &turn)
    }
  }

  /// A run of higher priority takes the workers of working runs of lower priority, the lowest first, until it has
  /// enough.
  private mutating func makeRoom(for run: Run, missing: Int, _ turn: Turn) {
    var missing = missing
    guard missing > 0, run.since + min(Coordinator.graceBeforeGivingWay, run.patience / 2) <= turn.now else { return }
    for other in runs.workingRuns(below: run.priority) where missing > 0 {
      missing -= other.roster.count
      if other.phase.pending?.releasesWorkers != true {
        runs[other.id].phase.pending = .giveWay(
          reason: "gives way to run \(run.name) of priority \(run.priority)")
      }
    }
  }

  /// A run grows by a free worker if no other run waits for one.
  private mutating func grow(_ turn: inout Turn) {
    for run in runs.all {
      guard case .training(let generation, nil) = run.phase else { continue }
      let wanted = run.configuration.cluster.workers - generation.roster.count
      guard wanted > 0, run.growsAtOnce || run.since + Coordinator.growAfter < turn.now else { continue }
      let fingerprint = generation.roster[0].worker.fingerprint
      let free = Placement.candidates(for: run, among: members, at: turn.now).filter {
        $0.run == nil && $0.description.fingerprint == fingerprint
          && Placement.isReachable($0.description, for: run)
      }
      guard !free.isEmpty else { continue }
      let names = free.prefix(wanted).map(\.description.name)
      runs[run.id].growsAtOnce = false
      runs[run.id].phase.pending = .renew(
        reason: names.joined(separator: ", ") + (names.count == 1 ? " joins" : " join"))
    }
  }
}
