// A worker's half of the control protocol, as a value like the coordinator: joining, heartbeats, and reports that are
// repeated until they are acknowledged. A worker that has lost its coordinator keeps working and tries to reach it
// again; it ends if that does not succeed within `returnWithin`.

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
    /// Repeats the hello until a coordinator answers. → joined, ended
    case joining(since: Instant, saidHello: Instant?)
    /// → joining, ended
    case joined
    case ended
  }

  private let description: WorkerDescription
  private let endpoint: String
  /// How long to try to reach a coordinator: one that has not answered yet, and one that answered before and is gone.
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
  /// Reports of the generation that the coordinator has not acknowledged yet, oldest first, and the number of the
  /// first.
  private var outbox: [Report] = []
  private var firstNumber = 1
  /// All times in this type are of this clock: time in which this process itself did not run does not count as silence
  /// of the coordinator.
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
    // Reports of an earlier generation are dropped.
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
      // An answer to a hello that was sent before this generation does not mention it, but shows that the coordinator
      // is reachable again.
      if asked != generation || keep == generation {
        if asked == generation { note(noted) }
        for (index, report) in outbox.enumerated() {
          effects.append(.send(.report(generation: generation, number: firstNumber + index, report)))
        }
      } else {
        effects.append(letGo("the coordinator has ended this generation"))
      }
      return effects
    case .alive(let generation, let noted):
      if generation == self.generation { note(noted) }
      return []
    case .assigned(let assignment):
      // An assignment of an older generation was repeated or arrived late. A generation that has halted is followed by
      // the next one without a stop.
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
    case .unknownWorker: return rejoin("the coordinator does not know this worker", at: now)
    // Its name belongs to another process, or the coordinator cannot read its messages. Repetition would not change
    // that.
    case .refused(let reason): return end("the coordinator refused: \(reason)")
    case .submitted, .events, .accepted, .status, .described:
      return [.log("the coordinator sent a worker a message that is for commands")]
    }
  }

  /// A restarted coordinator answers. It knows the worker's run from its store.
  package mutating func coordinatorRestarted(at now: Instant) -> [Effect] {
    let now = clock.now(at: now)
    lastHeard = now
    guard state == .joined else { return [] }
    return rejoin("the coordinator was restarted", at: now)
  }

  /// A message that cannot be read is not sent again, so a worker that continued might wait for its content for ever.
  package mutating func unreadable(_ error: WireError) -> [Effect] {
    switch error {
    case .damagedPacket: [.log("\(error)")]
    case .malformed, .wrongVersion: end("the coordinator at \(endpoint) sent a message that cannot be read: \(error)")
    }
  }

  /// - Parameter heartbeat: computed where one is sent, which few calls do.
  package mutating func tick(_ heartbeat: @autoclosure () -> Heartbeat, at now: Instant) -> [Effect] {
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
      var effects: [Effect] = [.send(.hello(description, heartbeat()))]
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
      return [.send(.heartbeat(heartbeat()))]
    }
  }

  /// The state of this worker has changed and the coordinator waits for that, so the next heartbeat is sent at once.
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

  /// The process cannot continue.
  package mutating func giveUp(_ reason: String) -> [Effect] { end(reason) }

  /// A generation in progress continues; the coordinator's welcome contains whether it is still valid.
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
