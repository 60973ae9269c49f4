// The network thread of a worker: it owns the sockets, keeps heartbeats going while the training thread computes, and hands
// messages over through a mailbox. The training thread never sees a socket.

import Coordination
import Foundation
import Synchronization
import Transport
import Wire

/// What reaches the training thread.
package enum WorkerEvent: Sendable {
  case assigned(Assignment)
  case begin(generation: UInt32)
  case data(DataMessage)
  case stop(generation: UInt32, reason: String)
  case exit(reason: String)
}

package final class WorkerNetwork: @unchecked Sendable {
  package struct Options: Sendable {
    package var coordinator: String
    /// Where peers reach this worker; a wildcard port is resolved.
    package var listen: String
    package var insecure = false
    package var description: WorkerDescription
    package var joinWithinSeconds = 30.0
    package var log: @Sendable (String) -> Void = { _ in }

    package init(coordinator: String, listen: String, description: WorkerDescription) {
      self.coordinator = coordinator
      self.listen = listen
      self.description = description
    }
  }

  private enum Outgoing {
    case data(DataMessage, to: Int)
    case report(Request)
    case close(reason: String)
  }

  private let options: Options
  private let control: ControlConnection
  private let data: DataPort
  private let wake: WakeUp
  private let mailbox = Mailbox<WorkerEvent>()
  private let outgoing = Mutex<[Outgoing]>([])
  private let heartbeat = Mutex<Heartbeat>(Heartbeat())
  private let ended = DispatchSemaphore(value: 0)
  private var session: WorkerSession

  package init(_ options: Options) throws(TransportError) {
    var generator = SystemRandomNumberGenerator()
    let context = try SocketContext()
    wake = try WakeUp()
    data = try DataPort(listen: options.listen, insecure: options.insecure, context)
    control = try ControlConnection(to: options.coordinator, incarnation: generator.next() | 1, context)
    var options = options
    options.description.dataAddress = data.endpoint
    self.options = options
    session = WorkerSession(
      options.description, endpoint: options.coordinator,
      joinWithin: .nanoseconds(Int64(options.joinWithinSeconds * 1e9)), at: MonotonicClock.now)
  }

  package func start() {
    let thread = Thread { [self] in
      loop()
      ended.signal()
    }
    thread.name = "ress-network"
    thread.start()
  }

  // MARK: for the training thread

  /// Blocks until something comes; nil after the timeout.
  package func next(timeout: Duration? = nil) -> WorkerEvent? { mailbox.take(timeout: timeout) }

  /// Why the generation in hand is over, if it is. Never blocks, and leaves the event to be taken.
  package func stopReason() -> String? {
    mailbox.first {
      switch $0 {
      case .stop(_, let reason), .exit(let reason): reason
      case .assigned, .begin, .data: nil
      }
    }
  }

  package func send(_ message: DataMessage, to index: Int) { put(.data(message, to: index)) }

  package func report(_ request: Request) { put(.report(request)) }

  /// What the next heartbeats say.
  package func note(_ state: Heartbeat) { heartbeat.withLock { $0 = state } }

  /// Says goodbye and ends the thread.
  package func close(reason: String) {
    put(.close(reason: reason))
    ended.wait()
  }

  private func put(_ item: Outgoing) {
    outgoing.withLock { $0.append(item) }
    wake.signal()
  }

  // MARK: the network thread

  private func loop() {
    while true {
      var now = MonotonicClock.now
      var due = session.nextTick(after: now)
      for tick in [control.nextTick, data.nextTick] { if let tick { due = min(due, tick) } }
      Poller.wait(
        [control.socket] + data.sockets, wake, timeoutMilliseconds: due.milliseconds(from: now, limit: 250))
      now = MonotonicClock.now

      // Data first: rows are what somebody waits for.
      data.receive(at: now) {
        mailbox.put(.data($0))
      } unreadable: {
        options.log($0)
      }
      let items = outgoing.withLock { waiting in
        defer { waiting = [] }
        return waiting
      }
      for item in items {
        switch item {
        case .data(let message, let index): data.send(message, to: index, at: now)
        case .report(let request): control.send(request, at: now)
        case .close(let reason): return farewell(reason)
        }
      }
      control.receive(at: now) { reply in
        apply(session.receive(reply, at: now), at: now)
      } restarted: {
        apply(session.coordinatorRestarted(at: now), at: now)
      } unreadable: {
        apply(session.unreadable($0), at: now)
      }
      apply(session.tick(heartbeat.withLock { $0 }, at: now), at: now)
      control.tick(at: now)
      data.tick(at: now)
    }
  }

  private func apply(_ effects: [WorkerSession.Effect], at now: Instant) {
    for effect in effects {
      switch effect {
      case .send(let request): control.send(request, at: now)
      case .log(let line): options.log(line)
      case .begin(let generation): mailbox.put(.begin(generation: generation))
      case .exit(let reason): mailbox.put(.exit(reason: reason))
      case .assigned(let assignment):
        do throws(TransportError) {
          try data.open(assignment)
          mailbox.put(.assigned(assignment))
        } catch {
          control.send(.failed(generation: assignment.generation, reason: "\(error)"), at: now)
        }
      case .stop(let generation, let reason):
        // What the generation's peers still said is of no use to anyone.
        mailbox.removeAll { if case .data = $0 { true } else { false } }
        data.close()
        mailbox.put(.stop(generation: generation, reason: reason))
      }
    }
  }

  /// Gives the last words, and what peers have not acknowledged, a moment to arrive.
  private func farewell(_ reason: String) {
    control.send(.goodbye(reason: reason), at: MonotonicClock.now)
    let deadline = MonotonicClock.now + .seconds(1)
    while !(control.isIdle && data.isIdle) && MonotonicClock.now < deadline {
      Poller.wait([control.socket] + data.sockets, nil, timeoutMilliseconds: 20)
      let now = MonotonicClock.now
      data.receive(at: now) { _ in
      } unreadable: { _ in
      }
      control.receive(at: now) { _ in
      } restarted: {
      } unreadable: { _ in
      }
      control.tick(at: now)
      data.tick(at: now)
    }
  }
}
