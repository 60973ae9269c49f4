// Estimates the duration of a training step by experiment (`ress plan`).
//
// It runs a few short steps of the run on this machine, in one process, with as many workers side by side as would
// share one machine, on the run's data or on random tokens where the data is not available. The teams of a worker
// compute a unit each at the same time, which is called a round here. Compute time grows linearly with rounds and with
// segments, so a few short steps predict a long one. Workers that would share memory do so here as well, so that their
// meetings are part of what is measured. The network's part is computed: a latency for each message that a worker waits
// for, and bytes over the line's speed.
//
// Rejected: dividing floating-point operations by the speed of sgemm. Small shapes reach half of that speed and
// wide ones nine tenths.

import Configuration
import Data
import Exchange
import Foundation
import Kernels
import Model
import Synchronization
import Training
import Wire

package struct StepRehearsal {
  /// The cost of messages between workers: seconds per message that is waited for, and bytes per second.
  package struct Line: Sendable {
    package var hopSeconds: Double
    package var bytesPerSecond: Double

    /// Measured between two processes of one machine over a libzmq socket, including checksums, copies and thread
    /// wake-ups.
    package static let local = Line(hopSeconds: 150e-6, bytesPerSecond: 1.2e9)

    /// A meeting of two workers in memory that they share, and copies from there.
    package static let memory = Line(hopSeconds: 20e-6, bytesPerSecond: 5e9)

    package init(hopSeconds: Double, bytesPerSecond: Double) {
      self.hopSeconds = hopSeconds
      self.bytesPerSecond = bytesPerSecond
    }
  }

  /// The estimate.
  package struct Result: Equatable, Sendable {
    /// Seconds of a step of the whole run, and how many of them are for messages, or for the exchange in shared memory.
    package var stepSeconds: Double
    package var exchangeSeconds: Double
    /// Seconds of a step in which a worker does not compute units, averaged over workers: those for messages, those in
    /// which it waits for workers that compute longer, and the update.
    package var waitSeconds: Double
  }

  /// Seconds of a step in the experiment, and the share of them in which a worker does not compute units.
  package struct Measurement: Sendable {
    package var seconds: Double
    package var waitShare: Double

    package init(seconds: Double, waitShare: Double) { (self.seconds, self.waitShare) = (seconds, waitShare) }
  }

  private let needs: RunNeeds
  private let line: Line
  /// Workers that run side by side in the experiment.
  private let workers: Int

  /// - Parameter line: the connection between workers, on one machine or between several.
  package init(_ needs: RunNeeds, line: Line) {
    self.needs = needs
    self.line = line
    workers = min(needs.workers, needs.workersAHost)
  }

  /// Segments of the short sequences; the longer ones have twice as many.
  private static let short = 2
  /// Steps of several rounds have as many as fit into this time, in seconds. Two rounds alone would be too few: what a
  /// step of many units reads and writes does not fit into the caches.
  private static let longStep = 0.3
  /// A measurement is the median of at least 5 and at most 40 steps, of about 0.4 s together.
  private static let leastSteps = 5, mostSteps = 40, seconds = 0.4

  /// Memory of the experiment, in bytes.
  package var memoryBytes: Int { Arena.bytes(workers, times: needs.modelBytes + needs.activationBytes) }

  /// Rough duration of the experiment in seconds, at the 20 Gflop/s per core that small shapes reach.
  package var expectedSeconds: Double {
    let tokens = min(needs.segments, 4 * Self.short) * needs.configuration.model.segment
    let operations =
      needs.operationsPerToken
      * Double(
        tokens * workers * needs.teams * needs.configuration.training.unitSequences)
    let short = operations * Double(3 * Self.leastSteps) / (20e9 * Double(workers * needs.threads))
    return max(1, short + Self.longStep * Double(Self.leastSteps + 2))
  }

  /// Runs the experiment and extrapolates. Blocks for about `expectedSeconds`.
  package func run() throws -> Result { try run(measuring: measure) }

  /// - Parameter measure: measures a step with that many units per worker, on sequences of that many segments; nil is
  ///   the run's length.
  package func run(measuring measure: (_ units: Int, _ segments: Int?) throws -> Measurement) throws -> Result {
    let units = needs.unitsAWorker, teams = needs.teams
    let rounds = (units + teams - 1) / teams
    let isLong = needs.segments > 2 * Self.short
    let segments = isLong ? Self.short : nil
    // seconds = c + rounds · (a + b · segments)
    let first = try measure(min(units, teams), segments)
    var whole = first
    if rounds > 1 {
      let most = min(rounds, max(2, Int(Self.longStep / max(first.seconds, 1e-6))))
      whole = try measure(min(units, most * teams), segments)
      whole.seconds += Double(rounds - most) * max(0, whole.seconds - first.seconds) / Double(most - 1)
    }
    if isLong {
      let longer = try measure(min(units, teams), 2 * Self.short)
      let perSegment = max(0, longer.seconds - first.seconds) / Double(Self.short)
      whole.seconds += Double(rounds * (needs.segments - Self.short)) * perSegment
      whole.waitShare = longer.waitShare
    }
    return result(whole)
  }

  /// - Parameter step: the whole step without messages between machines.
  private func result(_ step: Measurement) -> Result {
    let seconds = step.seconds, waited = seconds * step.waitShare, exchange = exchangeSeconds
    // The exchange in shared memory took place in the experiment.
    guard !needs.sharesMemory else {
      return Result(
        stepSeconds: max(seconds, exchange), exchangeSeconds: exchange, waitSeconds: max(waited, exchange))
    }
    return Result(stepSeconds: seconds + exchange, exchangeSeconds: exchange, waitSeconds: exchange + waited)
  }

  /// Seconds of messages: round trips to experts on other workers, one after the other; then reports, sums, norms
  /// and parameters; and the time of the bytes.
  private var exchangeSeconds: Double {
    guard needs.workers > 1 else { return 0 }
    if needs.sharesMemory {
      return 3 * 2 * Line.memory.hopSeconds + Double(needs.sentBytes) / Line.memory.bytesPerSecond
    }
    let hops = 2 * needs.sites * needs.passes + 4
    return hops * line.hopSeconds + Double(needs.sentBytes) / line.bytesPerSecond
  }

  /// The median step with that many units per worker, on sequences of that many segments; nil uses the
  /// run's length.
  private func measure(_ units: Int, _ segments: Int?) throws -> Measurement {
    var c = needs.configuration
    c.training.batchSequences = workers * units * c.training.unitSequences
    if let segments { c.data.sequenceLength = segments * c.model.segment }
    c.training.recompute = needs.recomputes ? .always : .never
    c.cluster.audit = 0
    c.cluster.workers = workers
    let plans = RunNeeds.plans(c, needs.layout, workers: workers, copied: workers > 1 ? needs.copiedExperts : [])
    let links = RehearsalLink.all(workers), offers = boardOffers()
    let trainers = try plans.map { plan in
      let held = HeldModel(c, vocabulary: needs.vocabulary, plan: plan, threads: needs.threads, teams: needs.teams)
      let exchanges =
        workers == 1
        ? Exchanges(alone: held) : .withPeers(of: held, over: links[plan.index], sharing: offers?[plan.index])
      return try Trainer(c, held, exchanges, source: source(c), memoryLimit: .max)
    }
    try together(trainers) { try $0.prepare() }
    // The first steps allocate memory and fill caches.
    let warm = try train(trainers, steps: 0..<2)
    let count = min(Self.mostSteps, max(Self.leastSteps, Int(Self.seconds / max(warm.last!.seconds, 1e-6))))
    let measured = try train(trainers, steps: 2..<2 + count)
    let seconds = measured.map(\.seconds).sorted(), shares = measured.map(\.waitShare).sorted()
    return Measurement(seconds: seconds[seconds.count / 2], waitShare: shares[shares.count / 2])
  }

  /// The run's own sequences where they can be read: experts are loaded less evenly by real tokens than by random
  /// ones.
  private func source(_ c: RunConfiguration) -> any SequenceSource {
    if let corpus = try? Corpus(c.data), let own = try? TaskSource(corpus, c).sequences(.train), own.sequenceCount > 0 {
      return own
    }
    return RandomSequences(length: c.data.sequenceLength, c.model, vocabulary: needs.vocabulary)
  }

  /// What the workers of the experiment offer each other, all of them in this process; nil where the run's workers
  /// would exchange in messages.
  private func boardOffers() -> [BoardOffer]? {
    guard needs.sharesMemory else { return nil }
    let memories = (0..<workers).compactMap { _ in OfferedMemory() }
    guard memories.count == workers else { return nil }
    let process = Int(ProcessInfo.processInfo.processIdentifier)
    let members = memories.map {
      BoardMembers.Member(process: process, descriptor: Int($0.descriptor), incarnation: UInt64($0.descriptor))
    }
    let all = BoardMembers(run: 0, generation: 1, members: members)
    return memories.map { BoardOffer(all, $0, mostBytes: .max) }
  }

  /// Runs the steps on all trainers at once. Returns what the first trainer measured.
  private func train(_ trainers: [Trainer], steps: Range<Int>) throws -> [Measurement] {
    let measured = Mutex<[Measurement]>([])
    try together(trainers) { trainer in
      for step in steps {
        let begun = ContinuousClock.now
        _ = try trainer.step(step)
        let took = begun.duration(to: .now).inSeconds
        guard trainer.plan.index == 0 else { continue }
        let busy = trainer.busy.reduce(0, +) / Double(max(1, trainer.busy.count))
        measured.withLock { $0.append(Measurement(seconds: took, waitShare: max(0, 1 - busy / took))) }
      }
    }
    return measured.withLock { $0 }
  }

  /// Does the same with all trainers at once, each on a thread.
  private func together(_ trainers: [Trainer], _ work: @escaping @Sendable (Trainer) throws -> Void) throws {
    let failure = Mutex<(any Error)?>(nil)
    let group = DispatchGroup()
    for trainer in trainers {
      nonisolated(unsafe) let trainer = trainer
      group.enter()
      let thread = Thread {
        defer { group.leave() }
        do { try work(trainer) } catch { failure.withLock { $0 = $0 ?? error } }
      }
      thread.stackSize = 8 << 20
      thread.start()
    }
    group.wait()
    if let error = failure.withLock({ $0 }) { throw error }
  }
}

private struct RehearsalError: Error, CustomStringConvertible {
  var description: String { "a worker of the rehearsal sent nothing for 60 s" }
}

/// Peers inside one process: a message is passed in memory.
private final class RehearsalLink: PeerLink, @unchecked Sendable {
  private let index: Int
  private let mailboxes: [Mailbox<DataMessage>]
  private(set) var waitedSeconds = 0.0
  /// A trainer that failed sends nothing more; without a limit the others would wait for it forever.
  private static let patience = Duration.seconds(60)

  private init(_ index: Int, _ mailboxes: [Mailbox<DataMessage>]) {
    self.index = index
    self.mailboxes = mailboxes
  }

  static func all(_ count: Int) -> [RehearsalLink] {
    let mailboxes = (0..<count).map { _ in Mailbox<DataMessage>() }
    return (0..<count).map { RehearsalLink($0, mailboxes) }
  }

  /// The numbers are copied, because a receiver adds where they are, and a sender may share its own memory.
  func send(_ message: DataMessage, to worker: Int) {
    let copy = Payload(byteCount: message.payload.bytes.count)
    withExtendedLifetime(message) { copy.bytes.copyMemory(from: UnsafeRawBufferPointer(message.payload.bytes)) }
    mailboxes[worker].put(DataMessage(header: message.header, payload: copy))
  }

  /// Called during a wait in shared memory.
  func look(awaited: [Int], in phase: DataPhase, since begun: ContinuousClock.Instant) throws {
    if begun.duration(to: .now) > Self.patience { throw RehearsalError() }
  }
  func endLook() {}

  func receive(awaited: [Int], in phase: DataPhase) throws -> DataMessage {
    let begun = ContinuousClock.now
    defer { waitedSeconds += begun.duration(to: .now).inSeconds }
    guard let message = mailboxes[index].take(timeout: Self.patience) else {
      throw RehearsalError()
    }
    return message
  }
}

/// Random tokens and targets, valid for any head.
private final class RandomSequences: SequenceSource {
  let sequenceCount = 8
  let length: Int
  private let vocabulary: Int
  private let targets: Int
  private let classes: Int
  private let relationKinds: Int

  init(length: Int, _ model: ModelConfiguration, vocabulary: Int) {
    self.length = length
    self.vocabulary = vocabulary
    let sizes = Sizes(model, vocabulary: vocabulary)
    targets = sizes.targetRows(length)
    relationKinds = sizes.relationKinds
    classes =
      switch model.head {
      case .lm: vocabulary
      case .classify, .tag: model.classes
      case .span: length
      }
  }

  func read(_ sequence: Int, into buffer: inout SequenceBuffer) {
    let random = Philox(seed: 0x4E0E, stream: UInt64(sequence))
    if buffer.tokens.count != length { buffer.tokens = Array(repeating: 0, count: length) }
    if buffer.targets.count != targets { buffer.targets = Array(repeating: 0, count: targets) }
    for index in 0..<length { buffer.tokens[index] = Int32(random.words(UInt64(index))[0] % UInt32(vocabulary)) }
    for index in 0..<targets { buffer.targets[index] = Int32(random.words(UInt64(index))[1] % UInt32(classes)) }
    guard relationKinds > 0 else { return }
    // Every token is related to a random one.
    let triples = (0..<length).flatMap { index in
      [Int32(index), Int32(random.words(UInt64(index))[2] % UInt32(length)), Int32(index % relationKinds)]
    }
    buffer.relations.set(triples, tokens: length)
  }

  func targetCount(of sequence: Int) -> Int { targets }
}
