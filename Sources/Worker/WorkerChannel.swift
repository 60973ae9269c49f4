// What a job needs of the network: a place for reports, and its peers. The worker process has the real one; tests join jobs in
// one process with another.

import Training
import Wire

package protocol WorkerChannel: AnyObject {
  func send(_ message: DataMessage, to index: Int)
  func report(_ report: Report, generation: UInt32)
  func note(_ heartbeat: Heartbeat)
  /// Blocks for the next event; nil after the timeout.
  func next(timeout: Duration?) -> WorkerEvent?
  /// The reason, if the coordinator has stopped the generation. Never blocks.
  func pendingStop() -> String?
  /// Whether the coordinator has asked to stop behind a step.
  func pendingHalt(_ generation: UInt32) -> HaltWish
  /// Sends a copy of this worker's shard to a peer, beside everything else.
  func mirror(_ key: HeldShard, _ memory: ShardMemory, count: Int, to index: Int)
}

/// A job's peers over a channel: waits for their messages, says in its heartbeats for whom it waits, and ends with the
/// generation.
package final class NetworkLink: PeerLink {
  private let channel: any WorkerChannel
  private let assignment: Assignment
  /// Steps done, for the heartbeats.
  var step = 0
  var hasBegun = false
  /// What the coordinator asked for while this worker waited.
  private(set) var haltWish = HaltWish.none
  /// Spent waiting since the job began.
  private(set) var waitedSeconds = 0.0
  /// Messages of peers that were told to begin before this worker was.
  private var early: [DataMessage] = []
  /// Waiting is worth a note when it lasts longer than this.
  private static let noteAfter = Duration.milliseconds(1000)

  package init(_ channel: any WorkerChannel, _ assignment: Assignment) {
    self.channel = channel
    self.assignment = assignment
    step = assignment.firstStep
  }

  var heartbeat: Heartbeat {
    var heartbeat = Heartbeat(generation: assignment.generation, step: step)
    heartbeat.hasBegun = hasBegun
    return heartbeat
  }

  package func send(_ message: DataMessage, to worker: Int) { channel.send(message, to: worker) }

  package func accept(early message: DataMessage) { early.append(message) }

  package func receive(awaited: [Int], in phase: DataPhase) throws -> DataMessage {
    if phase != .state, !early.isEmpty { return early.removeFirst() }
    let begun = ContinuousClock.now
    defer { waitedSeconds += begun.duration(to: .now).inSeconds }
    var noted = false
    while true {
      switch channel.next(timeout: NetworkLink.noteAfter) {
      case .data(let message):
        if noted { channel.note(heartbeat) }
        return message
      case .stop(let generation, let reason) where generation == assignment.generation: throw Stopped(reason: reason)
      case .exit(let reason): throw Stopped(reason: reason)
      case .halt(let generation, let saving) where generation == assignment.generation:
        haltWish = max(haltWish, saving ? .haltSaving : .halt)
      case .stop, .begin, .assigned, .halt: continue
      case nil:
        noted = true
        note(
          "\(awaited.map { assignment.peers[$0].name }.joined(separator: " and ")) (\(phase.description))",
          since: begun, for: awaited)
      }
    }
  }

  /// Says in the heartbeats what is waited for.
  func note(_ what: String, since begun: ContinuousClock.Instant, for awaited: [Int] = []) {
    var heartbeat = heartbeat
    heartbeat.waiting = what
    heartbeat.waitingSeconds = begun.duration(to: .now).inSeconds
    heartbeat.waitingFor = awaited
    channel.note(heartbeat)
  }
}
