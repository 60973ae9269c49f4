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
  /// Steps done, for the heartbeats.
  var step = 0
  /// Messages of peers that were told to begin before this worker was.
  private var early: [DataMessage] = []
  /// Waiting is worth a note when it lasts longer than this.
  private static let noteAfter = Duration.milliseconds(1000)

  init(_ channel: any WorkerChannel, _ assignment: Assignment) {
    self.channel = channel
    self.assignment = assignment
  }

  func send(_ message: DataMessage, to worker: Int) { channel.send(message, to: worker) }

  func accept(early message: DataMessage) { early.append(message) }

  func receive(awaited: [Int], in phase: DataPhase) throws -> DataMessage {
    if !early.isEmpty { return early.removeFirst() }
    let begun = ContinuousClock.now
    var noted = false
    while true {
      switch channel.next(timeout: NetworkLink.noteAfter) {
      case .data(let message):
        if noted { channel.note(Heartbeat(generation: assignment.generation, step: step)) }
        return message
      case .stop(let generation, let reason) where generation == assignment.generation: throw Stopped(reason: reason)
      case .exit(let reason): throw Stopped(reason: reason)
      case .stop, .begin, .assigned: continue
      case nil:
        noted = true
        let names = awaited.map { assignment.roster[$0].worker.name }.joined(separator: " and ")
        channel.note(
          Heartbeat(
            generation: assignment.generation, step: step, waiting: "\(names) (\(phase.description))",
            waitingSeconds: begun.duration(to: .now).inSeconds))
      }
    }
  }
}
