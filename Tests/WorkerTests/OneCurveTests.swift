// One run has one curve: the promise on which all other tests of the cluster are based.

import Checkpoint
import Configuration
import Foundation
import Kernels
import Model
import RunFolder
import TestSupport
import Testing
import Training
import Wire
import Worker

@Suite(.serialized) struct OneCurveTests {
  /// Every tensor of a checkpoint, by name: weights and moments as bits.
  func tensors(
    _ folder: String, step: Int, _ files: [CheckpointManifest.File], _ c: RunConfiguration, generation: UInt32 = 1
  ) throws -> [String: [Float]] {
    let manifest = CheckpointManifest(
      run: c.run, runIdentifier: "1", step: step, configuration: c, loss: nil, files: files, writer: "test",
      created: "",
      generation: generation)
    let path = try CheckpointFolder.commit(manifest, folder: folder)
    let reader = try CheckpointReader(path)
    var tensors: [String: [Float]] = [:]
    for name in checkpointNames(c) {
      let shape = try reader.shape(of: name)
      var values = [Float](repeating: 0, count: shape.reduce(1, *))
      try reader.read(name, shape: shape, into: &values)
      tensors[name] = values
    }
    return tensors
  }

  @Test func `twenty steps on one, two, three and five workers with one and two threads are one curve, bit for bit`()
    throws
  {
    let scratch = ScratchFolder()
    let c = try smallRun(scratch)
    var reference:
      (steps: [StepRecord], evaluations: [EvaluationRecord], looks: [RouterRecord], tensors: [String: [Float]])?
    for (workers, threads) in [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2), (5, 1)] {
      let folder = scratch.path + "/\(workers)-\(threads)"
      let outcome = try OneProcessCluster(c, workers: workers, threads: threads, folder: folder).run()
      #expect(outcome.errors == [], "\(workers) workers, \(threads) threads")
      #expect(outcome.steps.map(\.step) == Array(1...20))
      #expect(outcome.evaluations.map(\.step) == [10, 20])
      let saved = try tensors(folder, step: 20, outcome.files[20] ?? [], c)
      guard let first = reference else {
        reference = (outcome.steps, outcome.evaluations, outcome.examinations, saved)
        #expect(outcome.examinations.map(\.step) == [1, 10, 20])
        #expect(
          outcome.examinations.allSatisfy { $0.loads.map { $0.reduce(0, +) } == [480, 480] }, "6 · 40 tokens, 2 experts"
        )
        #expect(outcome.steps[19].task < outcome.steps[0].task - 0.3, "nothing was learnt")
        continue
      }
      #expect(outcome.steps == first.steps, "\(workers) workers, \(threads) threads")
      #expect(outcome.evaluations == first.evaluations, "\(workers) workers, \(threads) threads")
      #expect(outcome.examinations == first.looks, "\(workers) workers, \(threads) threads")
      #expect(saved == first.tensors, "\(workers) workers, \(threads) threads")
    }
  }

  /// Trains with experts where `choice` puts them, and requires the curve and the weights of a run on one worker.
  func run(
    _ c: RunConfiguration, _ workers: Int, _ threads: Int, _ choice: String, _ folder: String,
    like alone: OneProcessCluster.Outcome, _ saved: [String: [Float]], sharesMemory: Bool = false
  ) throws -> OneProcessCluster.Outcome {
    var c = c
    c.cluster.experts = ExpertChoice(rawValue: choice) ?? .travel
    let outcome = try OneProcessCluster(
      c, workers: workers, threads: threads, folder: folder, copies: choice == "mixed" ? mixed(workers) : nil,
      sharesMemory: sharesMemory
    ).run()
    #expect(outcome.errors == [], "\(folder)")
    #expect(outcome.steps == alone.steps, "\(folder)")
    #expect(outcome.evaluations == alone.evaluations, "\(folder)")
    let step = c.training.steps
    #expect(try tensors(folder, step: step, outcome.files[step] ?? [], c) == saved, "\(folder)")
    return outcome
  }

  /// The copies of `workers` workers: expert 0 on every worker, expert 3 on the last one, the others nowhere.
  func mixed(_ workers: Int) -> [[Int]] { (0..<workers).map { $0 == workers - 1 ? [0, 3] : [0] } }

  @Test
  func
    `whether rows travel, experts are copied to all or to some workers, or the program decides, the curve is one`()
    throws
  {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateEvery) = (6, 3)
    (c.cluster.audit, c.cluster.mirrorEvery) = (0.3, 2)
    c.cluster.experts = .travel
    let alone = try OneProcessCluster(c, workers: 1, threads: 1, folder: scratch.path + "/1").run()
    #expect(alone.errors == [])
    let saved = try tensors(scratch.path + "/1", step: 6, alone.files[6] ?? [], c)
    var sent: [String: Double] = [:]
    for (workers, threads) in [(2, 1), (2, 2), (3, 1), (3, 2)] {
      for choice in ["travel", "copy", "mixed", "auto"] {
        let name = "\(workers)-\(threads)-\(choice)", folder = scratch.path + "/" + name
        let outcome = try run(c, workers, threads, choice, folder, like: alone, saved)
        sent[name] = outcome.sent.last!.reduce(0, +)
      }
      // Not one row travels where all experts are copied, so the messages are others.
      let bytes = ["travel", "copy", "mixed"].map { sent["\(workers)-\(threads)-\($0)"]! }
      #expect(Set(bytes).count == 3, "\(bytes)")
    }
  }

  @Test
  func
    `with bf16 factors the curve is one as well, with any implementation of the products, and near that of fp32`()
    throws
  {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateEvery) = (8, 4)
    (c.cluster.audit, c.cluster.mirrorEvery, c.cluster.experts) = (0.3, 2, .travel)
    let single = try OneProcessCluster(c, workers: 1, threads: 1, folder: scratch.path + "/fp32").run()
    c.model.precision = .bf16
    let alone = try OneProcessCluster(c, workers: 1, threads: 1, folder: scratch.path + "/1").run()
    #expect(alone.errors == [] && single.errors == [])
    let saved = try tensors(scratch.path + "/1", step: 8, alone.files[8] ?? [], c)
    for (one, other) in zip(alone.steps, single.steps) {
      #expect(one.task != other.task && abs(one.task / other.task - 1) < 0.01, "\(one.task), \(other.task)")
    }
    // The bits do not depend on the implementation, so other tests may run meanwhile.
    for implementation in RoundedProducts.Implementation.allCases.reversed()
    where RoundedProducts.use(implementation) {
      let folder = scratch.path + "/\(implementation)"
      _ = try run(c, 1, 2, "travel", folder, like: alone, saved)
    }
    for (workers, threads) in [(2, 1), (2, 2), (3, 1), (3, 2)] {
      for choice in ["travel", "copy", "mixed", "auto"] {
        _ = try run(c, workers, threads, choice, scratch.path + "/\(workers)-\(threads)-\(choice)", like: alone, saved)
      }
    }
    (c.cluster.teams, c.training.recompute) = (2, .always)
    _ = try run(c, 2, 2, "travel", scratch.path + "/teams", like: alone, saved)
  }

  @Test func `workers that share memory send no gradients and no parameters, and have the curve of those that do`()
    throws
  {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateEvery, c.cluster.audit, c.cluster.mirrorEvery) = (6, 3, 0.3, 2)
    c.cluster.experts = .copy
    let alone = try OneProcessCluster(c, workers: 1, threads: 1, folder: scratch.path + "/1").run()
    let saved = try tensors(scratch.path + "/1", step: 6, alone.files[6] ?? [], c)
    let onceAStep: Set<DataPhase> = [.gradient, .expertGradient, .parameters, .expertParameters]
    for (workers, threads) in [(2, 1), (2, 2), (3, 1), (4, 2), (6, 1)] {
      var sent: [[[Double]]] = []
      for shares in [false, true] {
        let folder = scratch.path + "/\(workers)-\(threads)-\(shares)"
        let outcome = try run(c, workers, threads, "copy", folder, like: alone, saved, sharesMemory: shares)
        #expect(outcome.messages.keys.allSatisfy { !onceAStep.contains($0) } == shares, "\(outcome.messages)")
        sent.append(outcome.sent)
      }
      // The same numbers reach the peers; messages have headers besides.
      for (messages, board) in zip(sent[0], sent[1]) {
        #expect(zip(messages, board).allSatisfy { $0 > $1 && $0 < 1.1 * $1 }, "\(messages), \(board)")
      }
    }
  }

  @Test func `where rows travel, or the configuration forbids it, the workers share no memory`() throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateEvery, c.training.evaluateSequences) = (2, 0, 0)
    for (experts, way) in [(ExpertChoice.travel, SameMachine.memory), (.copy, .messages)] {
      (c.cluster.experts, c.cluster.sameMachine) = (experts, way)
      let outcome = try OneProcessCluster(
        c, workers: 2, threads: 1, folder: scratch.path + "/\(experts)", sharesMemory: true
      ).run()
      #expect(outcome.errors == [] && outcome.messages[.gradient, default: 0] > 0, "\(outcome.messages)")
    }
  }

  @Test func `large experts travel in parts of 4 MiB, and rows that wait for their gradients change no bit`() throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateEvery, c.cluster.mirrorEvery) = (2, 0, 1)
    // Three parts of 1.1 million numbers each, one of which is larger than a message.
    (c.model.width, c.model.heads, c.model.expertWidth, c.model.experts) = (520, 4, 2050, 2)
    c.model.activeExperts = 1
    c.model.sharedExpert = false
    (c.data.sequenceLength, c.training.batchSequences) = (16, 4)
    let layout = ParameterLayout(c, vocabulary: 257)
    #expect(layout.expertParts.count == 6)
    for workers in 1...3 { #expect(GradientDelay.level(c, layout, workers: workers, lanes: 1) != nil) }
    var reference: (steps: [StepRecord], tensors: [String: [Float]])?
    for (workers, choice, teams) in [
      (1, ExpertChoice.travel, 1), (1, .travel, 2), (2, .travel, 1), (2, .travel, 2), (2, .copy, 2), (3, .copy, 1),
    ] {
      (c.cluster.experts, c.cluster.teams) = (choice, teams)
      let folder = scratch.path + "/\(workers)-\(choice)-\(teams)"
      let outcome = try OneProcessCluster(c, workers: workers, threads: teams, folder: folder).run()
      #expect(outcome.errors == [])
      #expect(outcome.largestMessage <= 4 << 20)
      let saved = try tensors(folder, step: 2, outcome.files[2] ?? [], c)
      #expect(outcome.steps == reference?.steps ?? outcome.steps && outcome.steps.count == 2, "\(folder)")
      #expect(saved == reference?.tensors ?? saved, "\(folder)")
      reference = reference ?? (outcome.steps, saved)
    }
  }

  @Test func `teams of any number on any number of workers compute one curve, wherever experts compute`() throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateEvery, c.cluster.audit) = (4, 2, 0.3)
    (c.cluster.teams, c.cluster.experts) = (1, .travel)
    let alone = try OneProcessCluster(c, workers: 1, threads: 1, folder: scratch.path + "/1").run()
    #expect(alone.errors == [])
    let saved = try tensors(scratch.path + "/1", step: 4, alone.files[4] ?? [], c)
    for workers in 1...3 {
      for (teams, threads) in [(2, 2), (2, 5), (3, 5)] {
        for choice in ["travel", "copy", "mixed"] where workers > 1 || choice == "travel" {
          let name = "\(workers) workers, \(teams) teams, \(threads) threads, \(choice)"
          let folder = scratch.path + "/" + name
          c.cluster.teams = teams
          _ = try run(c, workers, threads, choice, folder, like: alone, saved)
        }
      }
    }
  }

  /// Switches that change the table of parameters or the number of experts.
  static let variants: [(String, @Sendable (inout ModelConfiguration) -> Void)] = [
    ("separate blocks", { $0.separateBlocks = true }),
    ("three steps of two blocks in turn", { ($0.separateBlocks, $0.steps, $0.blocks) = (true, 3, 2) }),
    ("separate blocks with one pool of experts", { ($0.separateBlocks, $0.poolExperts) = (true, true) }),
    ("a dense network for the experts", { $0.feedForward = .dense }),
    (
      "no structure bias, no top-k, every token a neighbour",
      { ($0.structureBias, $0.keys, $0.graphDegree) = (false, nil, nil) }
    ),
    ("bf16 factors with separate blocks", { ($0.precision, $0.separateBlocks) = (.bf16, true) }),
    ("bf16 factors in the dense baseline", { ($0.precision, $0.architecture, $0.segment) = (.bf16, .transformer, 64) }),
    ("the dense baseline", { ($0.architecture, $0.segment) = (.transformer, 64) }),
    (
      "the dense baseline with learned positions",
      { ($0.architecture, $0.segment, $0.positions) = (.transformer, 64, .learned) }
    ),
  ]

  @Test(arguments: variants.indices)
  func `a model with other parts also has one curve, and learns`(index: Int) throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    Self.variants[index].1(&c.model)
    let alone = try OneProcessCluster(c, workers: 1, threads: 1, folder: scratch.path + "/1").run()
    #expect(alone.errors == [], "\(Self.variants[index].0)")
    #expect(alone.steps.last!.task < alone.steps[0].task - 0.2, "\(Self.variants[index].0) learnt nothing")
    let saved = try tensors(scratch.path + "/1", step: 20, alone.files[20] ?? [], c)
    for (workers, threads) in [(2, 2), (3, 1)] {
      let folder = scratch.path + "/\(workers)"
      let outcome = try OneProcessCluster(c, workers: workers, threads: threads, folder: folder).run()
      #expect(outcome.errors == [], "\(Self.variants[index].0)")
      #expect(outcome.steps == alone.steps, "\(Self.variants[index].0) on \(workers) workers")
      #expect(try tensors(folder, step: 20, outcome.files[20] ?? [], c) == saved)
    }
  }

  @Test func `a shared expert, several sequences per unit and recomputed segments keep one curve`() throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    c.model.sharedExpert = true
    c.training.unitSequences = 2
    c.training.steps = 5
    c.training.evaluateSequences = 0
    let kept = try OneProcessCluster(c, workers: 1, threads: 1, folder: scratch.path + "/a").run()
    c.training.recompute = .always
    let again = try OneProcessCluster(c, workers: 3, threads: 1, folder: scratch.path + "/b").run()
    #expect(again.errors == [])
    #expect(kept.steps == again.steps)
  }
}

/// The names of a checkpoint's tensors.
func checkpointNames(_ c: RunConfiguration) -> [String] {
  let layout = ParameterLayout(c.model, vocabulary: c.model.vocabulary ?? 257)
  let entries = layout.dense + layout.experts.flatMap { $0 }
  return entries.filter { $0.count > 0 }.flatMap { entry in
    entry.storedKinds.map { $0.name(of: entry) }
  }
}
