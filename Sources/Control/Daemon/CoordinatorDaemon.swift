// The coordinator as a process: a socket, a clock, a store and a disk around the pure `Coordinator`. One thread owns the
// socket, the value and the store; another does disk work, so that hashing a checkpoint never delays a heartbeat.
//
// The changes of each turn are committed to the store before anything else is done. So whenever a coordinator dies, its successor
// knows everything that it has answered.

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
  package struct Options: Sendable {
    package var listen: String
    package var insecure = false
    /// The coordinator's key and the allowed keys; nil: every process that reaches the address may connect, without encryption.
    package var keys: KeyFolder?
    /// Folders below which runs may read and write; empty: all folders.
    package var roots: [String] = []
    /// Whether the commands of `cluster.on_end` are run, with the rights of this process.
    package var allowsCommands = false
    /// The address of the HTTP server, `HOST:PORT`, and the bearer token that clients must send; nil: no server.
    package var http: String?
    package var httpToken: String?
    /// Computes the token graph of a sample for the dashboard, as JSON (`ress graph`); nil: there are no graphs.
    package var graph: (@Sendable (GraphQuestion) throws(GraphError) -> [UInt8])?
    package var patienceSeconds = 10.0
    package var program: String
    /// The file of the store; `:memory:` stores nothing.
    package var store = ":memory:"
    /// Runs that the previous coordinator left unfinished lost their workers with it, and are paused until a user resumes them.
    package var pausesUnfinished = false
    package var log: @Sendable (String) -> Void = { _ in }
    /// Called several times a second by the loop, for a watchdog.
    package var turned: @Sendable () -> Void = {}
    /// A message that the user should see at once, because it cannot be stored.
    package var alarm: (@Sendable (String) -> Void)?
    /// Called when the store is broken: nothing more is answered, and the process should end.
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
  private let dashboard: DashboardState
  private var nextLookOut = MonotonicClock.now
  private let allowList: AllowList?
  private let roots: AllowedRoots
  private let boundary: Boundary
  private var nextLookAtKeys = MonotonicClock.now
  private let wake: WakeUp
  private let disk = DispatchQueue(label: "ress.coordinator.disk")
  private let fromDisk = Mutex<(events: [Event], metrics: [MetricsKeeper.Outcome])>(([], []))
  private let locks: FolderLocks
  private var commands: EndCommands?
  private var metrics = MetricsKeeper()
  private var refusals = LineLimit()
  /// The clock of the sockets; the coordinator has a clock of its own.
  private var clock = SteadyClock()
  private let stopping = Atomic<Bool>(false)
  private let ended = DispatchSemaphore(value: 0)
  private var coordinator: Coordinator
  private let store: RunStore
  private var questions = Questions()
  /// Requests that are answered in one turn: about 25 ms each if a run has a long story.
  private static let answersATurn = 2
  /// Work that the previous coordinator could not finish.
  private var unfinished: [Action]

  /// The address that workers and commands connect to, with its actual port.
  package let endpoint: String

  package init(_ options: Options) throws {
    self.options = options
    let holder = "process \(ProcessInfo.processInfo.processIdentifier) on \(ProcessInfo.processInfo.hostName)"
    store = try RunStore(path: options.store, holder: holder)
    boundary = Boundary(options.roots)
    locks = FolderLocks(holder: holder, boundary)
    var generator = SystemRandomNumberGenerator()
    let context = try SocketContext()
    wake = try WakeUp()
    roots = AllowedRoots(options.roots)
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
    let dashboard = DashboardState(
      program: options.program, store: options.store == ":memory:" ? nil : options.store, graph: options.graph,
      boundary: boundary, nameOfOwner: { [allowList] key in allowList?.find(key)?.name ?? String(key.text.prefix(8)) })
    self.dashboard = dashboard
    http = try options.http.map { place throws(HTTPError) in
      try HTTPServer(place, token: options.httpToken, open: DashboardState.open) { dashboard.page($0) }
    }
    coordinator = Coordinator(
      seed: generator.next(), patience: .nanoseconds(Int64(options.patienceSeconds * 1e9)), program: options.program,
      roots: options.roots)
    unfinished = try coordinator.restore(
      records: store.runs(), counters: store.value(Coordinator.countersName), at: MonotonicClock.now)
    if options.pausesUnfinished {
      // Checkpoints whose files are all on disk are still committed.
      for action in coordinator.pauseAll("the process that ran it is gone") {
        switch action {
        case .store(let changes): try store.commit(changes)
        // The run ended with the process before this one, and the user is about to go on with it.
        case .runCommand: break
        default: unfinished.append(action)
        }
      }
    }
    if options.allowsCommands {
      commands = EndCommands(boundary) { [unowned self] run, sentence in
        self.options.log("run \(run): \(sentence)")
        self.options.alarm?(sentence)
        tell(.noted(run, sentence))
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
    mendAll()
    gatekeeper?.close()
    http?.close()
    store.close()
  }

  deinit { gatekeeper?.close() }

  /// `http://127.0.0.1:7078`; nil without an HTTP server.
  package var httpAddress: String? { http?.address }

  // MARK: Admission of requests

  /// The request in the form that is passed on; nil if it was refused.
  private func admit(_ request: Request, of user: PublicKey?, from peer: PeerID, at now: Instant) -> Request? {
    var request = request
    if case .submit(var submission) = request {
      if let complaint = roots.complaint(submission) {
        port.send(.refused(reason: complaint), to: peer, at: now)
        return nil
      }
      if !submission.configuration.cluster.onEnd.isEmpty, !options.allowsCommands {
        port.send(
          .refused(
            reason:
              "cluster.on_end is a command, and this coordinator runs no commands of users; leave it out with --set cluster.on_end=null, or "
              + "ask the administrator to start it with --allow-commands"), to: peer, at: now)
        return nil
      }
      submission.owner = user
      request = .submit(submission)
    }
    guard let allowList else { return request }
    if case .hello(var description, let heartbeat) = request {
      // The name of a worker belongs to the key of its connection, whatever key the message contains.
      description.publicKey = user
      request = .hello(description, heartbeat)
    }
    let known = user.flatMap { allowList.find($0) }
    guard let known, known.role.allows(request, isOwner: isOwner(user, of: request)) else {
      let role = known.map { "'\($0.role.rawValue)'" } ?? "none"
      complain("refused a request of \(known?.name ?? "an unknown key"), whose role is \(role)", at: now)
      port.send(
        .refused(
          reason:
            "your key has the role \(role), which may not do this; the coordinator's administrator can change it with: "
            + "ress keys allow '\(user?.text ?? "KEY")' --role ROLE"), to: peer, at: now)
      return nil
    }
    return request
  }

  private func isOwner(_ user: PublicKey?, of request: Request) -> Bool {
    switch request {
    case .change(let run, _): user != nil && coordinator.owner(of: run) == user
    case .submit(let submission): user != nil && coordinator.owner(of: submission.configuration.run) == user
    case .hello, .heartbeat, .report, .goodbye, .follow, .status, .describe: false
    }
  }

  /// Closes the connections of keys that are no longer allowed.
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
      let due = min(tick, port.nextTick.map { clock.instant(of: $0) } ?? tick)
      port.wait(wake, timeoutMilliseconds: isBusy ? 0 : due.milliseconds(from: now, limit: 100))
      // The coordinator has a steady clock of its own. The silence of the sockets' peers while this process was stopped does not
      // count either.
      now = MonotonicClock.now
      let steady = clock.now(at: now)
      var events: [Event] = []
      lookAtKeys(at: now)
      port.receive(at: steady) { peer, user, request in
        if let admitted = admit(request, of: user, from: peer, at: steady) { events.append(.received(peer, admitted)) }
      } unreadable: { peer, error in
        complain("a message of \(peer) was refused: \(error)", at: steady)
        switch error {
        case .damagedPacket: break
        case .malformed, .wrongVersion: port.send(.refused(reason: "\(error)"), to: peer, at: steady)
        }
      }
      let (finished, outcomes) = fromDisk.withLock { waiting in
        defer { waiting = ([], []) }
        return waiting
      }
      events += finished
      for outcome in outcomes {
        if let (run, sentence) = metrics.note(outcome, at: steady) { events.append(.noted(run, sentence)) }
      }
      events += port.takeDisconnected().map { .disconnected($0) }
      events.append(.tick)
      let forgotten = port.tick(at: steady)
      for peer in forgotten { questions.forget(peer) }
      for remark in port.takeRemarks() { complain(remark, at: steady) }
      events += forgotten.map { .forgotten($0) }
      // One transaction for all changes, before the first answer.
      var changes: [StoreChange] = []
      var actions: [Action] = []
      for event in events {
        for action in coordinator.step(event, at: now) {
          if case .store(let more) = action { changes += more } else { actions.append(action) }
        }
      }
      guard changes.isEmpty || commit(changes) else { return }
      for action in actions { run(action, at: steady) }
      answer(at: now, steady: steady)
      for (run, folder) in metrics.due(at: steady) { mend(run, folder) }
      if http != nil, !changes.isEmpty { dashboard.take(changes) }
      if http != nil, nextLookOut <= now {
        nextLookOut = now + .milliseconds(500)
        dashboard.show(coordinator.status(at: now), coordinator.details)
      }
    }
    farewell()
  }

  /// Stores a turn's changes. A write that fails because the disk is full or does not respond is repeated: until it succeeds nothing is
  /// answered, and workers keep training. Returns false if the store is broken or the process is to end.
  private func commit(_ changes: [StoreChange]) -> Bool {
    var saidAt: Instant?
    while true {
      do throws(StoreError) {
        try store.commit(changes)
        if saidAt != nil {
          options.log("the store can be written again")
          options.alarm?("the store can be written again")
        }
        return true
      } catch {
        guard error.isPassing else {
          options.fail("\(error); nothing that was not stored was answered, and running workers go on")
          return false
        }
        if stopping.load(ordering: .acquiring) { return false }
        options.turned()
        let now = MonotonicClock.now
        if saidAt.map({ $0 + .seconds(60) < now }) ?? true {
          saidAt = now
          let sentence = "\(error); nothing is answered until that is possible again, and workers train on"
          options.log(sentence)
          options.alarm?(sentence)
        }
        Poller.wait([], wake, timeoutMilliseconds: 500)
      }
    }
  }

  /// Logs a refused message; a flood of them leaves few lines.
  private func complain(_ line: String, at now: Instant) {
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

  private func run(_ action: Action, at now: Instant) {
    let log = options.log, boundary = boundary
    switch action {
    case .store: preconditionFailure("changes are committed before actions are run")
    case .send(let peer, let reply): port.send(reply, to: peer, at: now)
    case .sendEvents(let peer, let id, let after, let count, let ended):
      questions.ask(.page(id, after: after, count: count, ended: ended), peer, of: port.user(of: peer))
    case .sendStatus(let peer): questions.ask(.status, peer, of: port.user(of: peer))
    case .sendDetails(let peer, let id): questions.ask(.details(id), peer, of: port.user(of: peer))
    case .log(let line): options.log(line)
    case .complain(let line): complain(line, at: now)
    case .takeFolder(let id, let folder):
      disk.async { [self] in
        do throws(FolderError) { if access(folder, F_OK) == 0 { try locks.take(folder) } } catch {
          tell(.folderTaken(id, reason: "\(error)"))
        }
      }
    case .releaseFolder(let id, let folder):
      for (run, folder) in metrics.due(at: now, ending: id) { mend(run, folder) }
      disk.async { [locks] in locks.release(folder) }
    case .prepareRun(let id, let submission, let again, let from): prepare(id, submission, again: again, from: from)
    case .commit(let id, let unsigned, let folder):
      onDisk { [locks] in
        do throws(FolderError) {
          return try locks.during(folder) {
            RunFolderWork.commit(id, unsigned, folder: folder, boundary, log: log)
          }
        } catch {
          return .commitFailed(id, step: unsigned.step, reason: "\(error)")
        }
      }
    case .completeMetrics(let id, let folder): mend(id, folder)
    // A run of the store may have been submitted to a coordinator that allowed commands.
    case .runCommand(let id, let ending):
      guard let commands else {
        options.log("run \(ending.name): cluster.on_end is not run, because --allow-commands is not given")
        return
      }
      commands.start(id, ending)
    case .prove(let checkpoint, let mark):
      disk.async { RunFolderWork.prove(checkpoint, mark, boundary, log: log) }
    case .record(let id, let event, let folder):
      guard metrics.appends(id) else { return }
      disk.async { [self] in
        do throws(FolderError) {
          try boundary.within(folder) { (pinned) throws(FolderError) in
            try event.recordFile(in: pinned.path).append(event.metricsLine)
          }
        } catch {
          tell(.lineFailed(id, folder: folder, reason: "\(error)"))
        }
      }
    }
  }

  /// Answers some of the queued questions.
  /// - Parameters:
  ///   - now: the time of the coordinator, which has a steady clock of its own.
  ///   - steady: the time of the sockets.
  private func answer(at now: Instant, steady: Instant) {
    for _ in 0..<Self.answersATurn {
      guard let (peer, question) = questions.next(port.hasTakenAll) else { return }
      switch question {
      case .status: port.send(.status(coordinator.status(at: now)), to: peer, at: steady)
      case .details(let id):
        let details = coordinator.details(of: id)
        port.send(details.map { .described($0) } ?? .refused(reason: "run \(id) was forgotten"), to: peer, at: steady)
      case .page(let id, let after, let count, let ended):
        do {
          let events = try page(id, after: after)
          let isEnd = ended && after + events.count >= count
          port.send(.events(run: id, first: after + 1, events, isEnd: isEnd), to: peer, at: steady)
        } catch {
          port.send(.refused(reason: "the events of run \(id) cannot be read: \(error)"), to: peer, at: steady)
        }
      }
    }
  }

  /// Checks a run's folder while holding its lock, which is kept if the run is ready. A failure that may pass is retried for a while.
  private func prepare(
    _ id: RunID, _ submission: Submission, again: Bool, from: WeightSource?, attempts: Int = 30
  ) {
    disk.async { [self] in
      do throws(FolderError) {
        let (preparation, note) = try locks.prepare(FolderLocks.folder(of: submission)) { () throws(FolderError) in
          try RunFolderWork.prepare(id, submission, again: again, from: from, boundary)
        }
        if let note { tell(.noted(id, note)) }
        tell(.prepared(id, preparation))
      } catch {
        guard error.isPassing, attempts > 0, !stopping.load(ordering: .acquiring) else {
          return tell(.prepared(id, .refused(reason: "\(error)")))
        }
        DispatchQueue.global().asyncAfter(deadline: .now() + 1) { [self] in
          prepare(id, submission, again: again, from: from, attempts: attempts - 1)
        }
      }
    }
  }

  /// Completes a run's record files from the store, if anything is missing in them.
  private func mend(_ id: RunID, _ folder: String) {
    let (curve, router) = storedLines(id, upTo: coordinator.recordedStep(id) ?? .max)
    disk.async { [self] in
      do throws(FolderError) {
        try locks.during(folder) { () throws(FolderError) in
          try boundary.within(folder) { (pinned) throws(FolderError) in
            try MetricsFile(folder: pinned.path).complete(curve)
            if !router.isEmpty { try MetricsFile(routerIn: pinned.path).complete(router) }
          }
        }
        tell(.mended(id))
      } catch {
        tell(.mendingFailed(id, folder: folder, reason: "\(error)"))
      }
    }
  }

  /// At the end of the process, after its loop: completes all record files.
  private func mendAll() {
    for outcome in fromDisk.withLock({ $0.metrics }) { _ = metrics.note(outcome, at: MonotonicClock.now) }
    for (run, folder) in metrics.due(at: Instant(nanoseconds: .max)) { mend(run, folder) }
    disk.sync {}
  }

  private func tell(_ outcome: MetricsKeeper.Outcome) {
    fromDisk.withLock { $0.metrics.append(outcome) }
    wake.signal()
  }

  private func tell(_ event: Event) {
    fromDisk.withLock { $0.events.append(event) }
    wake.signal()
  }

  /// The lines that the run's record files should contain according to the store: one curve, of the steps that count.
  private func storedLines(_ id: RunID, upTo recorded: Int) -> (curve: [String], router: [String]) {
    var curve: [(step: Int, line: String)] = [], router: [(step: Int, line: String)] = []
    // A run that continued from an older step, with other numbers, has dropped its later steps.
    func keep(_ lines: inout [(step: Int, line: String)], _ step: Int, _ event: RunEvent) {
      if case .stepped = event { while let last = lines.last, last.step >= step { lines.removeLast() } }
      if step <= recorded { lines.append((step, event.metricsLine)) }
    }
    var after = 0
    while let rows = try? store.events(of: id, after: after, limit: 1024), let last = rows.last {
      after = last.number
      for row in rows {
        switch try? RecordCodec.decode(RunEvent.self, from: row.event) {
        case .stepped(let record)?:
          router.removeAll { $0.step >= record.step }
          keep(&curve, record.step, .stepped(record))
        case .evaluated(let record)?: keep(&curve, record.step, .evaluated(record))
        case .examined(let record)?: keep(&router, record.step, .examined(record))
        case .began?, .state?, .placed?, .saved?, .said?, nil: break
        }
      }
    }
    return (curve.map(\.line), router.map(\.line))
  }

  /// The events that fit into one message.
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
      tell(work())
    }
  }
}
