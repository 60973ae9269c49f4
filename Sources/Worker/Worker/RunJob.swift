// One worker's part in one generation of a run: it loads the data, the model and its share of the state, and then
// runs the loop of steps. Here the two halves of the program meet: numbers (Training, Model) and control (Wire,
// Coordination).
//
// Life of a job: `init` loads and reports what it found; the coordinator sends `begin` when every member is ready;
// `run` trains until the last step, until all workers agree to halt after a step, or until the coordinator stops
// the generation (`Stopped`). `help` is the part of a worker that has no work in the generation and only sends
// shards that it holds.
//
// All of it runs on the training thread. Sockets belong to the network thread (`WorkerNetwork`), files of
// checkpoints are written by `CheckpointSaver`.

import Checkpoint
import Configuration
import Data
import Exchange
import Foundation
import Kernels
import Model
import RunFolder
import Trained
import Training
import Wire

/// The coordinator has stopped the generation.
package struct Stopped: Error { package var reason: String }

package final class RunJob {
  /// How `run` ends: after the last step, or at a step after which all workers agreed to stop.
  package enum Ending: Equatable { case finished, halted }

  package let assignment: Assignment
  private let network: any WorkerChannel
  private let store: ShardStore
  private let history: StepHistory
  private let trainer: Trainer
  private let layout: ParameterLayout
  private let validation: (any SequenceSource)?
  private let task: TaskKind
  private let link: NetworkLink
  private let profile: StepProfile
  private let copies: StateCopies
  private let rehearsal: Rehearsal
  private let log: (String) -> Void
  private var lastNote = ContinuousClock.now
  /// Number of steps done, including those before this generation.
  private var done: Int

  /// Loads data, model and state.
  /// - Throws: `JobError` and the errors of data and checkpoints, which a user can act on; `Stopped`.
  package init(
    _ assignment: Assignment, network: any WorkerChannel, store: ShardStore, history: StepHistory = StepHistory(),
    log: @escaping (String) -> Void
  ) throws {
    self.assignment = assignment
    self.network = network
    self.store = store
    self.history = history
    self.log = log
    profile = StepProfile(assignment)
    rehearsal = Rehearsal(of: assignment.peers[assignment.index].name)
    done = assignment.firstStep
    try FolderToken.find(for: assignment) { network.pendingStop() }
    let configuration = assignment.configuration
    let boundary = Boundary(assignment.roots ?? [])
    let corpus = try Corpus(configuration.data, isAllowed: boundary.question)
    let identity = try corpus.identity()
    network.report(.reads(identity), generation: assignment.generation)
    if let known = assignment.data, let difference = identity.difference(from: known) {
      throw JobError.otherData(
        "\(corpus.path) is \(difference) than the run reads: \(identity.spoken), and not \(known.spoken)")
    }
    if !assignment.start.isBeginning { try RunTokenizer.check(corpus.tokenizer, in: assignment.folder, corpus.path) }
    let data = try TaskSource(corpus, configuration)
    task = data.task
    let vocabulary = configuration.model.vocabulary ?? corpus.vocabulary
    if assignment.index == 0 {
      try RunTokenizer.keep(corpus.tokenizer, in: assignment.folder, boundary)
      try RunTask.keep(corpus, in: assignment.folder, boundary)
    }
    let source = try data.sequences(.train)
    guard source.sequenceCount > 0 else { throw data.tooSmall(.train) }
    let held = try data.sequences(.validation)
    validation = held.sequenceCount > 0 && configuration.training.evaluateSequences > 0 ? held : nil
    if validation == nil && configuration.training.evaluateSequences > 0 && assignment.index == 0 {
      log("the validation split is shorter than one sequence, so nothing is evaluated")
    }
    if assignment.index == 0, source.cutCount > 0 {
      log(
        "\(source.cutCount) of \(source.sequenceCount) examples are longer than data.sequence_length "
          + "(\(configuration.data.sequenceLength)): the rest of each is not read")
    }

    if let complaint = FrozenParts.complaint(configuration) { throw JobError.freeze(complaint) }
    let layout = ParameterLayout(configuration, vocabulary: vocabulary)
    self.layout = layout
    let plan = RunJob.plan(assignment, layout)
    let sameHost = assignment.roster.count { $0.worker.host == assignment.roster[assignment.index].worker.host }
    // The run's setting comes first, then the worker's (`ress worker --threads`), then an equal share of the
    // machine's cores.
    let own = assignment.roster[assignment.index].worker.threads
    let share = max(1, ProcessInfo.processInfo.activeProcessorCount / sameHost)
    let threads = assignment.threads > 0 ? assignment.threads : own > 0 ? own : share
    let memory = Int(ProcessInfo.processInfo.physicalMemory) / 2 / sameHost
    try RunJob.checkFit(assignment, vocabulary: vocabulary, threads: threads, sameHost: sameHost)
    store.expect(
      assignment.generation,
      Dictionary(
        uniqueKeysWithValues: assignment.roster.indices.filter { assignment.mirror(of: $0) == assignment.index }.map {
          ($0, ShardLayout(layout, plan.at($0, layout)).count)
        }))
    let link = NetworkLink(network, assignment)
    self.link = link
    let choice = TeamChoice(
      configuration, Sizes(configuration.model, vocabulary: vocabulary), layout, threads: threads,
      units: plan.myUnits.count, heldExperts: plan.heldExperts.count,
      rowsTravel: plan.heldExperts.count < plan.expertOwners.count, memoryLimit: memory)
    let model = HeldModel(
      configuration, vocabulary: vocabulary, plan: plan, threads: threads, teams: choice.teams,
      isLoaded: !assignment.start.isBeginning)
    let machine = Int(ProcessInfo.processInfo.physicalMemory)
    let exchanges =
      plan.workerCount > 1
      ? .withPeers(of: model, over: link, sharing: BoardOffer(assignment, plan, network.memory, ofMachine: machine))
      : Exchanges(alone: model)
    trainer = try Trainer(
      configuration, model, exchanges, source: source, memoryLimit: memory,
      flipsBitInStep: rehearsal.wrongStep)
    copies = StateCopies(assignment, trainer, link, network, store, layout)
    trainer.keeper = copies
    switch assignment.start {
    case .fresh: break
    case .weights(let source):
      try WarmStart(source, for: configuration, corpus, boundary).load(into: trainer.parameters)
    case .checkpoint(let path): try load(path)
    case .memory(let state):
      let transfer = StateTransfer(assignment, state, layout, plan)
      try transfer.send(from: store, into: trainer, by: network)
      try transfer.receive(into: trainer, from: link)
      trainer.parameters.changed()
    }
    let copied = plan.copies[plan.index]
    let copies = copied.isEmpty ? "" : " and copies of \(SpokenNumbers.ranges(copied))"
    let teams = choice.teams == 1 ? "" : " in \(choice.teams) teams"
    log(
      "generation \(assignment.generation): units \(SpokenNumbers.ranges(plan.myUnits)), "
        + "experts \(SpokenNumbers.ranges(plan.myExperts))\(copies), \(threads) thread\(threads == 1 ? "" : "s")\(teams), "
        + "\(layout.totalCount) parameters in the model, \(trainer.byteCount >> 20) MiB here"
        + (trainer.recomputes ? ", segments are computed again in the backward" : ""))
  }

  /// A helper's part in a generation: it sends the shards that it holds and computes nothing.
  package static func help(_ assignment: Assignment, network: any WorkerChannel, store: ShardStore) throws {
    guard case .memory(let state) = assignment.start else { return }
    let configuration = assignment.configuration
    let vocabulary = try Corpus.vocabulary(
      of: configuration, isAllowed: Boundary(assignment.roots ?? []).question)
    let layout = ParameterLayout(configuration, vocabulary: vocabulary)
    try StateTransfer(assignment, state, layout, plan(assignment, layout)).send(from: store, into: nil, by: network)
  }

  /// Throws where the run will not fit in memory, because a failed allocation would end the process without a
  /// message. A state that moves from memory to memory has fitted before and is not checked.
  private static func checkFit(_ assignment: Assignment, vocabulary: Int, threads: Int, sameHost: Int) throws {
    if case .memory = assignment.start { return }
    guard let available = AvailableMemory.byteCount else { return }
    var configuration = assignment.configuration
    configuration.cluster.workers = assignment.roster.count
    configuration.cluster.threads = threads
    let needs = RunNeeds(
      configuration, vocabulary: vocabulary, cores: threads, memoryBytes: Int(ProcessInfo.processInfo.physicalMemory),
      hosts: Set(assignment.roster.map(\.worker.host)).count)
    // Memory that this process and its neighbours still hold from the generation before will be used again.
    let held = ResidentMemory.byteCount * sameHost
    if let complaint = needs.memoryComplaint(workers: sameHost, available: available + held) {
      throw JobError.doesNotFit(complaint)
    }
  }

  private static func plan(_ assignment: Assignment, _ layout: ParameterLayout) -> WorkPlan {
    WorkPlan(
      index: assignment.index, units: assignment.roster.map(\.units),
      expertOwners: WorkPlan.owners(of: assignment.roster.map(\.experts), experts: layout.experts.count),
      copies: assignment.roster.map { $0.copies ?? [] }, layout: layout)
  }

  deinit { copies.close() }

  /// Keeps a message that arrived before this worker's `begin`: its sender received `begin` first.
  package func accept(early message: DataMessage) { link.accept(early: message) }

  package var heartbeat: Heartbeat { link.heartbeat }
  /// Bytes of this worker's model, gradients, activations and copies, counted; without messages.
  package var heldByteCount: Int { trainer.heldByteCount + 4 * store.valueCount }

  /// Runs the steps that are left, or those up to the step after which all workers agree to stop.
  ///
  /// All workers have the same numbers, so they all stop after the same step without asking the coordinator.
  /// - Parameters:
  ///   - leftOut: number of steps in a row before the first that were not applied (`StepResult.skipped`). The run
  ///     stops with a checkpoint when more than `training.skip_at_most` were not applied, or when the last step was
  ///     not.
  ///   - evaluations: the best evaluation before the first step. The run ends with a checkpoint after
  ///     `training.stop_after` evaluations without a better one.
  package func run(leftOut: Int = 0, _ evaluations: EvaluationStanding = EvaluationStanding()) throws -> Ending {
    do { return try runSteps(leftOut, evaluations) } catch let stop as Stopped {
      copies.keepLive(after: done)
      throw stop
    }
  }

  private func runSteps(_ leftOut: Int, _ evaluations: EvaluationStanding) throws -> Ending {
    let configuration = assignment.configuration
    let steps = configuration.training.steps
    var leftOut = leftOut, evaluations = evaluations
    link.hasBegun = true
    try trainer.prepare()
    if trainer.sharesMemory { log("the workers of this machine exchange gradients and parameters in shared memory") }
    try measureLine()
    let mirrors = copies.mirrors
    if assignment.firstStep > 0 { copies.begin(assignment.firstStep, mirrors: mirrors, saves: false) }
    for step in assignment.firstStep..<max(steps, assignment.firstStep) {
      try checkStopped(step)
      try rehearsal.wait(before: step) { try checkStopped(step) }
      let begun = ContinuousClock.now
      let wish = max(link.haltWish, network.pendingHalt(assignment.generation))
      let result = try profile.step(step, trainer, wish: wish, log: log)
      done = step + 1
      if let problem = store.takeProblem() { log("copies of the state stay in memory: \(problem)") }
      report(result, seconds: begun.duration(to: .now))
      let clinicEvery = configuration.training.clinicEvery
      if clinicEvery > 0, step == 0 || done % clinicEvery == 0 { examine(after: done, tokens: result.tokens) }
      var isLast = done == steps
      leftOut = result.skipped == nil ? 0 : leftOut + 1
      let hasDiverged = leftOut > configuration.training.skipAtMost || (isLast && leftOut > 0)
      let every = configuration.training.evaluateEvery
      var isBest = false
      if let validation, isLast || (every > 0 && done % every == 0),
        let loss = try evaluate(validation, after: done)
      {
        isBest = evaluations.take(step: done, loss: loss)
        if !hasDiverged, evaluations.ends(after: configuration.training.stopAfter) { isLast = true }
      }
      let saveEvery = configuration.checkpoint.every
      let saves =
        isLast || (isBest && configuration.checkpoint.keepBest > 0) || hasDiverged
        || (saveEvery > 0 && done % saveEvery == 0) || result.halt == .haltSaving
      let isMirrored = mirrors && done % configuration.cluster.mirrorEvery == 0 && !isLast
      if saves || isMirrored { copies.begin(done, mirrors: isMirrored, saves: saves) }
      if hasDiverged || (result.halt != .none && !isLast) {
        return try halt(after: done, isLast: isLast, saving: hasDiverged || result.halt == .haltSaving)
      }
      if isLast { break }
    }
    try copies.finishSaving(insisting: true)
    network.report(.finished, generation: assignment.generation)
    return .finished
  }

  /// Measures the connections between the workers, where the coordinator decides by them.
  private func measureLine() throws {
    let configuration = assignment.configuration
    guard configuration.cluster.experts == .auto, configuration.model.routedExperts > 0,
      let line = try trainer.probe(), assignment.index == 0
    else { return }
    network.report(
      .measured(.init(latencySeconds: line.latencySeconds, bytesPerSecond: line.bytesPerSecond)),
      generation: assignment.generation)
  }

  /// Publishes the step in the heartbeat, and throws `Stopped` where the coordinator has stopped the generation.
  private func checkStopped(_ step: Int) throws {
    link.step = step
    let now = ContinuousClock.now
    // Heartbeats are sent four times a second, so publishing the step more often than that has no effect.
    if lastNote.duration(to: now) > .milliseconds(100) || step == assignment.firstStep {
      lastNote = now
      network.note(link.heartbeat)
    }
    if let reason = network.pendingStop() { throw Stopped(reason: reason) }
  }

  /// Records the step. Every worker records it, and only the first of the roster reports it (see StepHistory).
  private func report(_ result: StepResult, seconds: Duration) {
    let losses = result.losses
    let record = StepRecord(
      step: result.step + 1, loss: losses.total, task: losses.task, smooth: losses.smooth, balance: losses.balance,
      routerZ: losses.routerZ, gradientNorm: result.gradientNorm, learningRate: result.learningRate,
      tokens: result.tokens, seconds: seconds.inSeconds, loads: result.loads, busy: trainer.busy,
      stall: copies.takeStall(),
      sent: trainer.sent, skipped: result.skipped, time: RunJob.clock)
    history.note(.step(record), of: assignment.run)
    if assignment.index == 0 { network.report(.stepDone(record), generation: assignment.generation) }
  }

  /// Seconds since 1970, rounded to milliseconds. It is shown to users and in plots; the run's numbers do not
  /// depend on it.
  private static var clock: Double { (Date().timeIntervalSince1970 * 1000).rounded() / 1000 }

  /// Records and reports the router's statistics.
  private func examine(after step: Int, tokens: Int) {
    var record = RouterRecord(
      trainer.routing, bias: trainer.routerBias, step: step, tokens: tokens,
      model: assignment.configuration.model)
    record.time = RunJob.clock
    history.note(.examination(record), of: assignment.run)
    if assignment.index == 0 { network.report(.examined(record), generation: assignment.generation) }
  }

  /// Evaluates, records and reports. Returns the loss in nats; nil where there is nothing to evaluate.
  private func evaluate(_ validation: any SequenceSource, after step: Int) throws -> Double? {
    let questions = assignment.configuration.training.evaluateSequences
    guard let sums = try trainer.evaluate(validation, step: step, questions: questions) else { return nil }
    let record = EvaluationRecord(
      step: step, loss: Losses(sums, assignment.configuration.model).task,
      sequences: min(questions, validation.questionCount),
      metrics: TaskMetrics.of(task, sums).map { .init(name: $0.name, value: $0.value) }, time: RunJob.clock)
    history.note(.evaluation(record), of: assignment.run)
    if assignment.index == 0 { network.report(.evaluated(record), generation: assignment.generation) }
    return record.loss
  }

  /// Stops after `step`, and leaves the state in memory for the next generation.
  private func halt(after step: Int, isLast: Bool, saving: Bool) throws -> Ending {
    link.step = step
    // The next generation starts from memory. The checkpoint is needed only where the workers are released, that
    // is, where `saving`.
    try copies.finishSaving(insisting: saving)
    // After the last step there is no next generation, so the state need not be kept.
    if !isLast { store.setLive(copies.key(step), Shard(of: trainer)) }
    network.note(link.heartbeat)
    network.report(.halted(step: step, held: store.held), generation: assignment.generation)
    return .halted
  }

  // MARK: checkpoints

  /// For each tensor of a checkpoint, or range of rows of a divided one, the shard file that contains it.
  static func links(_ plan: WorkPlan, _ layout: ParameterLayout) -> [(name: String, shard: Int)] {
    (0..<plan.workerCount).flatMap { index in
      ShardLayout(layout, plan.at(index, layout)).pieces.map { (name: $0.name, shard: index) }
    }
  }

  /// Refuses a checkpoint after which this program would not compute the steps that the program before it computed,
  /// unless that is asked for. Imported weights (step 0) have no such steps.
  private func checkNumerics(_ manifest: CheckpointManifest, _ path: String) throws {
    let mine = assignment.roster[assignment.index].worker.fingerprint
    guard manifest.step > 0, manifest.numerics != mine, assignment.acceptsOtherNumerics != true else { return }
    throw JobError.otherNumerics(
      "\(path) was trained with \(manifest.numerics.map { "the numerics \($0)" } ?? "the numerics of an older program"), "
        + "and this program computes by \(mine): later steps would differ in their last bits; to accept that, use --resume with "
        + "--accept-numerics")
  }

  /// Reads all dense parameters, this worker's experts, and the moments of the tensors that it updates.
  private func load(_ path: String) throws {
    let reader = try CheckpointReader(path, verified: true, Boundary(assignment.roots ?? []))
    try checkNumerics(reader.manifest, path)
    try trainer.parameters.forEachTensor { entry, values in
      Progress.note()
      if entry.count > 0 { try reader.read(StoredKind.values.name(of: entry), shape: entry.shape, into: values) }
    }
    for owned in trainer.optimizer.owned where owned.entry.isTrained {
      Progress.note()
      let (entry, rows) = (owned.entry, owned.rows.rows)
      for (kind, moment) in [(StoredKind.first, owned.first), (.second, owned.second)] {
        try reader.read(kind.name(of: entry), shape: entry.shape, rows: rows, into: moment)
      }
    }
    trainer.parameters.changed()
  }
}
