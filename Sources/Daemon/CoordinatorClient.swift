// A command's conversation with the coordinator: one request, one answer, or the story of a run until it ends. A coordinator
// that dies and comes back is asked again; what was answered before its death counts.

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
  /// What it proves itself with; nil in the clear.
  private let key: PublicKey?
  private var replies: [Reply] = []
  private var lastHeard: Instant
  /// A command waits this long for its answer.
  private let patience: Duration
  private var isAnotherCoordinator = false

  package init(_ endpoint: String, door: Door = .open, patienceSeconds: Double = 10) throws(ClientError) {
    var generator = SystemRandomNumberGenerator()
    do throws(TransportError) {
      connection = try ControlConnection(
        to: endpoint, door: door, incarnation: generator.next() | 1, try SocketContext())
    } catch {
      throw .transport(error)
    }
    self.endpoint = endpoint
    if case .known(let keys, _) = door { key = keys.publicKey } else { key = nil }
    patience = .nanoseconds(Int64(patienceSeconds * 1e9))
    lastHeard = MonotonicClock.now
  }

  /// A submission with a key may be said again, so it is, should the coordinator die over it.
  /// Returns the run, and how many events its story has already.
  package func submit(_ submission: Submission) throws(ClientError) -> (run: RunID, after: Int) {
    guard case .submitted(let run, _, let after) = try ask(.submit(submission), again: submission.key != nil) else {
      throw .refused("no run was accepted")
    }
    return (run, after)
  }

  /// Asks for a change of a run, by name or identifier. Returns what will happen.
  package func change(_ run: String, _ change: RunChange) throws(ClientError) -> String {
    guard case .accepted(_, _, let sentence) = try ask(.change(run: run, change)) else {
      throw .refused("run \(run) was not changed")
    }
    return sentence
  }

  package func status() throws(ClientError) -> ClusterStatus {
    guard case .status(let status) = try ask(.status, again: true) else {
      throw .refused("the coordinator gave no status")
    }
    return status
  }

  /// Hands over the events of a run so far.
  package func story(_ run: String, event: (RunEvent) -> Void) throws(ClientError) {
    var after = 0
    while case .events(_, let first, let events, let isEnd) = try askForStory(run, after: after), !events.isEmpty {
      for (offset, happened) in events.enumerated() where first + offset == after + 1 {
        after += 1
        event(happened)
      }
      if isEnd { return }
    }
  }

  /// A page, or nil where there is none yet: then the answer to the question behind it comes first.
  private func askForStory(_ run: String, after: Int) throws(ClientError) -> Reply? {
    send(.follow(run: run, after: after))
    send(.status)
    let begun = MonotonicClock.now
    while begun + patience > MonotonicClock.now {
      switch receive(milliseconds: 100) {
      case .events(let id, let first, let events, let isEnd):
        return .events(run: id, first: first, events, isEnd: isEnd)
      case .refused(let reason): throw .refused(reason)
      case .status: return nil
      case .welcome, .alive, .assigned, .begin, .halt, .stop, .rewrite, .submitted, .accepted, nil: continue
      }
    }
    throw silence
  }

  /// Hands over every event of a run behind the `after`-th, until it has ended or `event` says that it is enough. `interrupted` is asked several
  /// times a second; where it says yes the run is cancelled, once. A coordinator that is gone is waited for `absence`.
  package func follow(
    _ run: String, after first: Int = 0, absence: Duration? = nil, interrupted: () -> Bool = { false },
    event: (RunEvent) -> Bool
  ) throws(ClientError) {
    var run = run
    var after = first
    var cancelled = false
    var asked = MonotonicClock.now
    lastHeard = asked
    send(.follow(run: run, after: after))
    while true {
      switch receive(milliseconds: 200) {
      case .events(let id, let first, let events, let isEnd):
        // The name may be given to another run meanwhile.
        run = id.description
        // A page that was asked for twice comes twice.
        for (offset, happened) in events.enumerated() where first + offset == after + 1 {
          after += 1
          if event(happened) { return }
        }
        if isEnd && first + events.count - 1 <= after { return }
        asked = MonotonicClock.now
        send(.follow(run: run, after: after))
      case .refused(let reason): throw .refused(reason)
      case .welcome, .alive, .assigned, .begin, .halt, .stop, .rewrite, .submitted, .accepted, .status, nil: break
      }
      let now = MonotonicClock.now
      if !cancelled && interrupted() {
        cancelled = true
        send(.change(run: run, .cancel))
      }
      // Asked again now and then: a sign of life, and the question a new coordinator has not heard.
      if asked + .seconds(1) < now {
        asked = now
        send(.follow(run: run, after: after))
        send(.status)
      }
      let limit = absence ?? patience
      if lastHeard + limit < now { throw .lost(endpoint: endpoint, seconds: limit.inSeconds) }
    }
  }

  private func ask(_ request: Request, again: Bool = false) throws(ClientError) -> Reply {
    send(request)
    let begun = MonotonicClock.now
    while begun + patience > MonotonicClock.now {
      let reply = receive(milliseconds: 100)
      if isAnotherCoordinator {
        isAnotherCoordinator = false
        if again { send(request) }
      }
      switch reply {
      case .refused(let reason): throw .refused(reason)
      case .events, nil: continue
      case .some(let reply): return reply
      }
    }
    throw silence
  }

  /// Nobody answers: for libzmq a key that is not allowed is a line that is dead.
  private var silence: ClientError {
    .transport(
      key.map { .notLetIn(endpoint: endpoint, seconds: patience.inSeconds, key: $0.text) }
        ?? .noAnswer(endpoint: endpoint, seconds: patience.inSeconds))
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
      isAnotherCoordinator = true
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
