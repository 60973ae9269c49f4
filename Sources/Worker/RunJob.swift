// One worker's part in one generation of a run: its data, its model, its share of the state, and the loop of steps between
// two checkpoints. This is where numbers and control meet.

import Checkpoint
import Configuration
import Data
import Foundation
import Kernels
import Model
import RunFolder
import Training
import Wire

/// The generation was stopped by the coordinator.
package struct Stopped: Error { package var reason: String }

package final class RunJob {
  package let assignment: Assignment
  private let network: any WorkerChannel
  private let trainer: Trainer
  private let validation: LanguageModelSource?
  private let link: NetworkLink
  private let profile: StepProfile
  private let log: (String) -> Void
  private var lastNote = ContinuousClock.now

  /// Loads data, model and, on a resume, the state. Throws what a user can act on.
  package init(_ assignment: Assignment, network: any WorkerChannel, log: @escaping (String) -> Void) throws {
    self.assignment = assignment
    self.network = network
    self.log = log
    profile = StepProfile(assignment)
    let configuration = assignment.configuration
    let dataset = try Dataset(path: configuration.data.path)
    guard configuration.model.head == .lm else {
      throw JobError.noLabels(head: configuration.model.head, path: configuration.data.path)
    }
    if let asked = configuration.model.vocabulary, asked < dataset.vocabulary {
      throw JobError.vocabulary(model: asked, dataset: dataset.vocabulary, path: configuration.data.path)
    }
    let vocabulary = configuration.model.vocabulary ?? dataset.vocabulary
    let length = configuration.data.sequenceLength
    let source = LanguageModelSource(dataset.split(.train), length: length)
    guard source.sequenceCount > 0 else {
      throw DataError.tooSmall(
        path: configuration.data.path, split: "train", tokens: dataset.split(.train).tokenCount, needed: length + 1)
    }
    let held = LanguageModelSource(dataset.split(.validation), length: length)
    validation = held.sequenceCount > 0 && configuration.training.evaluateSequences > 0 ? held : nil
    if validation == nil && configuration.training.evaluateSequences > 0 && assignment.index == 0 {
      log("the validation split is shorter than one sequence, so nothing is evaluated")
    }

    let layout = ParameterLayout(configuration.model, vocabulary: vocabulary)
    let plan = WorkPlan(
      index: assignment.index, units: assignment.roster.map(\.units),
      expertOwners: RunJob.owners(assignment.roster, experts: configuration.model.expertCount), layout: layout)
    let sameHost = assignment.roster.count { $0.worker.host == assignment.roster[assignment.index].worker.host }
    // The run's word, then the machine's (`ress worker --threads`), then an equal share.
    let own = assignment.roster[assignment.index].worker.threads
    let share = max(1, ProcessInfo.processInfo.activeProcessorCount / sameHost)
    let threads = assignment.threads > 0 ? assignment.threads : own > 0 ? own : share
    let memory = Int(ProcessInfo.processInfo.physicalMemory) / 2 / sameHost
    let link = NetworkLink(network, assignment)
    self.link = link
    trainer = try Trainer(
      configuration, vocabulary: vocabulary, plan: plan, source: source, threads: threads, memoryLimit: memory,
      exchanges: plan.workerCount == 1
        ? nil
        : { experts, gradients, _ in
          let exchange = PeerExchange(
            plan: plan, link: link, experts: experts, expertGradients: gradients, width: configuration.model.width)
          return (exchange, exchange)
        })
    if let checkpoint = assignment.checkpoint { try load(checkpoint) }
    log(
      "generation \(assignment.generation): units \(plan.myUnits), experts \(plan.myExperts), \(threads) threads, "
        + "\(layout.totalCount) parameters in the model, \(trainer.byteCount >> 20) MiB here"
        + (trainer.recomputes ? ", segments are computed again in the backward" : ""))
  }

  /// A message that came before this worker was told to begin: its sender had been told already.
  package func accept(early message: DataMessage) { link.accept(early: message) }

  /// Worker of each expert.
  static func owners(_ roster: [RosterEntry], experts: Int) -> [Int] {
    var owners = Array(repeating: 0, count: experts)
    for (index, entry) in roster.enumerated() { for expert in entry.experts { owners[expert] = index } }
    return owners
  }

  /// All steps that are left. Returns when the last checkpoint's shard is on disk.
  package func run() throws {
    let configuration = assignment.configuration
    let steps = configuration.training.steps
    for step in assignment.firstStep..<max(steps, assignment.firstStep) {
      try checkStopped(step)
      let begun = ContinuousClock.now
      let result = try profile.step(step, trainer, log: log)
      let done = step + 1
      if assignment.index == 0 { report(result, seconds: begun.duration(to: .now)) }
      let isLast = done == steps
      let every = configuration.training.evaluateEvery
      if let validation, isLast || (every > 0 && done % every == 0) { try evaluate(validation, after: done) }
      let saveEvery = configuration.checkpoint.every
      if isLast || (saveEvery > 0 && done % saveEvery == 0) { try save(after: done) }
    }
  }

  private func checkStopped(_ step: Int) throws {
    link.step = step
    let now = ContinuousClock.now
    // Heartbeats leave four times a second; a fresh note more often would not be heard.
    if lastNote.duration(to: now) > .milliseconds(100) || step == assignment.firstStep {
      lastNote = now
      network.note(Heartbeat(generation: assignment.generation, step: step))
    }
    if let reason = network.pendingStop() { throw Stopped(reason: reason) }
  }

  private func report(_ result: StepResult, seconds: Duration) {
    let losses = result.losses
    network.report(
      .stepDone(
        generation: assignment.generation,
        StepRecord(
          step: result.step + 1, loss: losses.total, task: losses.task, smooth: losses.smooth, balance: losses.balance,
          routerZ: losses.routerZ, gradientNorm: result.gradientNorm, learningRate: result.learningRate,
          tokens: result.tokens, seconds: seconds.inSeconds, loads: result.loads)))
  }

  private func evaluate(_ validation: LanguageModelSource, after step: Int) throws {
    let sequences = assignment.configuration.training.evaluateSequences
    guard let losses = try trainer.evaluate(validation, step: step, sequences: sequences), assignment.index == 0 else {
      return
    }
    network.report(
      .evaluated(
        generation: assignment.generation,
        EvaluationRecord(step: step, loss: losses.task, sequences: min(sequences, validation.sequenceCount))))
  }

  // MARK: checkpoints

  /// This worker's shard, and from the first one the file that joins them.
  private func save(after step: Int) throws {
    let writer = try CheckpointWriter(folder: assignment.folder, step: step, shardCount: trainer.plan.workerCount)
    var tensors: [NamedTensor] = []
    for owned in trainer.optimizer.owned {
      let entry = owned.entry
      tensors.append(NamedTensor(name: "model/" + entry.name, shape: entry.shape, values: owned.values))
      guard entry.isTrained else { continue }
      tensors.append(NamedTensor(name: "optimizer/first/" + entry.name, shape: entry.shape, values: owned.first))
      tensors.append(NamedTensor(name: "optimizer/second/" + entry.name, shape: entry.shape, values: owned.second))
    }
    var files = [try writer.writeShard(assignment.index, tensors)]
    if assignment.index == 0 {
      files.append(try writer.writeModel(RunJob.shards(trainer.plan, trainer.parameters.layout)))
    }
    network.report(.saved(generation: assignment.generation, step: step, files: files))
  }

  /// Which shard holds each tensor of a checkpoint.
  private static func shards(_ plan: WorkPlan, _ layout: ParameterLayout) -> [(name: String, shard: Int)] {
    var shards: [(String, Int)] = []
    func add(_ entry: ParameterEntry, _ shard: Int) {
      guard entry.count > 0 else { return }
      shards.append(("model/" + entry.name, shard))
      guard entry.isTrained else { return }
      shards.append(("optimizer/first/" + entry.name, shard))
      shards.append(("optimizer/second/" + entry.name, shard))
    }
    for entry in layout.dense { add(entry, plan.denseRanges.firstIndex { $0.contains(entry.offset) } ?? 0) }
    for (expert, entries) in layout.experts.enumerated() {
      for entry in entries { add(entry, plan.expertOwners[expert]) }
    }
    return shards
  }

  /// Every dense parameter, this worker's experts, and the moments of what it owns.
  private func load(_ path: String) throws {
    let reader = try CheckpointReader(path)
    try trainer.parameters.forEachTensor { entry, values in
      if entry.count > 0 { try reader.read("model/" + entry.name, shape: entry.shape, into: values) }
    }
    for owned in trainer.optimizer.owned where owned.entry.isTrained {
      try reader.read("optimizer/first/" + owned.entry.name, shape: owned.entry.shape, into: owned.first)
      try reader.read("optimizer/second/" + owned.entry.name, shape: owned.entry.shape, into: owned.second)
    }
    trainer.parameters.changed()
  }
}

package enum JobError: Error, CustomStringConvertible {
  case vocabulary(model: Int, dataset: Int, path: String)
  case noLabels(head: Head, path: String)

  package var description: String {
    switch self {
    case .vocabulary(let model, let dataset, let path):
      "model.vocabulary is \(model), and \(path) uses \(dataset) tokens; raise it or leave it out"
    case .noLabels(let head, let path):
      "\(path) holds text without labels, which model.head: \(head.rawValue) needs; text trains head: lm"
    }
  }
}
