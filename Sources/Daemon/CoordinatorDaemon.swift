// The coordinator as a process: a socket, a clock and a disk around the pure `Coordinator`. One thread owns the socket and
// the value; another does disk work, so that hashing a checkpoint never keeps a heartbeat waiting.

import Configuration
import Coordination
import Dispatch
import Foundation
import RunFolder
import Synchronization
import Transport
import Wire

package final class CoordinatorDaemon: @unchecked Sendable {
  package struct Options: Sendable {
    package var listen: String
    package var insecure = false
    package var patienceSeconds = 10.0
    package var program: String
    package var log: @Sendable (String) -> Void = { _ in }

    package init(listen: String, program: String) {
      self.listen = listen
      self.program = program
    }
  }

  private let options: Options
  private let port: ControlPort
  private let wake: WakeUp
  private let disk = DispatchQueue(label: "ress.coordinator.disk")
  private let fromDisk = Mutex<[Event]>([])
  private let stopping = Atomic<Bool>(false)
  private let ended = DispatchSemaphore(value: 0)
  private var coordinator: Coordinator

  /// The address that workers and commands connect to, with its actual port.
  package let endpoint: String

  package init(_ options: Options) throws(TransportError) {
    self.options = options
    var generator = SystemRandomNumberGenerator()
    let context = try SocketContext()
    wake = try WakeUp()
    port = try ControlPort(
      listen: options.listen, insecure: options.insecure, incarnation: generator.next() | 1, context)
    endpoint = port.endpoint
    coordinator = Coordinator(
      seed: generator.next(), patience: .nanoseconds(Int64(options.patienceSeconds * 1e9)), program: options.program)
  }

  package func start() {
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
  }

  private func loop() {
    while !stopping.load(ordering: .acquiring) {
      var now = MonotonicClock.now
      let tick = now + .milliseconds(100)
      port.wait(wake, timeoutMilliseconds: min(tick, port.nextTick ?? tick).milliseconds(from: now, limit: 100))
      now = MonotonicClock.now
      var events: [Event] = []
      port.receive(at: now) { peer, request in
        events.append(.received(peer, request))
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
      events.append(.tick)
      events += port.tick(at: now).map { .forgotten($0) }
      for event in events { for action in coordinator.step(event, at: now) { run(action, at: now) } }
    }
    farewell()
  }

  /// Gives the last replies a moment to arrive.
  private func farewell() {
    let deadline = MonotonicClock.now + .milliseconds(500)
    while !port.isIdle && MonotonicClock.now < deadline {
      port.wait(nil, timeoutMilliseconds: 20)
      let now = MonotonicClock.now
      port.receive(at: now) { _, _ in
      } unreadable: { _, _ in
      }
      port.tick(at: now)
    }
  }

  private func run(_ action: Action, at now: Instant) {
    switch action {
    case .send(let peer, let reply): port.send(reply, to: peer, at: now)
    case .log(let line): options.log(line)
    case .prepareRun(let id, let submission):
      onDisk { .prepared(id, RunPreparation.prepare(submission)) }
    case .commit(let id, let unsigned, let folder):
      onDisk {
        var manifest = unsigned
        manifest.created = RunPreparation.now()
        do throws(FolderError) {
          return .committed(id, step: manifest.step, path: try CheckpointFolder.commit(manifest, folder: folder))
        } catch {
          return .commitFailed(id, step: manifest.step, reason: "\(error)")
        }
      }
    case .record(_, let event, let folder):
      let log = options.log
      disk.async {
        do throws(FolderError) { try MetricsFile(folder: folder).append(event.metricsLine) } catch { log("\(error)") }
      }
    }
  }

  private func onDisk(_ work: @escaping @Sendable () -> Event) {
    disk.async { [self] in
      let event = work()
      fromDisk.withLock { $0.append(event) }
      wake.signal()
    }
  }
}

/// What must be true of a run's folder before the run may begin.
enum RunPreparation {
  static func prepare(_ submission: Submission) -> Event.Preparation {
    let configuration = submission.configuration
    let folder = absolute(configuration.checkpoint.directory) + "/" + configuration.run
    do throws(FolderError) {
      var checkpoint: (path: String, manifest: CheckpointManifest, skipped: [String])?
      var beginning: [String] = []
      switch submission.resume {
      case .no:
        if let last = CheckpointFolder.steps(folder).last {
          return .refused(
            reason: "\(folder) already holds checkpoints (up to step \(last)); go on with --resume, "
              + "or choose another name with --set run=NAME")
        }
      case .newest:
        checkpoint = CheckpointFolder.newestVerified(folder)
        let steps = CheckpointFolder.steps(folder)
        // Killed before its first checkpoint: going on is beginning again, to the same numbers.
        let hasBegun = steps.isEmpty && FileManager.default.fileExists(atPath: MetricsFile(folder: folder).path)
        if hasBegun { beginning.append("the run holds no checkpoint yet, so it begins again at step 0") }
        if checkpoint == nil && !hasBegun {
          return .refused(
            reason: steps.isEmpty
              ? "there is nothing to resume: \(folder) holds no checkpoint"
              : "none of the \(steps.count) checkpoints in \(folder) verifies; `ress checkpoint list \(folder)` says why"
          )
        }
      case .checkpoint(let path): checkpoint = try CheckpointFolder.resolve(absolute(path))
      }
      try Durable.makeFolder(folder)
      var notes = try CheckpointFolder.removeUnfinished(folder).map { "removed \($0), a save that was never completed" }
      notes += beginning
      guard let checkpoint else {
        try MetricsFile(folder: folder).cut(after: 0)
        return .ready(folder: folder, checkpoint: nil, firstStep: 0, notes: notes)
      }
      notes += checkpoint.skipped
      if let reason = difference(checkpoint.manifest.configuration, configuration) {
        return .refused(reason: "\(checkpoint.path) cannot be resumed: \(reason)")
      }
      try MetricsFile(folder: folder).cut(after: checkpoint.manifest.step)
      return .ready(folder: folder, checkpoint: checkpoint.path, firstStep: checkpoint.manifest.step, notes: notes)
    } catch {
      return .refused(reason: "\(error)")
    }
  }

  /// What must not change between a checkpoint and the run that goes on from it: anything that decides which numbers the
  /// weights mean and which sequences come next. The rest (steps, optimizer, evaluation, cluster) may.
  private static func difference(_ old: RunConfiguration, _ new: RunConfiguration) -> String? {
    func sentence<Value: Equatable>(_ key: String, _ x: Value, _ y: Value) -> String? {
      x == y ? nil : "\(key) was \(x) and is \(y) now"
    }
    if old.model != new.model {
      return "the model section differs from the checkpoint's; use the configuration it was trained with"
    }
    return sentence("training.seed", old.training.seed, new.training.seed)
      ?? sentence("training.batch_sequences", old.training.batchSequences, new.training.batchSequences)
      ?? sentence("training.unit_sequences", old.training.unitSequences, new.training.unitSequences)
      ?? sentence("data.sequence_length", old.data.sequenceLength, new.data.sequenceLength)
  }

  private static func absolute(_ path: String) -> String {
    path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
  }

  static func now() -> String {
    let formatter = ISO8601DateFormatter()
    return formatter.string(from: Date())
  }
}

extension RunEvent {
  /// A line of `metrics.jsonl`; numbers print so that they read back to the same bits.
  var metricsLine: String {
    func number(_ value: Double) -> String { value.isFinite ? "\(value)" : "null" }
    switch self {
    case .stepped(let r):
      return "{\"step\":\(r.step),\"loss\":\(number(r.loss)),\"task\":\(number(r.task)),\"smooth\":\(number(r.smooth)),"
        + "\"balance\":\(number(r.balance)),\"router_z\":\(number(r.routerZ)),\"gradient_norm\":\(number(r.gradientNorm)),"
        + "\"learning_rate\":\(number(r.learningRate)),\"tokens\":\(r.tokens),\"seconds\":\(number(r.seconds)),"
        + "\"loads\":\(r.loads)}"
    case .evaluated(let r):
      return "{\"step\":\(r.step),\"validation_loss\":\(number(r.loss)),\"sequences\":\(r.sequences)}"
    case .began, .state, .placed, .saved, .said: return "{}"
    }
  }
}
