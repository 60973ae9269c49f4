// `ress worker`: joins a coordinator, does what it is assigned, and ends with a reason.

import Checkpoint
import Configuration
import Foundation
import Kernels
import Model
import RunFolder
import Training
import Transport
import Wire

package final class WorkerProcess: Sendable {
  private let network: WorkerNetwork
  private let log: @Sendable (String) -> Void

  package init(_ options: WorkerNetwork.Options) throws(TransportError) {
    BLAS.useOneThread()
    log = options.log
    network = try WorkerNetwork(options)
  }

  /// Serves until the coordinator is gone or says so. Returns the reason.
  package func run() -> String {
    network.start()
    var job: RunJob?
    let history = StepHistory()
    while true {
      guard let event = network.next() else { continue }
      switch event {
      case .assigned(let assignment):
        // The state of a halted generation stays in the store until its successor begins.
        job = nil
        job = load(assignment, history)
      case .begin(let generation, let leftOut):
        guard let current = job, current.assignment.generation == generation else { continue }
        network.store.dropLive()
        // What it halted with, if it did, is in the store.
        job = nil
        train(current, leftOut: leftOut)
      case .stop(_, let reason):
        job = nil
        network.store.dropLive()
        network.note(Heartbeat())
        log("stopped: \(reason)")
      case .data(let message): job?.accept(early: message)
      // Too late: the generation was over when it came.
      case .halt: continue
      case .exit(let reason):
        network.close(reason: reason)
        return reason
      }
    }
  }

  /// Says goodbye, so that nobody waits for this worker's silence to count as loss. Any thread may call it; the process
  /// should end then.
  package func leave(reason: String) { network.close(reason: reason) }

  /// After `run` or `leave`: false for a rank whose world did not end in order.
  package var hasLeftWorld: Bool { network.hasLeftWorld }

  private func load(_ assignment: Assignment, _ history: StepHistory) -> RunJob? {
    let generation = assignment.generation
    network.store.begin(assignment.run)
    network.note(Heartbeat(generation: generation, step: assignment.firstStep))
    do {
      guard !assignment.isHelper else {
        try RunJob.help(assignment, network: network, store: network.store)
        return nil
      }
      let job = try RunJob(assignment, network: network, store: network.store, history: history, log: log)
      network.note(job.heartbeat)
      for report in history.missing(assignment) { network.report(report, generation: generation) }
      network.report(.ready, generation: generation)
      return job
    } catch let stop as Stopped {
      log("generation \(generation) was stopped before it began: \(stop.reason)")
      network.note(Heartbeat())
    } catch JobError.otherData(let reason) {
      // The coordinator has heard what was found; it decides who works on and stops the others.
      log("generation \(generation) cannot begin here: \(reason)")
    } catch JobError.shardGone(let step, let index) {
      let reason = "\(JobError.shardGone(step: step, index: index))"
      log("generation \(generation) cannot begin: \(reason)")
      network.report(.lacking(reason: reason), generation: generation)
    } catch let error as JobError where error.isUnseenFolder {
      log("generation \(generation) cannot begin: \(error)")
      network.report(.folderUnseen(reason: "\(error)"), generation: generation)
    } catch {
      log("generation \(generation) cannot begin: \(error)")
      network.report(.failed(reason: "\(error)"), generation: generation)
    }
    return nil
  }

  private func train(_ job: RunJob, leftOut: Int) {
    let generation = job.assignment.generation
    do {
      switch try job.run(leftOut: leftOut) {
      case .finished:
        log("generation \(generation): all steps are done")
        network.note(Heartbeat())
      // It still counts as at work: its state is what the next generation begins with.
      case .halted: log("generation \(generation) has stopped behind a step")
      }
    } catch let stop as Stopped {
      log("generation \(generation) was stopped: \(stop.reason)")
      network.note(Heartbeat())
    } catch let failure as AuditFailure {
      log("generation \(generation): \(failure)")
      network.report(
        .disagreed(
          Disagreement(step: failure.step, unit: failure.unit, voters: failure.voters, hashes: failure.hashes)),
        generation: generation)
    } catch {
      log("generation \(generation) failed: \(error)")
      network.report(.failed(reason: "\(error)"), generation: generation)
      network.note(Heartbeat())
    }
  }
}

extension WorkerNetwork: WorkerChannel {
  /// Looks for a stop without waiting, and leaves everything else where it is.
  package func pendingStop() -> String? {
    stopReason()
  }
}
