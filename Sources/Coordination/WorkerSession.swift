// A worker's half of the control protocol, as a value like the coordinator: joining, heartbeats, and the certainty that a
// worker whose coordinator is gone does not wait for ever.

import Wire

package struct WorkerSession: Sendable {
  package enum Effect: Equatable, Sendable {
    case send(Request)
    case assigned(Assignment)
    case begin(generation: UInt32)
    case stop(generation: UInt32, reason: String)
    /// The process should end.
    case exit(reason: String)
    case log(String)
  }

  private enum State: Equatable {
    /// Says hello until a coordinator answers.
    case joining(since: Instant, saidHello: Instant?)
    case joined
    case ended
  }

  private let description: WorkerDescription
  private let endpoint: String
  /// How long to look for a coordinator before giving up.
  private let joinWithin: Duration
  private var state: State
  private var patience = Duration.seconds(10)
  private var lastHeard: Instant
  private var nextHeartbeat: Instant
  private var generation: UInt32 = 0
  private var explained = false

  package init(_ description: WorkerDescription, endpoint: String, joinWithin: Duration, at now: Instant) {
    self.description = description
    self.endpoint = endpoint
    self.joinWithin = joinWithin
    state = .joining(since: now, saidHello: nil)
    lastHeard = now
    nextHeartbeat = now
  }

  /// Several heartbeats fit into a patience, so that one lost packet costs nothing.
  private var heartbeatEvery: Duration { min(.milliseconds(250), patience / 8) }

  package mutating func receive(_ reply: Reply, at now: Instant) -> [Effect] {
    lastHeard = now
    switch reply {
    case .welcome(let worker, let patienceSeconds):
      patience = .nanoseconds(Int64(patienceSeconds * 1e9))
      nextHeartbeat = now
      guard state != .joined else { return [] }
      state = .joined
      return [.log("joined the coordinator at \(endpoint) as worker \(worker)")]
    case .alive: return []
    case .assigned(let assignment):
      generation = assignment.generation
      return [.assigned(assignment)]
    case .begin(let begun): return begun == generation ? [.begin(generation: begun)] : []
    case .stop(let stopped, let reason):
      guard stopped == generation else { return [] }
      generation = 0
      return [.stop(generation: stopped, reason: reason)]
    case .refused(Coordinator.unknownWorker): return rejoin("the coordinator gave this worker up", at: now)
    // Its name is another process's, or what it says cannot be read: to say it again would change nothing.
    case .refused(let reason): return end("the coordinator refused: \(reason)")
    case .submitted, .event, .status: return [.log("the coordinator sent a worker what only a command asks for")]
    }
  }

  /// Another coordinator process answers: it does not know us.
  package mutating func coordinatorRestarted(at now: Instant) -> [Effect] {
    lastHeard = now
    guard state == .joined else { return [] }
    return rejoin("the coordinator was restarted", at: now)
  }

  /// A message of the coordinator that cannot be read does not come again, so a worker that went on might wait for ever for
  /// what it said.
  package mutating func unreadable(_ error: WireError) -> [Effect] {
    switch error {
    case .damagedPacket: [.log("\(error)")]
    case .malformed, .wrongVersion: end("the coordinator at \(endpoint) sent what cannot be read: \(error)")
    }
  }

  package mutating func tick(_ heartbeat: Heartbeat, at now: Instant) -> [Effect] {
    switch state {
    case .ended: return []
    case .joining(let since, let saidHello):
      if since + joinWithin < now {
        return end(
          "no coordinator answered at \(endpoint) within \(joinWithin.spoken); start one with: ress coordinator --listen \(endpoint)"
        )
      }
      guard saidHello.map({ $0 + .seconds(1) <= now }) ?? true else { return [] }
      state = .joining(since: since, saidHello: now)
      var effects: [Effect] = [.send(.hello(description))]
      if !explained && since + .seconds(2) < now {
        explained = true
        effects.append(.log("no answer from \(endpoint) yet; waiting for a coordinator (up to \(joinWithin.spoken))"))
      }
      return effects
    case .joined:
      if lastHeard + patience < now {
        return end("nothing was heard of the coordinator at \(endpoint) for \((now - lastHeard).spoken)")
      }
      guard nextHeartbeat <= now else { return [] }
      nextHeartbeat = now + heartbeatEvery
      return [.send(.heartbeat(heartbeat))]
    }
  }

  package func nextTick(after now: Instant) -> Instant {
    switch state {
    case .ended: now + .seconds(1)
    case .joining: now + .milliseconds(200)
    case .joined: max(now, min(nextHeartbeat, lastHeard + patience + .milliseconds(1)))
    }
  }

  /// The generation is over for the coordinator, whatever its state; the worker begins anew.
  private mutating func rejoin(_ reason: String, at now: Instant) -> [Effect] {
    guard state != .ended else { return [] }
    state = .joining(since: now, saidHello: nil)
    guard generation != 0 else { return [.log(reason)] }
    let stopped = generation
    generation = 0
    return [.stop(generation: stopped, reason: reason), .log(reason)]
  }

  private mutating func end(_ reason: String) -> [Effect] {
    guard state != .ended else { return [] }
    state = .ended
    guard generation != 0 else { return [.exit(reason: reason)] }
    let stopped = generation
    generation = 0
    return [.stop(generation: stopped, reason: reason), .exit(reason: reason)]
  }
}
