// A worker's half of the control protocol, as a value like the coordinator: joining, heartbeats, and reports that are repeated until they
// were taken. A worker whose coordinator is gone works on, looks for it, and ends when it was not found for `returnWithin`.

import Configuration
import Wire

package struct WorkerSession: Sendable {
  package enum Effect: Equatable, Sendable {
    case send(Request)
    case assigned(Assignment)
    case begin(generation: UInt32, leftOut: Int, evaluations: EvaluationStanding? = nil)
    case halt(generation: UInt32, saving: Bool, reason: String)
    case stop(generation: UInt32, reason: String)
    case rewrite(RewriteOrder)
    /// The process should end.
    case exit(reason: String)
    case log(String)
  }

  private enum State: Equatable {
    /// Repeats its hello until a coordinator answers. → joined, ended
    case joining(since: Instant, saidHello: Instant?)
    /// → joining, ended
    case joined
    case ended
  }

  private let description: WorkerDescription
  private let endpoint: String
  /// How long to look for a first coordinator before giving up, and for one that answered before and is gone.
  private let joinWithin: Duration
  private let returnWithin: Duration
  private var state: State
  private var wasJoined = false
  private var patience = Duration.seconds(10)
  private var lastHeard: Instant
  private var nextHeartbeat: Instant
  private var generation: UInt32 = 0
  private var hasBegun = false
  private var explained = false
  /// Reports of the generation that the coordinator has not acknowledged yet, oldest first, and the number of the first.
  private var outbox: [Report] = []
  private var firstNumber = 1
  /// All times in here are this clock's: time in which this process itself did not run is not silence of the coordinator.
  private var clock = SteadyClock()

  package init(
    _ description: WorkerDescription, endpoint: String, joinWithin: Duration, returnWithin: Duration = .seconds(3600),
    at now: Instant
  ) {
    self.description = description
    self.endpoint = endpoint
    self.joinWithin = joinWithin
    self.returnWithin = returnWithin
    let now = clock.now(at: now)
    state = .joining(since: now, saidHello: nil)
    lastHeard = now
    nextHeartbeat = now
  }

  /// Several heartbeats fit into a patience, so that one lost packet costs nothing.
  private var heartbeatEvery: Duration { min(.milliseconds(250), patience / 8) }

  /// Reports something about the present generation. The report is repeated until it is acknowledged.
  package mutating func report(_ report: Report, generation: UInt32) -> [Effect] {
    // Reports of an earlier generation are too late to matter.
    guard generation == self.generation, state != .ended else { return [] }
    outbox.append(report)
    guard state == .joined else { return [] }
    return [.send(.report(generation: generation, number: firstNumber + outbox.count - 1, report))]
  }

  package mutating func receive(_ reply: Reply, at now: Instant) -> [Effect] {
    let now = clock.now(at: now)
    lastHeard = now
    switch reply {
    case .welcome(let worker, let patienceSeconds, let asked, let keep, let noted):
      patience = .nanoseconds(Int64(patienceSeconds * 1e9))
      nextHeartbeat = now
      let isNew = state != .joined
      state = .joined
      var effects: [Effect] = isNew ? [.log("joined the coordinator at \(endpoint) as worker \(worker)")] : []
      wasJoined = true
      guard generation != 0 else { return effects }
      // An answer to a hello that was sent before this generation contains nothing about it, but a coordinator is there again.
      if asked != generation || keep == generation {
        if asked == generation { note(noted) }
        for (index, report) in outbox.enumerated() {
          effects.append(.send(.report(generation: generation, number: firstNumber + index, report)))
        }
      } else {
        effects.append(letGo("the coordinator has given this generation up"))
      }
      return effects
    case .alive(let generation, let noted):
      if generation == self.generation { note(noted) }
      return []
    case .assigned(let assignment):
      // An older one was repeated or arrived late. A generation that has halted is followed by the next without a stop.
      guard assignment.generation > generation else { return [] }
      generation = assignment.generation
      hasBegun = false
      outbox = []
      firstNumber = assignment.noted + 1
      return [.assigned(assignment)]
    case .begin(let begun, let leftOut, let evaluations):
      guard begun == generation, !hasBegun else { return [] }
      hasBegun = true
      return [.begin(generation: begun, leftOut: leftOut, evaluations: evaluations)]
    case .halt(let halted, let saving, let reason):
      return halted == generation ? [.halt(generation: halted, saving: saving, reason: reason)] : []
    case .stop(let stopped, let reason):
      guard stopped == generation, generation != 0 else { return [] }
      return [letGo(reason)]
    case .rewrite(let order): return [.rewrite(order)]
    case .refused(Coordinator.unknownWorker): return rejoin("the coordinator does not know this worker", at: now)
    // Its name belongs to another process, or its messages cannot be read: to repeat them would change nothing.
    case .refused(let reason): return end("the coordinator refused: \(reason)")
    case .submitted, .events, .accepted, .status, .described:
      return [.log("the coordinator sent a worker a message that is for commands")]
    }
  }

  /// Another coordinator process answers. It knows from its store which run this worker works for.
  package mutating func coordinatorRestarted(at now: Instant) -> [Effect] {
    let now = clock.now(at: now)
    lastHeard = now
    guard state == .joined else { return [] }
    return rejoin("the coordinator was restarted", at: now)
  }

  /// A message of the coordinator that cannot be read is not sent again, so a worker that went on might wait for ever for its content.
  package mutating func unreadable(_ error: WireError) -> [Effect] {
    switch error {
    case .damagedPacket: [.log("\(error)")]
    case .malformed, .wrongVersion: end("the coordinator at \(endpoint) sent a message that cannot be read: \(error)")
    }
  }

  package mutating func tick(_ heartbeat: Heartbeat, at now: Instant) -> [Effect] {
    let now = clock.now(at: now)
    switch state {
    case .ended: return []
    case .joining(let since, let saidHello):
      let limit = wasJoined ? returnWithin : joinWithin
      if since + limit < now {
        return end(
          wasJoined
            ? "nothing was heard of the coordinator at \(endpoint) for \((now - lastHeard).spoken)"
            : "no coordinator answered at \(endpoint) within \(joinWithin.spoken); start one with: ress coordinator --listen \(endpoint)"
        )
      }
      guard saidHello.map({ $0 + .seconds(1) <= now }) ?? true else { return [] }
      state = .joining(since: since, saidHello: now)
      var effects: [Effect] = [.send(.hello(description, heartbeat))]
      if !explained && !wasJoined && since + .seconds(2) < now {
        explained = true
        effects.append(.log("no answer from \(endpoint) yet; waiting for a coordinator (up to \(joinWithin.spoken))"))
      }
      return effects
    case .joined:
      if lastHeard + patience < now {
        return rejoin(
          "nothing was heard of the coordinator at \(endpoint) for \((now - lastHeard).spoken); "
            + (generation == 0 ? "looking for it" : "working on") + " (up to \(returnWithin.spoken))", at: now)
      }
      guard nextHeartbeat <= now else { return [] }
      nextHeartbeat = now + heartbeatEvery
      return [.send(.heartbeat(heartbeat))]
    }
  }

  /// The state of this worker has changed, and the coordinator waits for that: the next heartbeat is sent at once.
  package mutating func hurry(at now: Instant) { nextHeartbeat = clock.now(at: now) }

  package func nextTick(after now: Instant) -> Instant {
    switch state {
    case .ended: now + .seconds(1)
    case .joining: now + .milliseconds(200)
    case .joined: max(now, clock.instant(of: min(nextHeartbeat, lastHeard + patience + .milliseconds(1))))
    }
  }

  private mutating func note(_ noted: Int) {
    let done = min(noted - firstNumber + 1, outbox.count)
    guard done > 0 else { return }
    outbox.removeFirst(done)
    firstNumber += done
  }

  /// The process cannot go on.
  package mutating func giveUp(_ reason: String) -> [Effect] { end(reason) }

  /// A generation in progress goes on; the coordinator's welcome tells whether it is still counted on.
  private mutating func rejoin(_ reason: String, at now: Instant) -> [Effect] {
    guard state != .ended else { return [] }
    if case .joining = state { return [] }
    state = .joining(since: now, saidHello: nil)
    return [.log(reason)]
  }

  private mutating func letGo(_ reason: String) -> Effect {
    let stopped = generation
    generation = 0
    hasBegun = false
    outbox = []
    firstNumber = 1
    return .stop(generation: stopped, reason: reason)
  }

  private mutating func end(_ reason: String) -> [Effect] {
    guard state != .ended else { return [] }
    state = .ended
    guard generation != 0 else { return [.exit(reason: reason)] }
    return [letGo(reason), .exit(reason: reason)]
  }
}
