// `ress worker`: joins a coordinator, takes part in the generations that it is assigned to, and returns the reason
// why it ended.

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
    log = options.log
    network = try WorkerNetwork(options)
  }

  /// Serves until the coordinator is gone or ends the worker. Returns the reason.
  package func run() -> String {
    network.start()
    var job: RunJob?
    let history = StepHistory()
    while true {
      guard let event = network.next() else { continue }
      switch event {
      case .assigned(let assignment):
        // The halted generation's state stays in the store until the next generation begins.
        job = nil
        job = load(assignment, history)
      case .begin(let generation, let leftOut, let evaluations):
        guard let current = job, current.assignment.generation == generation else { continue }
        network.store.dropLive()
        // A state that it halts with is kept in the store.
        job = nil
        train(current, leftOut: leftOut, evaluations ?? EvaluationStanding())
      case .stop(_, let reason):
        job = nil
        network.note(Heartbeat())
        log("stopped: \(reason)")
      case .data(let message): job?.accept(early: message)
      // The request arrived after the generation had ended.
      case .halt: continue
      case .exit(let reason):
        network.close(reason: reason)
        return reason
      }
    }
  }

  /// Says goodbye, so that the coordinator need not wait until this worker's silence counts as a loss. Any thread
  /// may call it; the process should end afterwards.
  package func leave(reason: String) { network.close(reason: reason) }

  /// After `run` or `leave`: false for a rank of a world that did not end in order.
  package var hasLeftWorld: Bool { network.hasLeftWorld }

  /// Loads a generation. Returns nil, after a report to the coordinator, where that fails or where this worker is
  /// only a helper.
  private func load(_ assignment: Assignment, _ history: StepHistory) -> RunJob? {
    let generation = assignment.generation
    network.store.begin(
      assignment.run, from: assignment.start, keepingOn: assignment.configuration.cluster.stateCopies)
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
      // `.reads` has told the coordinator what this worker found. It decides which workers continue, and stops the
      // others.
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

  private func train(_ job: RunJob, leftOut: Int, _ evaluations: EvaluationStanding) {
    let generation = job.assignment.generation
    do {
      switch try job.run(leftOut: leftOut, evaluations) {
      case .finished:
        log("generation \(generation): the run is done")
        network.note(Heartbeat())
      // The heartbeat stays: this worker still holds the state that the next generation begins with.
      case .halted: log("generation \(generation) has stopped after a step")
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
  /// The reason of a pending stop. Never blocks and removes no event.
  package func pendingStop() -> String? {
    stopReason()
  }
}
