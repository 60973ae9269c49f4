// The network thread of a worker. It owns the sockets, sends heartbeats while the training thread computes, and
// exchanges messages with the training thread through queues: `mailbox` towards the training thread, `outgoing`
// from it. The training thread never uses a socket, and the network thread never waits for the training thread.
//
// The decisions of the worker's side of the protocol are in `WorkerSession` (target Coordination), a pure value.
// This class performs the effects that it returns.

import Configuration
import Coordination
import Exchange
import Foundation
import Kernels
import Synchronization
import Trained
import Training
import Transport
import Wire

/// An event for the training thread.
package enum WorkerEvent: Sendable {
  case assigned(Assignment)
  /// The last `leftOut` steps before the generation's first were not applied.
  /// `evaluations` is the best evaluation before it.
  case begin(generation: UInt32, leftOut: Int, evaluations: EvaluationStanding? = nil)
  case data(DataMessage)
  /// Stop together with all other workers after a step.
  case halt(generation: UInt32, saving: Bool)
  case stop(generation: UInt32, reason: String)
  case exit(reason: String)
}

package final class WorkerNetwork: @unchecked Sendable {
  package struct Options: Sendable {
    package var coordinator: String
    /// The address at which peers reach this worker; a wildcard port is replaced by the bound one.
    package var listen: String
    package var insecure = false
    /// The keys of this worker, and the key that the coordinator must have; `.open` without encryption.
    package var door = Door.open
    package var description: WorkerDescription
    /// The MPI launch, where this process was started as a rank of one.
    package var world: MPIWorld?
    package var joinWithinSeconds = 30.0
    /// How long to continue training and to search for a coordinator that has disappeared.
    package var returnWithinSeconds = 3600.0
    package var log: @Sendable (String) -> Void = { _ in }
    /// Called by the network thread several times a second, for the watchdog.
    package var turned: @Sendable () -> Void = {}

    package init(coordinator: String, listen: String, description: WorkerDescription) {
      self.coordinator = coordinator
      self.listen = listen
      self.description = description
    }
  }

  /// What the training thread asks of the network thread.
  private enum Outgoing {
    case data(DataMessage, to: Int)
    case report(Report, generation: UInt32)
    case mirror(HeldShard, LateCopy, to: Int)
    case hurry
    case close(reason: String)
  }

  private let options: Options
  private let control: ControlConnection
  private let zeromq: DataPort
  private let mpi: MPIPort?
  /// The data plane that the current run uses: `zeromq` or `mpi`.
  private var data: any DataPlane
  private let wake: WakeUp
  private let mailbox = Mailbox<WorkerEvent>()
  private let outgoing = Mutex<[Outgoing]>([])
  private let heartbeat = Mutex<Heartbeat>(Heartbeat())
  private let ended = DispatchSemaphore(value: 0)
  private let leftWorld = Atomic<Bool>(true)
  /// Over MPI the loop turns many thousand times a second; the control plane is served only this often.
  private static let controlEvery = Duration.milliseconds(1)
  /// All ranks of a world finish MPI together, within this time, when they end in order.
  private static let leaveWithin = Duration.seconds(1)
  private var session: WorkerSession
  /// The generation for which the data plane is open.
  private var current: Assignment?
  private var mirrorSender = MirrorSender()
  private var complaints = LineLimit()
  /// Of the training thread and of this one.
  private var processorWaits: [ProcessorWait] = []
  /// What this process shares with others of its machine; nil where the system has no such memory.
  package let memory = OfferedMemory()
  /// The shards that this process holds in memory.
  package let store = ShardStore()

  package init(_ options: Options) throws(TransportError) {
    var generator = SystemRandomNumberGenerator()
    let context = try SocketContext()
    wake = try WakeUp()
    var keys: KeyPair?
    if case .known(let own, _) = options.door { keys = own }
    zeromq = try DataPort(listen: options.listen, insecure: options.insecure, keys: keys, context)
    mpi = options.world.map(MPIPort.init)
    data = zeromq
    control = try ControlConnection(
      to: options.coordinator, door: options.door, incarnation: generator.next() | 1, context)
    var options = options
    options.description.publicKey = keys?.publicKey
    options.description.dataAddress = zeromq.endpoint
    options.description.localAddress = zeromq.localEndpoint
    options.description.mpi = options.world?.place
    options.description.memoryBytes = AvailableMemory.byteCount
    options.description.machine = MachineIdentity.current
    options.description.sharedMemory = memory.map { Int($0.descriptor) }
    self.options = options
    session = WorkerSession(
      options.description, endpoint: options.coordinator,
      joinWithin: .nanoseconds(Int64(options.joinWithinSeconds * 1e9)),
      returnWithin: .nanoseconds(Int64(options.returnWithinSeconds * 1e9)), at: MonotonicClock.now)
  }

  /// Starts the network thread, which connects to the coordinator. The caller is the training thread.
  package func start() {
    let training = ProcessorWait()
    let thread = Thread { [self] in
      processorWaits = [training, ProcessorWait()]
      loop()
      ended.signal()
    }
    thread.name = "ress-network"
    thread.start()
  }

  // MARK: for the training thread

  /// Blocks until an event arrives; nil after the timeout.
  package func next(timeout: Duration? = nil) -> WorkerEvent? { mailbox.take(timeout: timeout) }

  /// Why the current generation is over; nil while it is not. Never blocks and removes no event.
  package func stopReason() -> String? {
    mailbox.first {
      switch $0 {
      case .stop(_, let reason), .exit(let reason): reason
      case .assigned, .begin, .data, .halt: nil
      }
    }
  }

  /// Queues a message to a peer of the current generation, by its index in the roster. Returns at once.
  package func send(_ message: DataMessage, to index: Int) { put(.data(message, to: index)) }

  /// Queues a report to the coordinator about a generation. Returns at once.
  package func report(_ report: Report, generation: UInt32) { put(.report(report, generation: generation)) }

  /// Queues a copy of this worker's shard to the peer that mirrors it.
  package func mirror(_ key: HeldShard, _ copy: LateCopy, to index: Int) {
    put(.mirror(key, copy, to: index))
  }

  /// Replaces the content of the next heartbeats. A change of generation is sent at once, because the coordinator
  /// may wait for it.
  package func note(_ state: Heartbeat) {
    let changes = heartbeat.withLock { heartbeat in
      defer { heartbeat = state }
      return heartbeat.generation != state.generation
    }
    if changes { put(.hurry) }
  }

  /// Whether the coordinator has asked this generation to stop after a step. Never blocks; the event stays in the
  /// queue.
  package func pendingHalt(_ generation: UInt32) -> HaltWish {
    mailbox.first {
      if case .halt(generation, let saving) = $0 { saving ? HaltWish.haltSaving : .halt } else { nil }
    } ?? .none
  }

  /// Says goodbye to the coordinator and ends the thread. Any number of threads may call it.
  package func close(reason: String) {
    put(.close(reason: reason))
    ended.wait()
    ended.signal()
  }

  /// After `close`: false where this process is a rank of a world that did not end in order. The process should
  /// then exit immediately.
  package var hasLeftWorld: Bool { leftWorld.load(ordering: .acquiring) }

  private func put(_ item: Outgoing) {
    outgoing.withLock { $0.append(item) }
    wake.signal()
  }

  // MARK: the network thread

  private func loop() {
    Poller.sleepPrecisely()
    var controlDue = MonotonicClock.now
    while true {
      rest()
      let now = MonotonicClock.now
      // Data messages first, because other workers wait for rows.
      receiveData(at: now)
      let items = outgoing.withLock { waiting in
        defer { waiting = [] }
        return waiting
      }
      for item in items {
        switch item {
        case .data(let message, let index): data.send(message, to: index, at: now)
        case .report(let report, let generation): apply(session.report(report, generation: generation), at: now)
        case .mirror(let key, let copy, let index):
          if key.generation == current?.generation { mirrorSender.start(key, copy, to: index) }
        case .hurry: session.hurry(at: now)
        case .close(let reason): return farewell(reason)
        }
      }
      while let (message, peer) = mirrorSender.next() { data.send(message, to: peer, at: now) }
      if mpi?.isOpen == true, now < controlDue { continue }
      controlDue = now + WorkerNetwork.controlEvery
      options.turned()
      control.receive(at: now) { reply in
        apply(session.receive(reply, at: now), at: now)
      } restarted: {
        apply(session.coordinatorRestarted(at: now), at: now)
      } unreadable: {
        apply(session.unreadable($0), at: now)
      }
      apply(session.tick(fullHeartbeat(at: now), at: now), at: now)
      control.tick(at: now)
      data.tick(at: now)
      // While MPI is used, peers may still try to connect to the ZeroMQ port.
      if data !== zeromq { zeromq.tick(at: now) }
    }
  }

  /// Sleeps until there may be something to do.
  private func rest() {
    let now = MonotonicClock.now
    if let mpi, mpi.isOpen {
      return Poller.nap(PollPace.nap(after: now - mpi.movedAt, isAwaited: mailbox.isAwaited), wake)
    }
    var due = session.nextTick(after: now)
    for tick in [control.nextTick, data.nextTick] { if let tick { due = min(due, tick) } }
    Poller.wait([control.socket] + data.sockets, wake, timeoutMilliseconds: due.milliseconds(from: now, limit: 250))
  }

  private func receiveData(at now: Instant) {
    data.receive(at: now) { arrival in
      switch arrival {
      case .message(let message): take(message, at: now)
      case .repeated(let reason): complain(reason, at: now)
      case .damaged(let reason):
        complain(reason, at: now)
        if let current { apply(session.report(.lacking(reason: reason), generation: current.generation), at: now) }
      case .broken(let reason): apply(session.giveUp(reason), at: now)
      }
    }
  }

  /// Logs a line that a peer, or a process that pretends to be one, can cause; their number is limited.
  private func complain(_ line: String, at now: Instant) {
    guard let leftOut = complaints.admit(at: now) else { return }
    options.log(leftOut == 0 ? line : "\(line) (\(leftOut) more such lines before it are not listed)")
  }

  /// The heartbeat, completed with fields that the training thread does not know.
  private func fullHeartbeat(at now: Instant) -> Heartbeat {
    // A worker that waits for a processor is not stuck.
    let isStarved = processorWaits.indices.map { processorWaits[$0].isStarved(at: now) }
    if isStarved.contains(true) { Progress.note() }
    var heartbeat = self.heartbeat.withLock { $0 }
    heartbeat.progress = Progress.count
    heartbeat.held = store.held
    heartbeat.memoryBytes = ResidentMemory.byteCount
    return heartbeat
  }

  /// Handles a data message. Copies of shards are handled here, so that they are received and acknowledged while
  /// the training thread computes; everything else goes to the training thread.
  private func take(_ message: DataMessage, at now: Instant) {
    let header = message.header
    switch header.phase {
    case .mirror:
      guard let current, case .copy(let step, let piece, let count) = header.subject else { return }
      let sender = Int(header.sender)
      let key = HeldShard(
        run: current.run, generation: current.generation, index: sender, count: current.roster.count, step: step)
      guard store.accept(key, piece: piece, of: count, message.payload) else {
        return complain(
          "a piece of a copy of worker \(sender) of the roster was refused: it is not the expected piece", at: now)
      }
      data.send(MirrorSender.receipt(for: message, from: current.index), to: sender, at: now)
    case .mirrored:
      if let key = mirrorSender.received(header) { store.mirrored(key.step) }
    default: mailbox.put(.data(message))
    }
  }

  private func apply(_ effects: [WorkerSession.Effect], at now: Instant) {
    for effect in effects {
      switch effect {
      case .send(let request): control.send(request, at: now)
      case .log(let line): options.log(line)
      case .begin(let generation, let leftOut, let evaluations):
        mailbox.put(.begin(generation: generation, leftOut: leftOut, evaluations: evaluations))
      case .halt(let generation, let saving, let reason):
        options.log("generation \(generation) stops after the current step: \(reason)")
        mailbox.put(.halt(generation: generation, saving: saving))
      case .rewrite(let order):
        // On another thread: training and the network continue.
        DispatchQueue.global().async { [store, options] in
          do {
            try CheckpointRepair.rewrite(order, from: store)
            options.log("wrote shard \(order.shard.index) of step \(order.shard.step) again from memory")
          } catch {
            options.log(
              "shard \(order.shard.index) of step \(order.shard.step) could not be written again: \(error)")
          }
        }
      case .exit(let reason): mailbox.put(.exit(reason: reason))
      case .assigned(let assignment):
        do throws(TransportError) {
          try open(assignment)
          current = assignment
          mirrorSender.clear()
          mailbox.put(.assigned(assignment))
        } catch {
          apply(session.report(.failed(reason: "\(error)"), generation: assignment.generation), at: now)
        }
      case .stop(let generation, let reason):
        // Messages of the generation's peers that were not read yet have no use any more.
        mailbox.removeAll { if case .data = $0 { true } else { false } }
        data.close()
        current = nil
        mirrorSender.clear()
        mailbox.put(.stop(generation: generation, reason: reason))
      }
    }
  }

  private func open(_ assignment: Assignment) throws(TransportError) {
    data.close()
    switch assignment.configuration.cluster.exchange {
    case .zeromq: data = zeromq
    case .mpi:
      guard let mpi else { throw .notInWorld }
      data = mpi
    }
    try data.open(assignment)
  }

  /// Sends the goodbye and gives unacknowledged messages a second to arrive.
  private func farewell(_ reason: String) {
    control.send(.goodbye(reason: reason), at: MonotonicClock.now)
    let deadline = MonotonicClock.now + .seconds(1)
    while !(control.isIdle && zeromq.isIdle) && MonotonicClock.now < deadline {
      Poller.wait([control.socket] + zeromq.sockets, nil, timeoutMilliseconds: 20)
      let now = MonotonicClock.now
      zeromq.receive(at: now) { _ in }
      control.receive(at: now) { _ in
      } restarted: {
      } unreadable: { _ in
      }
      control.tick(at: now)
      zeromq.tick(at: now)
    }
    if let mpi { leftWorld.store(mpi.leave(within: WorkerNetwork.leaveWithin), ordering: .releasing) }
  }
}
