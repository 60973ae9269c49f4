// What a training job needs of the network, as a protocol: it sends reports and messages to peers, and receives
// events. The worker process implements it with `WorkerNetwork`; tests connect several jobs inside one process.

import Configuration
import Exchange
import Training
import Wire

package protocol WorkerChannel: AnyObject {
  /// Sends a message to the peer with that index.
  func send(_ message: DataMessage, to index: Int)
  /// Sends a report to the coordinator. It arrives even if the coordinator is restarted.
  func report(_ report: Report, generation: UInt32)
  /// Replaces the content of the next heartbeats.
  func note(_ heartbeat: Heartbeat)
  /// Blocks until the next event; nil after the timeout.
  func next(timeout: Duration?) -> WorkerEvent?
  /// Why the coordinator has stopped the generation; nil while it has not. Never blocks.
  func pendingStop() -> String?
  /// Whether the coordinator has asked for a stop after a step. Never blocks.
  func pendingHalt(_ generation: UInt32) -> HaltWish
  /// The memory that this process shares with others of its machine; nil where it shares none.
  var memory: OfferedMemory? { get }
  /// Sends a copy of this worker's shard to a peer, in the background.
  func mirror(_ key: HeldShard, _ copy: LateCopy, to index: Int)
}

/// A job's peers over a channel. While it waits for a message it shows in the heartbeats for which workers it
/// waits, and it throws `Stopped` when the generation is stopped.
///
/// Early messages: a peer that received `begin` first may send messages of the first step before this worker has
/// begun. They are kept and delivered first, in order.
package final class NetworkLink: PeerLink {
  private let channel: any WorkerChannel
  private let assignment: Assignment
  /// Number of steps done, for the heartbeats.
  var step = 0
  var hasBegun = false
  /// The stop after a step that the coordinator asked for while this worker waited.
  private(set) var haltWish = HaltWish.none
  /// Seconds spent waiting for messages since the job began.
  package private(set) var waitedSeconds = 0.0
  /// Messages that arrived before this worker began.
  private var early: [DataMessage] = []
  /// Whether the heartbeats show a wait that is not for a message.
  private var showsWait = false
  /// A wait that is longer than this is shown in the heartbeats.
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
        note(awaited, in: phase, since: begun)
      }
    }
  }

  package func look(awaited: [Int], in phase: DataPhase, since begun: ContinuousClock.Instant) throws {
    if let reason = channel.pendingStop() { throw Stopped(reason: reason) }
    guard begun.duration(to: .now) > NetworkLink.noteAfter else { return }
    showsWait = true
    note(awaited, in: phase, since: begun)
  }

  package func endLook() {
    guard showsWait else { return }
    showsWait = false
    channel.note(heartbeat)
  }

  private func note(_ awaited: [Int], in phase: DataPhase, since begun: ContinuousClock.Instant) {
    // The text goes into every heartbeat, so it must not grow with the number of workers.
    let names = awaited.prefix(ClusterStatus.Share.namesShown).map { assignment.peers[$0].name }
    note("\(SpokenNumbers.names(names, of: awaited.count)) (\(phase.description))", since: begun, for: awaited)
  }

  /// Shows in the heartbeats what the job waits for, and for which workers.
  func note(_ what: String, since begun: ContinuousClock.Instant, for awaited: [Int] = []) {
    var heartbeat = heartbeat
    heartbeat.waiting = what
    heartbeat.waitingSeconds = begun.duration(to: .now).inSeconds
    heartbeat.waitingFor = awaited
    channel.note(heartbeat)
  }
}
