// A command's conversation with the coordinator: one request, one answer, or the story of a run until it ends.

import Configuration
import Transport
import Wire

package enum ClientError: Error, CustomStringConvertible {
  case refused(String)
  case transport(TransportError)
  case lost(endpoint: String, seconds: Double)

  package var description: String {
    switch self {
    case .refused(let reason): reason
    case .transport(let error): "\(error)"
    case .lost(let endpoint, let seconds):
      "the coordinator at \(endpoint) has not answered for \(seconds) s; its run may still be going on"
    }
  }
}

package final class CoordinatorClient {
  private let connection: ControlConnection
  private let endpoint: String
  private var replies: [Reply] = []
  private var lastHeard: Instant
  /// A command waits this long for its answer.
  private let patience: Duration

  package init(_ endpoint: String, patienceSeconds: Double = 10) throws(ClientError) {
    var generator = SystemRandomNumberGenerator()
    do throws(TransportError) {
      connection = try ControlConnection(to: endpoint, incarnation: generator.next() | 1, try SocketContext())
    } catch {
      throw .transport(error)
    }
    self.endpoint = endpoint
    patience = .nanoseconds(Int64(patienceSeconds * 1e9))
    lastHeard = MonotonicClock.now
  }

  package func submit(_ submission: Submission) throws(ClientError) -> RunID {
    guard case .submitted(let run, _) = try ask(.submit(submission)) else { throw .refused("no run was accepted") }
    return run
  }

  /// Cancels a run, by name or identifier. Returns its name.
  @discardableResult
  package func cancel(_ run: String) throws(ClientError) -> String {
    guard case .submitted(_, let name) = try ask(.cancel(run: run)) else {
      throw .refused("run \(run) was not cancelled")
    }
    return name
  }

  /// Hands over the events of a run so far. Replies keep their order, so the answer to a question asked behind `follow` comes
  /// behind the last of them.
  package func story(_ run: String, event: (RunEvent) -> Void) throws(ClientError) {
    send(.follow(run: run))
    send(.status)
    let begun = MonotonicClock.now
    while begun + patience > MonotonicClock.now {
      switch receive(milliseconds: 100) {
      case .event(let happened): event(happened)
      case .refused(let reason): throw .refused(reason)
      case .status: return
      case .welcome, .alive, .assigned, .begin, .stop, .submitted, nil: continue
      }
    }
    throw .transport(.noAnswer(endpoint: endpoint, seconds: patience.inSeconds))
  }

  package func status() throws(ClientError) -> ClusterStatus {
    guard case .status(let status) = try ask(.status) else { throw .refused("the coordinator gave no status") }
    return status
  }

  /// Hands over every event of a run, from its first on, until it has ended. `interrupted` is asked several times a second;
  /// where it says yes the run is cancelled, once.
  package func follow(_ run: String, interrupted: () -> Bool = { false }, event: (RunEvent) -> Void) throws(ClientError)
  {
    send(.follow(run: run))
    var cancelled = false
    var lastSign = MonotonicClock.now
    while true {
      if let reply = receive(milliseconds: 200) {
        switch reply {
        case .event(let happened):
          event(happened)
          if case .state(let state, _) = happened, state.isEnd { return }
        case .refused(let reason): throw .refused(reason)
        case .welcome, .alive, .assigned, .begin, .stop, .submitted, .status: break
        }
      }
      let now = MonotonicClock.now
      if !cancelled && interrupted() {
        cancelled = true
        send(.cancel(run: run))
      }
      // A sign of life is asked for, because a slow run may say nothing for long.
      if lastSign + .seconds(1) < now {
        lastSign = now
        send(.status)
      }
      if lastHeard + patience < now { throw .lost(endpoint: endpoint, seconds: patience.inSeconds) }
    }
  }

  private func ask(_ request: Request) throws(ClientError) -> Reply {
    send(request)
    let begun = MonotonicClock.now
    while begun + patience > MonotonicClock.now {
      guard let reply = receive(milliseconds: 100) else { continue }
      switch reply {
      case .refused(let reason): throw .refused(reason)
      case .event: continue
      case .welcome, .alive, .assigned, .begin, .stop, .submitted, .status: return reply
      }
    }
    throw .transport(.noAnswer(endpoint: endpoint, seconds: patience.inSeconds))
  }

  private func send(_ request: Request) { connection.send(request, at: MonotonicClock.now) }

  private func receive(milliseconds: Int) -> Reply? {
    if !replies.isEmpty { return replies.removeFirst() }
    Poller.wait([connection.socket], nil, timeoutMilliseconds: milliseconds)
    let now = MonotonicClock.now
    connection.receive(at: now) { reply in
      replies.append(reply)
      lastHeard = now
    } restarted: {
    } unreadable: { error in
      switch error {
      case .damagedPacket: break
      case .malformed, .wrongVersion: replies.append(.refused(reason: "\(error)"))
      }
    }
    connection.tick(at: now)
    return replies.isEmpty ? nil : replies.removeFirst()
  }
}
