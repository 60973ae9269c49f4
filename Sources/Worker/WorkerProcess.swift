// `ress worker`: joins a coordinator, does what it is assigned, and ends with a reason.

import Configuration
import Foundation
import Kernels
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
    while true {
      guard let event = network.next() else { continue }
      switch event {
      case .assigned(let assignment):
        job = nil
        do {
          job = try RunJob(assignment, network: network, log: log)
          network.note(Heartbeat(generation: assignment.generation, step: assignment.firstStep))
          network.report(.ready(generation: assignment.generation))
        } catch {
          log("generation \(assignment.generation) cannot begin: \(error)")
          network.report(.failed(generation: assignment.generation, reason: "\(error)"))
        }
      case .begin(let generation):
        guard let current = job, current.assignment.generation == generation else { continue }
        train(current)
        job = nil
      case .stop(_, let reason):
        job = nil
        network.note(Heartbeat())
        log("stopped: \(reason)")
      case .data(let message): job?.accept(early: message)
      case .exit(let reason):
        network.close(reason: reason)
        return reason
      }
    }
  }

  /// Says goodbye, so that nobody waits for this worker's silence to count as loss. Any thread may call it; the process
  /// should end then.
  package func leave(reason: String) { network.close(reason: reason) }

  private func train(_ job: RunJob) {
    let generation = job.assignment.generation
    do {
      try job.run()
      network.report(.finished(generation: generation))
      log("generation \(generation): all steps are done")
    } catch let stop as Stopped {
      log("generation \(generation) was stopped: \(stop.reason)")
    } catch {
      log("generation \(generation) failed: \(error)")
      network.report(.failed(generation: generation, reason: "\(error)"))
    }
    network.note(Heartbeat())
  }
}

extension WorkerNetwork: WorkerChannel {
  /// Looks for a stop without waiting, and leaves everything else where it is.
  package func pendingStop() -> String? {
    stopReason()
  }
}
