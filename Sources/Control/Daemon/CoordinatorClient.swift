// A command's connection to the coordinator: one request with one answer, or the story of a run until it ends. If the
// coordinator dies and is started again, the request is repeated; answers from before its death remain valid.

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
      "the coordinator at \(endpoint) has not answered for \(seconds) s; the run may still be running"
    }
  }
}

package final class CoordinatorClient {
  private let connection: ControlConnection
  private let endpoint: String
  /// Its keys; nil without encryption.
  private let key: PublicKey?
  private var replies: [Reply] = []
  private var lastHeard: Instant
  /// A command waits this long for its answer.
  private let patience: Duration
  private var isAnotherCoordinator = false
  /// Why no answer will arrive any more, if that is known.
  package var givesUp: () -> String? = { nil }
  /// Time in which this process itself was stopped (Ctrl-Z) does not count as silence of the coordinator.
  private var clock = SteadyClock()

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
    lastHeard = clock.now(at: MonotonicClock.now)
  }

  /// A submission with a key can safely be repeated, so it is repeated if the coordinator dies before it answers.
  /// Returns the run, its name, and the number of events in its story.
  package func submit(_ submission: Submission) throws(ClientError) -> (run: RunID, name: String, after: Int) {
    guard case .submitted(let run, let name, let after) = try ask(.submit(submission), again: submission.key != nil)
    else {
      throw .refused("no run was accepted")
    }
    return (run, name, after)
  }

  /// Requests a change of a run, by name or identifier. Returns a sentence about what will happen.
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

  /// What a run, by name or identifier, was submitted with.
  package func details(of run: String) throws(ClientError) -> RunDetails {
    guard case .described(let details) = try ask(.describe(run: run), again: true) else {
      throw .refused("run \(run) was not described")
    }
    return details
  }

  /// Passes the events of a run so far to `event`.
  package func story(_ run: String, event: (RunEvent) -> Void) throws(ClientError) {
    // Ask for their number first, so that a late page is not taken for the end.
    let status = try status()
    // An unknown run is refused with the names of the known ones.
    let known = status.run(run)
    let name = known?.id.description ?? run, count = known?.eventCount ?? 1
    var after = 0
    while after < count {
      let (first, events, isEnd) = try page(name, after: after)
      for (offset, happened) in events.enumerated() where first + offset == after + 1 {
        after += 1
        event(happened)
      }
      if isEnd { return }
    }
  }

  private func page(_ run: String, after: Int) throws(ClientError) -> (first: Int, events: [RunEvent], isEnd: Bool) {
    guard case .events(_, let first, let events, let isEnd) = try ask(.follow(run: run, after: after), again: true)
    else { throw .refused("the story of run \(run) was not sent") }
    return (first, events, isEnd)
  }

  /// Passes every event of a run after the `after`-th to `event`, until the run has ended or `event` returns that it is
  /// enough. `wish` is called several times a second for a change of the run, and each change is requested once. Waits
  /// up to `absence` for a coordinator that does not answer.
  package func follow(
    _ run: String, after first: Int = 0, absence: Duration? = nil, wish: () -> RunChange? = { nil },
    event: (RunEvent) -> Bool
  ) throws(ClientError) {
    var run = run
    var after = first
    var wished: RunChange?
    var refusal: (reason: String, at: Instant)?
    var asked = clock.now(at: MonotonicClock.now)
    lastHeard = asked
    send(.follow(run: run, after: after))
    while true {
      switch receive(milliseconds: 200) {
      case .events(let id, let first, let events, let isEnd):
        // The name may be given to another run meanwhile.
        run = id.description
        // A page that was requested twice arrives twice.
        for (offset, happened) in events.enumerated() where first + offset == after + 1 {
          after += 1
          if event(happened) { return }
        }
        if isEnd && first + events.count - 1 <= after { return }
        asked = clock.now(at: MonotonicClock.now)
        send(.follow(run: run, after: after))
      case .refused(let reason):
        guard wished != nil else { throw .refused(reason) }
        refusal = (reason, MonotonicClock.now)
      case .welcome, .alive, .assigned, .begin, .halt, .stop, .rewrite, .unknownWorker, .submitted, .accepted, .status,
        .described,
        nil:
        break
      }
      let now = clock.now(at: MonotonicClock.now)
      if let reason = givesUp() { throw .refused(reason) }
      if let change = wish(), change != wished {
        wished = change
        send(.change(run: run, change))
      }
      // A run that has just ended refuses every change; the event of its end is on the way.
      if let refusal, refusal.at + .seconds(1) < now { throw .refused(refusal.reason) }
      // Repeat the request now and then: it shows that this client is alive, and a new coordinator has not received it
      // yet.
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
    let begun = clock.now(at: MonotonicClock.now)
    while begun + patience > clock.now(at: MonotonicClock.now) {
      let reply = receive(milliseconds: 100)
      if isAnotherCoordinator {
        isAnotherCoordinator = false
        if again { send(request) }
      }
      switch reply {
      case .refused(let reason): throw .refused(reason)
      // Pages of a story that was followed before may still arrive.
      case .some(let reply) where Self.answers(reply, request): return reply
      case .some, nil: continue
      }
    }
    throw silence
  }

  private static func answers(_ reply: Reply, _ request: Request) -> Bool {
    switch (request, reply) {
    case (.submit, .submitted), (.follow, .events), (.change, .accepted), (.status, .status), (.describe, .described):
      true
    default: false
    }
  }

  /// Explains a missing answer: libzmq does not distinguish a key that is not allowed from a dead connection.
  private var silence: ClientError {
    .transport(
      key.map { .notLetIn(endpoint: endpoint, seconds: patience.inSeconds, key: $0.text) }
        ?? .noAnswer(endpoint: endpoint, seconds: patience.inSeconds))
  }

  private func send(_ request: Request) { connection.send(request, at: clock.now(at: MonotonicClock.now)) }

  private func receive(milliseconds: Int) -> Reply? {
    if !replies.isEmpty { return replies.removeFirst() }
    Poller.wait([connection.socket], nil, timeoutMilliseconds: milliseconds)
    let now = clock.now(at: MonotonicClock.now)
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
