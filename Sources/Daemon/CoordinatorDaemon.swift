// The coordinator as a process: a socket, a clock, a store and a disk around the pure `Coordinator`. One thread owns the
// socket, the value and the store; another does disk work, so that hashing a checkpoint never keeps a heartbeat waiting.
//
// Each turn's changes are committed to the store before anything else is done, so a coordinator that dies at any moment is
// followed by one that knows all that the dead one has answered.

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

package final class CoordinatorDaemon: @unchecked Sendable {
  package struct Options: Sendable {
    package var listen: String
    package var insecure = false
    /// Keys, and who may come in; nil: anyone who reaches the address, in the clear.
    package var keys: KeyFolder?
    /// Folders that runs may read and write below; none: all.
    package var roots: [String] = []
    /// Where HTTP shows numbers, `HOST:PORT`, and the word that a visitor must say; nil: nowhere.
    package var http: String?
    package var httpToken: String?
    /// Computes the token graph of a sample for those who look at a run, as JSON (`ress graph`); nil: nobody does.
    package var graph: (@Sendable (GraphQuestion) throws(GraphError) -> [UInt8])?
    package var patienceSeconds = 10.0
    package var program: String
    /// The file of what must not be forgotten; `:memory:` forgets.
    package var store = ":memory:"
    /// Runs that the coordinator before left unfinished lost their workers with it, and wait for somebody to resume them.
    package var pausesUnfinished = false
    package var log: @Sendable (String) -> Void = { _ in }
    /// Called by the loop several times a second, for a watchdog.
    package var turned: @Sendable () -> Void = {}
    /// The store cannot be written: nothing more is answered, and the process should end.
    package var fail: @Sendable (String) -> Void = { fatalError($0) }

    package init(listen: String, program: String) {
      self.listen = listen
      self.program = program
    }
  }

  private let options: Options
  private let port: ControlPort
  private let gatekeeper: Gatekeeper?
  private let http: HTTPServer?
  private let window: Window
  private var nextLookOut = MonotonicClock.now
  private let allowList: AllowList?
  private let roots: AllowedRoots
  private let boundary: Boundary
  private var nextLookAtKeys = MonotonicClock.now
  private let wake: WakeUp
  private let disk = DispatchQueue(label: "ress.coordinator.disk")
  private let fromDisk = Mutex<[Event]>([])
  private let stopping = Atomic<Bool>(false)
  private let ended = DispatchSemaphore(value: 0)
  private var coordinator: Coordinator
  private let store: RunStore
  private var questions = Questions()
  /// Of one turn: some 25 ms each where a run has a long story.
  private static let answersATurn = 2
  /// What the coordinator before could not finish.
  private var unfinished: [Action]

  /// The address that workers and commands connect to, with its actual port.
  package let endpoint: String

  package init(_ options: Options) throws {
    self.options = options
    store = try RunStore(
      path: options.store,
      holder: "process \(ProcessInfo.processInfo.processIdentifier) on \(ProcessInfo.processInfo.hostName)")
    var generator = SystemRandomNumberGenerator()
    let context = try SocketContext()
    wake = try WakeUp()
    roots = AllowedRoots(options.roots)
    boundary = Boundary(options.roots)
    var door = Door.open
    if let keys = options.keys {
      let own = try keys.key()
      let list = try AllowList(keys, own: own.publicKey)
      (allowList, gatekeeper) = (list, try Gatekeeper(context) { list.find($0) != nil })
      door = .guarded(own)
    } else {
      (allowList, gatekeeper) = (nil, nil)
    }
    port = try ControlPort(
      listen: options.listen, insecure: options.insecure, door: door, incarnation: generator.next() | 1, context)
    endpoint = port.endpoint
    let window = Window(
      program: options.program, store: options.store == ":memory:" ? nil : options.store, graph: options.graph)
    self.window = window
    http = try options.http.map { place throws(HTTPError) in
      try HTTPServer(place, token: options.httpToken, open: Window.open) { window.page($0) }
    }
    coordinator = Coordinator(
      seed: generator.next(), patience: .nanoseconds(Int64(options.patienceSeconds * 1e9)), program: options.program,
      roots: options.roots)
    unfinished = try coordinator.restore(
      records: store.runs(), counters: store.value(Coordinator.countersName), at: MonotonicClock.now)
    if options.pausesUnfinished {
      // Checkpoints whose files are all on disk are committed all the same.
      for action in coordinator.pauseAll("the process that ran it is gone") {
        if case .store(let changes) = action { try store.commit(changes) } else { unfinished.append(action) }
      }
    }
  }

  package func start() {
    if http != nil { window.show(coordinator.status(at: MonotonicClock.now)) }
    let thread = Thread { [self] in
      loop()
      ended.signal()
    }
    thread.name = "ress-coordinator"
    thread.start()
  }

  /// Ends the loop and waits for it; disk work that was begun is finished.
  package func stop() {
    stopping.store(true, ordering: .releasing)
    wake.signal()
    ended.wait()
    disk.sync {}
    gatekeeper?.close()
    http?.close()
    store.close()
  }

  deinit { gatekeeper?.close() }

  /// `http://127.0.0.1:7078`; nil where nothing is shown.
  package var httpAddress: String? { http?.address }

  // MARK: Who may ask for what

  /// The request as it counts; nil where it was refused.
  private func admit(_ request: Request, of user: PublicKey?, from peer: PeerID, at now: Instant) -> Request? {
    var request = request
    if case .submit(var submission) = request {
      if let complaint = roots.complaint(submission) {
        port.send(.refused(reason: complaint), to: peer, at: now)
        return nil
      }
      submission.owner = user
      request = .submit(submission)
    }
    guard let allowList else { return request }
    if case .hello(var description, let heartbeat) = request {
      // The name of a worker belongs to the key that it has proved, whatever it says of itself.
      description.publicKey = user
      request = .hello(description, heartbeat)
    }
    let known = user.flatMap { allowList.find($0) }
    guard let known, known.role.allows(request, isOwner: isOwner(user, of: request)) else {
      let role = known.map { "'\($0.role.rawValue)'" } ?? "none"
      options.log("refused a request of \(known?.name ?? "an unknown key"), whose role is \(role)")
      port.send(
        .refused(
          reason:
            "your key has the role \(role), which may not do this; whoever runs the coordinator gives another with: "
            + "ress keys allow '\(user?.text ?? "KEY")' --role ROLE"), to: peer, at: now)
      return nil
    }
    return request
  }

  private func isOwner(_ user: PublicKey?, of request: Request) -> Bool {
    switch request {
    case .change(let run, _): user != nil && coordinator.owner(of: run) == user
    case .submit(let submission): user != nil && coordinator.owner(of: submission.configuration.run) == user
    case .hello, .heartbeat, .report, .goodbye, .follow, .status: false
    }
  }

  /// Cuts the connections of keys that may come in no more.
  private func lookAtKeys(at now: Instant) {
    guard let allowList, nextLookAtKeys <= now else { return }
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

  private func loop() {
    for action in unfinished { run(action, at: MonotonicClock.now) }
    while !stopping.load(ordering: .acquiring) {
      options.turned()
      var now = MonotonicClock.now
      let tick = now + .milliseconds(100)
      let isBusy = questions.isDue(port.hasTakenAll)
      port.wait(
        wake, timeoutMilliseconds: isBusy ? 0 : min(tick, port.nextTick ?? tick).milliseconds(from: now, limit: 100))
      now = MonotonicClock.now
      var events: [Event] = []
      lookAtKeys(at: now)
      port.receive(at: now) { peer, user, request in
        if let admitted = admit(request, of: user, from: peer, at: now) { events.append(.received(peer, admitted)) }
      } unreadable: { peer, error in
        options.log("a message of \(peer) was refused: \(error)")
        switch error {
        case .damagedPacket: break
        case .malformed, .wrongVersion: port.send(.refused(reason: "\(error)"), to: peer, at: now)
        }
      }
      events += fromDisk.withLock { waiting in
        defer { waiting = [] }
        return waiting
      }
      events += port.takeDisconnected().map { .disconnected($0) }
      events.append(.tick)
      let forgotten = port.tick(at: now)
      for peer in forgotten { questions.forget(peer) }
      for remark in port.takeRemarks() { options.log(remark) }
      events += forgotten.map { .forgotten($0) }
      // One transaction for all of them, before the first answer.
      var changes: [StoreChange] = []
      var actions: [Action] = []
      for event in events {
        for action in coordinator.step(event, at: now) {
          if case .store(let more) = action { changes += more } else { actions.append(action) }
        }
      }
      do throws(StoreError) { if !changes.isEmpty { try store.commit(changes) } } catch {
        return options.fail("\(error); nothing that was not stored was answered, and running workers go on")
      }
      for action in actions { run(action, at: now) }
      answer(at: now)
      if http != nil, !changes.isEmpty { window.take(changes) }
      if http != nil, nextLookOut <= now {
        nextLookOut = now + .milliseconds(500)
        window.show(coordinator.status(at: now))
      }
    }
    farewell()
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

  private func run(_ action: Action, at now: Instant) {
    let log = options.log, boundary = boundary
    switch action {
    case .store: preconditionFailure("changes are committed before actions are run")
    case .send(let peer, let reply): port.send(reply, to: peer, at: now)
    case .sendEvents(let peer, let id, let after, let count, let ended):
      questions.ask(.page(id, after: after, count: count, ended: ended), peer, of: port.user(of: peer))
    case .sendStatus(let peer): questions.ask(.status, peer, of: port.user(of: peer))
    case .log(let line): options.log(line)
    case .prepareRun(let id, let submission, let again):
      onDisk { .prepared(id, RunPreparation.prepare(id, submission, again: again, boundary)) }
    case .commit(let id, let unsigned, let folder):
      onDisk { RunPreparation.commit(id, unsigned, folder: folder, boundary, log: log) }
    case .completeMetrics(let id, let folder):
      let (curve, router) = storedLines(id)
      disk.async {
        do throws(FolderError) {
          try boundary.within(folder) { (pinned) throws(FolderError) in
            try MetricsFile(folder: pinned.path).complete(curve)
            if !router.isEmpty { try MetricsFile(routerIn: pinned.path).complete(router) }
          }
        } catch {
          log("\(error)")
        }
      }
    case .prove(let checkpoint, let mark):
      disk.async { RunPreparation.prove(checkpoint, mark, boundary, log: log) }
    case .record(_, let event, let folder):
      disk.async {
        do throws(FolderError) {
          try boundary.within(folder) { (pinned) throws(FolderError) in
            try event.recordFile(in: pinned.path).append(event.metricsLine)
          }
        } catch { log("\(error)") }
      }
    }
  }

  /// Answers some of the questions that wait.
  private func answer(at now: Instant) {
    for _ in 0..<Self.answersATurn {
      guard let (peer, question) = questions.next(port.hasTakenAll) else { return }
      switch question {
      case .status: port.send(.status(coordinator.status(at: now)), to: peer, at: now)
      case .page(let id, let after, let count, let ended):
        do {
          let events = try page(id, after: after)
          let isEnd = ended && after + events.count >= count
          port.send(.events(run: id, first: after + 1, events, isEnd: isEnd), to: peer, at: now)
        } catch {
          port.send(.refused(reason: "the events of run \(id) cannot be read: \(error)"), to: peer, at: now)
        }
      }
    }
  }

  /// What the run's records should hold, as far as the store tells.
  private func storedLines(_ id: RunID) -> (curve: [String], router: [String]) {
    var curve: [String] = [], router: [String] = []
    var after = 0
    while let rows = try? store.events(of: id, after: after, limit: 1024), let last = rows.last {
      after = last.number
      for row in rows {
        switch try? RecordCodec.decode(RunEvent.self, from: row.event) {
        case .stepped(let record)?: curve.append(RunEvent.stepped(record).metricsLine)
        case .evaluated(let record)?: curve.append(RunEvent.evaluated(record).metricsLine)
        case .examined(let record)?: router.append(RunEvent.examined(record).metricsLine)
        case .began?, .state?, .placed?, .saved?, .said?, nil: break
        }
      }
    }
    return (curve, router)
  }

  /// Events that fit into one message.
  private func page(_ id: RunID, after: Int) throws -> [RunEvent] {
    var events: [RunEvent] = []
    var byteCount = 0
    for row in try store.events(of: id, after: after, limit: 512) {
      byteCount += row.event.count
      if byteCount > CoordinatorDaemon.pageBytes && !events.isEmpty { break }
      events.append(try RecordCodec.decode(RunEvent.self, from: row.event))
    }
    return events
  }

  private static let pageBytes = 1 << 20

  private func onDisk(_ work: @escaping @Sendable () -> Event) {
    disk.async { [self] in
      let event = work()
      fromDisk.withLock { $0.append(event) }
      wake.signal()
    }
  }
}
