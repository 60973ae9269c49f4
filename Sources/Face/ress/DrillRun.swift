// One run of a drill: undisturbed, or with one injected fault.

import Configuration
import Daemon
import Foundation
import Glibc
import Shell
import Transport
import Wire

final class DrillRun {
  /// Losses of steps and evaluations, without the times, which differ between runs.
  private(set) var curve: [RunEvent] = []
  private(set) var stepSeconds: [Double] = []
  private(set) var state = RunState.queued
  private(set) var reason = ""
  /// Its messages after the fault, up to its next new step; and all its messages.
  private(set) var story: [String] = []
  private(set) var words: [String] = []
  private(set) var noticedSeconds: Double?
  private(set) var againSeconds: Double?
  /// Why the drill gave up waiting for it.
  private(set) var gaveUp: String?
  private(set) var isStruck = false
  /// Generations that began after the fault.
  private(set) var newGenerations = 0
  let victim: String

  private let fault: DrillFault?
  private let configuration: RunConfiguration
  private let cluster: DrillCluster
  private let strikeStep: Int
  private let fileLimit: Int
  private let longestSilence: Duration
  private var struckAt = Instant(nanoseconds: 0)
  private var lastHeard = MonotonicClock.now
  /// Whether the events that arrive were requested after the fault; events of an earlier request may be older than the
  /// fault.
  private var isNewPage = false
  /// Removes the fault, where that is a separate action.
  private var removeFault: () throws -> Void = {}
  private var hasRoomAgain = false
  private var failure: (any Error)?

  /// If the coordinator is absent for longer than this, the drill gives up.
  private static let absence = Duration.seconds(60)
  /// Silence of a run beyond the time of its steps.
  private static let silenceSeconds = 30.0

  /// - Parameters:
  ///   - victim: the worker into which the fault is injected.
  ///   - stepSeconds: how long a step of the undisturbed run takes.
  ///   - fileLimit: the size limit of a file in the fault of the full disk, in bytes.
  init(
    _ fault: DrillFault?, _ configuration: RunConfiguration, _ cluster: DrillCluster, victim: String,
    stepSeconds: Double, fileLimit: Int
  ) {
    self.fault = fault
    self.configuration = configuration
    self.cluster = cluster
    self.fileLimit = fileLimit
    strikeStep = configuration.training.steps / 3
    self.victim = victim
    let silence = Self.silenceSeconds + 4 * configuration.cluster.patienceSeconds + 20 * stepSeconds
    longestSilence = .nanoseconds(Int64(silence * 1e9))
  }

  /// Submits the run, follows it to its end, and injects the fault at its step.
  func play() throws {
    // The fault must fall into the middle of the run, however fast the steps are. Its latest moment is a checkpoint
    // after `strikeStep`, where there are checkpoints.
    if fault != nil, configuration.checkpoint.every > 0 {
      try cluster.hold(at: max(strikeStep + 1, 2 * configuration.training.steps / 3))
    }
    let run = try cluster.client.submit(RunRequest(configuration).submission).run.description
    try cluster.client.follow(run, absence: Self.absence) {
      self.isNewPage = self.isStruck
      self.watch()
      return self.gaveUp == nil ? nil : .cancel
    } event: { event in
      self.note(event)
      return self.failure != nil || self.state.isAtRest
    }
    if let failure { throw failure }
  }

  private func watch() {
    guard gaveUp == nil else { return }
    if Interrupt.isRequested { gaveUp = "interrupted" }
    if lastHeard + longestSilence < MonotonicClock.now {
      gaveUp = "it hung: nothing happened for \(Format.fixed(longestSilence.inSeconds, 0)) s"
    }
  }

  private func note(_ event: RunEvent) {
    lastHeard = MonotonicClock.now
    switch event {
    case .began: break
    case .stepped(let record):
      stepSeconds.append(record.seconds)
      curve.append(event.timeless)
      if isStruck { stepped() } else if record.step >= strikeStep { strikeAtStep() }
    case .evaluated, .examined: curve.append(event.timeless)
    case .saved(let step, let path):
      if fault == .damagedCheckpoint, !isStruck, step >= strikeStep { strike { try self.damage(path) } }
      // The checkpoint that had failed, or the next one, after there was space again.
      if hasRoomAgain, againSeconds == nil { againSeconds = secondsSinceFault }
    case .placed: if isStruck { newGenerations += 1 }
    case .state(let state, let reason):
      (self.state, self.reason) = (state, reason)
      tell("\(state.rawValue): \(reason)")
    case .said(let sentence):
      tell(sentence)
      if fault == .diskFull, isStruck, !hasRoomAgain, let evidence = fault?.evidence(victim: victim),
        sentence.contains(evidence)
      {
        hasRoomAgain = true
        attempt { try self.cluster.limitFiles(to: nil) }
      }
    }
  }

  private func tell(_ sentence: String) {
    words.append(sentence)
    guard isNewPage, againSeconds == nil, !state.isEnd else { return }
    noticedSeconds = noticedSeconds ?? secondsSinceFault
    story.append(sentence)
  }

  /// A step after the fault shows that the run continues, if the step cannot have been done before the fault.
  private func stepped() {
    guard againSeconds == nil, isNewPage, fault == .killCoordinator || newGenerations > 0 else { return }
    againSeconds = secondsSinceFault
    attempt(removeFault)
  }

  private var secondsSinceFault: Double { Double(MonotonicClock.now.nanoseconds - struckAt.nanoseconds) * 1e-9 }

  // MARK: The fault

  private func strikeAtStep() {
    guard let fault, fault != .damagedCheckpoint else { return }
    strike {
      guard let victim = self.cluster.workers.last else { return }
      switch fault {
      case .killWorker:
        self.cluster.kill(victim)
        self.removeFault = { try self.cluster.startWorker() }
      case .killCoordinator:
        self.cluster.killCoordinator()
        try self.cluster.startCoordinator()
      case .killAll:
        self.cluster.killCoordinator()
        try self.replaceWorkers()
        try self.cluster.startCoordinator()
      case .stopWorker:
        victim.send(SIGSTOP)
        self.removeFault = { victim.send(SIGCONT) }
      case .cutWorker:
        self.cluster.cut(victim)
        self.removeFault = { self.cluster.reconnect(victim) }
      case .diskFull: try self.cluster.limitFiles(to: self.fileLimit)
      // The worker got the step of its fault when it was started.
      case .flippedBit: break
      case .damagedCheckpoint: preconditionFailure("waits for a checkpoint")
      }
    }
  }

  private func strike(_ body: () throws -> Void) {
    isStruck = true
    struckAt = MonotonicClock.now
    attempt {
      try body()
      try self.cluster.release()
    }
  }

  private func attempt(_ body: () throws -> Void) {
    do { try body() } catch { failure = error }
  }

  private func replaceWorkers() throws {
    let workers = cluster.workers
    for worker in workers { cluster.kill(worker) }
    for _ in workers { try cluster.startWorker() }
  }

  /// Flips a bit in the middle of the checkpoint's first shard, and ends all workers, so that its state is in no
  /// memory.
  private func damage(_ path: String) throws {
    let names = try FileManager.default.contentsOfDirectory(atPath: path).sorted()
    guard let shard = names.first(where: { $0.hasPrefix("shard-") }),
      let file = FileHandle(forUpdatingAtPath: "\(path)/\(shard)")
    else { throw ProcessError(description: "no shard in \(path) can be written") }
    let middle = try file.seekToEnd() / 2
    try file.seek(toOffset: middle)
    let byte = try file.read(upToCount: 1)?.first ?? 0
    try file.seek(toOffset: middle)
    try file.write(contentsOf: [byte ^ 1])
    try file.close()
    try replaceWorkers()
  }
}
