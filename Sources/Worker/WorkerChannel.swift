// What a job needs of the network: a place for reports, and its peers. The worker process has the real one; tests join jobs in
// one process with another.

import Training
import Wire

package protocol WorkerChannel: AnyObject {
  func send(_ message: DataMessage, to index: Int)
  func report(_ request: Request)
  func note(_ heartbeat: Heartbeat)
  /// Blocks for the next event; nil after the timeout.
  func next(timeout: Duration?) -> WorkerEvent?
  /// The reason, if the coordinator has stopped the generation. Never blocks.
  func pendingStop() -> String?
}

/// A job's peers over a channel: waits for their messages, says in its heartbeats for whom it waits, and ends with the
/// generation.
final class NetworkLink: PeerLink {
  private let channel: any WorkerChannel
  private let assignment: Assignment
  /// Waiting is worth a note when it lasts longer than this.
  private static let noteAfter = Duration.milliseconds(1000)

  init(_ channel: any WorkerChannel, _ assignment: Assignment) {
    self.channel = channel
    self.assignment = assignment
  }

  func send(_ message: DataMessage, to worker: Int) { channel.send(message, to: worker) }

  func receive(awaited: [Int], in phase: DataPhase) throws -> DataMessage {
    var waited = 0
    while true {
      switch channel.next(timeout: NetworkLink.noteAfter) {
      case .data(let message): return message
      case .stop(let generation, let reason) where generation == assignment.generation: throw Stopped(reason: reason)
      case .exit(let reason): throw Stopped(reason: reason)
      case .stop, .begin, .assigned: continue
      case nil:
        waited += 1
        let names = awaited.map { assignment.roster[$0].worker.name }.joined(separator: " and ")
        channel.note(
          Heartbeat(
            generation: assignment.generation, step: 0,
            waiting: "\(names) (\(phase.description), for \(waited) s)"))
      }
    }
  }
}
