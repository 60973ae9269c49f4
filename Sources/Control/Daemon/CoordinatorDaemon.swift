// The coordinator as a process: a socket, a clock, a store and a disk around the pure `Coordinator`. One thread, the
// loop, owns the socket and the value. A queue writes the store, and another does the work in runs' folders, so that
// neither an fsync nor the hashing of a checkpoint delays a heartbeat.
//
// What a turn of the loop decides goes into the outbox, and leaves it once the changes before it are stored. So
// whenever a coordinator dies, its successor knows everything that it has answered.

import Configuration
import Coordination
import Dispatch
import Foundation
import HTTP
import RunFolder
import RunStore
import Synchronization
import Transport
import Wire

#if canImport(Glibc)
  import Glibc
#endif

package final class CoordinatorDaemon: @unchecked Sendable {
  let options: Options
  let port: ControlPort
  private let gatekeeper: Gatekeeper?
  private let http: HTTPServer?
  let dashboard: DashboardState
  private var nextLookOut = MonotonicClock.now
  private let admission: Admission
  private var nextLookAtKeys = MonotonicClock.now
  private let wake: WakeUp
  let inbox: Inbox
  let disk = DispatchQueue(label: "ress.coordinator.disk")
  let boundary: Boundary
  let locks: FolderLocks
  let records: RecordFiles
  var commands: EndCommands?
  var metrics = MetricsKeeper()
  private var refusals = LineLimit()
  /// The clock of the sockets; the coordinator has a clock of its own.
  private var clock = SteadyClock()
  let stopping = Atomic<Bool>(false)
  private let ended = DispatchSemaphore(value: 0)
  var coordinator: Coordinator
  let writer: StoreWriter
  /// The stored events, for the loop.
  let events: StoredEvents
  var outbox = Outbox()
  var questions = Questions()

  /// The address that workers and commands connect to, with its actual port.
  package let endpoint: String

  package init(_ options: Options) throws {
    self.options = options
    let holder = "process \(ProcessInfo.processInfo.processIdentifier) on \(ProcessInfo.processInfo.hostName)"
    let store = try RunStore(path: options.store, holder: holder)
    boundary = Boundary(options.roots)
    locks = FolderLocks(holder: holder, boundary)
    var generator = SystemRandomNumberGenerator()
    let context = try SocketContext()
    let wake = try WakeUp()
    self.wake = wake
    inbox = Inbox(wake)
    var door = Door.open
    let allowList: AllowList?
    if let keys = options.keys {
      let own = try keys.key()
      let list = try AllowList(keys, own: own.publicKey)
      (allowList, gatekeeper) = (list, try Gatekeeper(context) { list.find($0) != nil })
      door = .guarded(own)
    } else {
      (allowList, gatekeeper) = (nil, nil)
    }
    admission = Admission(
      roots: AllowedRoots(options.roots), allowList: allowList, allowsCommands: options.allowsCommands)
    port = try ControlPort(
      listen: options.listen, insecure: options.insecure, door: door, incarnation: generator.next() | 1, context)
    endpoint = port.endpoint
    let dashboard = DashboardState(
      program: options.program, store: options.store == ":memory:" ? nil : options.store, graph: options.graph,
      boundary: boundary, nameOfOwner: { key in allowList?.find(key)?.name ?? String(key.text.prefix(8)) })
    self.dashboard = dashboard
    http = try options.http.map { place throws(HTTPError) in
      try HTTPServer(place, token: options.httpToken, open: DashboardState.open) { dashboard.page($0) }
    }
    coordinator = Coordinator(
      seed: generator.next(), patience: .nanoseconds(Int64(options.patienceSeconds * 1e9)), program: options.program,
      roots: options.roots)
    // What the previous coordinator could not finish.
    var unfinished = try coordinator.restore(
      records: store.runs(), counters: store.value(Coordinator.countersName), at: MonotonicClock.now)
    if options.pausesUnfinished {
      // Checkpoints whose files are all on disk are still committed.
      for action in coordinator.pauseAll("the process that ran it is gone") {
        switch action {
        case .store(let changes): try store.commit(changes)
        // The run ended with the process before this one, and the user is about to continue it.
        case .runCommand: break
        default: unfinished.append(action)
        }
      }
    }
    let log = options.log, alarm = options.alarm, fail = options.fail
    writer = StoreWriter(
      store,
      .init(
        progress: { wake.signal() },
        alarm: { sentence in
          log(sentence)
          alarm?(sentence)
        }, fail: fail ?? log))
    events = try writer.events()
    records = RecordFiles(disk, locks: locks, boundary: boundary, events: try writer.events(), inbox: inbox)
    for action in unfinished { hold(action) }
    if options.allowsCommands {
      commands = EndCommands(boundary) { [inbox] run, sentence in
        log("run \(run): \(sentence)")
        alarm?(sentence)
        inbox.tell(.noted(run, sentence))
      }
    }
  }

  package func start() {
    if http != nil { dashboard.show(coordinator.status(at: MonotonicClock.now), coordinator.details) }
    let thread = Thread { [self] in
      loop()
      ended.signal()
    }
    thread.name = "ress-coordinator"
    thread.start()
  }

  /// Ends the loop and waits for it; disk work and commands that have started are finished.
  package func stop() {
    commands?.end()
    stopping.store(true, ordering: .releasing)
    wake.signal()
    ended.wait()
    disk.sync {}
    completeAllFiles()
    gatekeeper?.close()
    http?.close()
    writer.close()
  }

  deinit { gatekeeper?.close() }

  /// `http://127.0.0.1:7078`; nil without an HTTP server.
  package var httpAddress: String? { http?.address }

  // MARK: The loop

  private func loop() {
    while !stopping.load(ordering: .acquiring), !writer.isBroken {
      options.turned()
      var now = MonotonicClock.now
      let tick = now + .milliseconds(100)
      let isBusy = questions.isDue(mayBeAnswered)
      let due = min(tick, port.nextTick.map { clock.instant(of: $0) } ?? tick)
      port.wait(wake, timeoutMilliseconds: isBusy ? 0 : due.milliseconds(from: now, limit: 100))
      // The coordinator has a steady clock of its own. The silence of the sockets' peers while this process was stopped
      // does not count either.
      now = MonotonicClock.now
      let steady = clock.now(at: now)
      decide(on: arrivals(at: steady), at: now)
      answer(at: now)
      for (run, folder) in metrics.due(at: steady) { hold(.completeMetrics(run, folder: folder)) }
      if http != nil, nextLookOut <= now {
        nextLookOut = now + .milliseconds(500)
        outbox.add(.look(coordinator.status(at: now)), after: writer.added)
      }
      releaseHeld(at: steady)
      while writer.isFull, !stopping.load(ordering: .acquiring) {
        options.turned()
        Poller.wait([], wake, timeoutMilliseconds: 100)
      }
    }
    // What was decided before the end is stored and sent, unless the disk refuses it.
    writer.finish()
    releaseHeld(at: clock.now(at: MonotonicClock.now))
    if !writer.isBroken { farewell() }
  }

  /// All that has happened since the last turn.
  private func arrivals(at steady: Instant) -> [Event] {
    var arrivals: [Event] = []
    lookAtKeys(at: steady)
    port.receive(at: steady) { peer, user, request in
      do throws(Admission.Refusal) {
        arrivals.append(.received(peer, try admission.admit(request, of: user, owner: coordinator.owner)))
      } catch {
        if let complaint = error.complaint { complain(complaint, at: steady) }
        port.send(.refused(reason: error.reason), to: peer, at: steady)
      }
    } unreadable: { peer, error in
      complain("a message of \(peer) was refused: \(error)", at: steady)
      switch error {
      case .damagedPacket: break
      case .malformed, .wrongVersion: port.send(.refused(reason: "\(error)"), to: peer, at: steady)
      }
    }
    let told = inbox.take()
    arrivals += told.events
    for outcome in told.outcomes {
      if let (run, sentence) = metrics.note(outcome, at: steady) { arrivals.append(.noted(run, sentence)) }
    }
    arrivals += port.takeDisconnected().map { .disconnected($0) }
    arrivals.append(.tick)
    let forgotten = port.tick(at: steady)
    for peer in forgotten { questions.forget(peer) }
    for remark in port.takeRemarks() { complain(remark, at: steady) }
    return arrivals + forgotten.map { .forgotten($0) }
  }

  /// Passes the events to the coordinator. All changes of a turn are one batch, before the turn's first effect.
  private func decide(on events: [Event], at now: Instant) {
    var changes: [StoreChange] = []
    var actions: [Action] = []
    for action in coordinator.step(events, at: now) {
      if case .store(let more) = action { changes += more } else { actions.append(action) }
    }
    writer.add(changes)
    for action in actions { hold(action) }
    if http != nil, !changes.isEmpty { outbox.add(.stored(changes), after: writer.added) }
  }

  /// Adds an action to the outbox, with what must be looked up now: the state may have moved on when it is done.
  private func hold(_ action: Action) {
    let effect: Outbox.Effect =
      switch action {
      case .completeMetrics(let run, let folder):
        .completeFiles(run, folder: folder, upTo: coordinator.recordedStep(run) ?? .max)
      case .releaseFolder(let run, let folder):
        .release(run, folder: folder, upTo: coordinator.recordedStep(run) ?? .max)
      default: .action(action)
      }
    outbox.add(effect, after: writer.added)
  }

  /// Does what no longer waits for the store.
  private func releaseHeld(at now: Instant) {
    let stored = writer.stored
    while let effect = outbox.next(stored: stored) { run(effect, at: now) }
  }

  /// Closes the connections of keys that are no longer allowed.
  private func lookAtKeys(at now: Instant) {
    guard let allowList = admission.allowList, nextLookAtKeys <= now else { return }
    nextLookAtKeys = now + .milliseconds(500)
    do throws(KeyError) {
      guard try allowList.refresh() else { return }
      options.log("the list of allowed keys has changed")
      port.cut { allowList.find($0) == nil }
    } catch {
      options.log("the list of allowed keys stays as it was: \(error)")
      nextLookAtKeys = now + .seconds(10)
    }
  }

  /// Logs a refused message; a flood of them leaves few lines.
  func complain(_ line: String, at now: Instant) {
    guard let leftOut = refusals.admit(at: now) else { return }
    options.log(leftOut == 0 ? line : "\(line) (\(leftOut) more refusals before it are not listed)")
  }

  /// Gives the last replies a moment to arrive.
  private func farewell() {
    let deadline = MonotonicClock.now + .milliseconds(500)
    while !port.isIdle && MonotonicClock.now < deadline {
      port.wait(nil, timeoutMilliseconds: 20)
      let now = MonotonicClock.now
      port.receive(at: now) { _, _, _ in
      } unreadable: { _, _ in
      }
      port.tick(at: now)
    }
  }
}
