// A warm start: a run that begins with the weights of another one, and a run of which parts are frozen.

import Checkpoint
import Configuration
import Data
import Foundation
import Model
import RunFolder
import TestSupport
import Trained
import Testing
import Wire
import Worker

@Suite(.serialized) struct WarmStartTests {
  private let scratch = ScratchFolder()

  /// Trains the run, and commits its last checkpoint. Returns the checkpoint's folder.
  private func train(
    _ c: RunConfiguration, _ name: String, workers: Int = 1, from: WeightSource? = nil
  ) throws -> (path: String, outcome: OneProcessCluster.Outcome) {
    let folder = scratch.path + "/" + name
    let outcome = try OneProcessCluster(c, workers: workers, threads: 1, folder: folder, from: from).run()
    #expect(outcome.errors == [])
    let tokenizer = try Corpus(c.data).identity().tokenizer
    let manifest = CheckpointManifest(
      run: name, runIdentifier: "1", step: c.training.steps, configuration: c, loss: nil,
      files: outcome.files[c.training.steps] ?? [], writer: "test", created: "", generation: 1,
      data: DataIdentity(dataset: nil, tokenizer: tokenizer), numerics: OneProcessCluster.numerics)
    return (try CheckpointFolder.commit(manifest, folder: folder), outcome)
  }

  private func source(_ path: String) throws -> WeightSource {
    WeightSource(path: path, run: "base", step: 6, sha256: try CheckpointFolder.digest(path))
  }

  private func values(_ path: String, _ name: String) throws -> [Float] {
    let reader = try CheckpointReader(path)
    let shape = try reader.shape(of: name)
    var values = [Float](repeating: 0, count: shape.reduce(1, *))
    try reader.read(name, shape: shape, into: &values)
    return values
  }

  /// A run of 6 steps, and a configuration for another run with its weights.
  private func base() throws -> (path: String, next: RunConfiguration) {
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateEvery) = (6, 0)
    let path = try train(c, "base").path
    c.training.seed = 9
    c.model.from = path
    return (path, c)
  }

  @Test func `a warm start begins at step 0 with the weights of the source, and has one curve on any cluster`() throws {
    let (path, c) = try base()
    let from = try source(path)
    let alone = try train(c, "alone", from: from)
    let last = try values(path, "model/experts/0002/down")
    var cold = c
    cold.model.from = ""
    #expect(alone.outcome.steps.map(\.step) == Array(1...6))
    #expect(alone.outcome.steps != (try train(cold, "cold").outcome.steps))
    for workers in [2, 3] {
      let other = try train(c, "on-\(workers)", workers: workers, from: from)
      #expect(other.outcome.steps == alone.outcome.steps && other.outcome.evaluations == alone.outcome.evaluations)
      for name in checkpointNames(c) { #expect(try values(other.path, name) == values(alone.path, name), "\(name)") }
    }
    // One step with a learning rate of almost 0 leaves the weights as they were read.
    var still = c
    (still.training.steps, still.optimizer.learningRate, still.model.balancerRate) = (1, 1e-30, 0)
    #expect(try values(try train(still, "still", from: from).path, "model/experts/0002/down") == last)
  }

  @Test func `separate blocks that share their experts are written, read back and begun with like other models`() throws
  {
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateEvery) = (6, 0)
    (c.model.separateBlocks, c.model.poolExperts, c.model.steps) = (true, true, 3)
    let base = try train(c, "base", workers: 2)
    let reader = try CheckpointReader(base.path)
    #expect(reader.manifest.configuration == c)
    for name in ["block/0002/attn/query/weight", "block/0001/shared_expert/gate", "memory/pool_key/weight"] {
      #expect(throws: Never.self) { try reader.shape(of: "model/" + name) }
    }
    #expect(throws: CheckpointError.self) { try reader.shape(of: "model/experts/0004/gate") }
    var own = c
    own.model.poolExperts = false
    let mismatch = try #require(throws: WeightMismatch.self) { _ = try WarmStart(base.path, for: own, Corpus(c.data)) }
    #expect(mismatch.reason == "model.pool_experts is true there and false here")
    c.model.from = base.path
    (c.training.steps, c.optimizer.learningRate, c.optimizer.weightDecay, c.model.balancerRate) = (1, 1e-30, 0, 0)
    let still = try train(c, "still", workers: 3, from: source(base.path))
    for name in checkpointNames(c) where name.hasPrefix("model/") {
      #expect(try values(still.path, name) == values(base.path, name), "\(name)")
    }
  }

  @Test func `a resume after a warm start reads the run's own checkpoint, also when the source is gone`() throws {
    var (path, c) = try base()
    c.training.evaluateSequences = 0
    let from = try source(path)
    let whole = try train(c, "whole", from: from)
    c.checkpoint.every = 3
    let folder = scratch.path + "/parts"
    let first = try OneProcessCluster(c, workers: 2, threads: 1, folder: folder, from: from).run()
    let manifest = CheckpointManifest(
      run: c.run, runIdentifier: "1", step: 3, configuration: c, loss: nil, files: first.files[3]!, writer: "test",
      created: "", generation: 1, numerics: OneProcessCluster.numerics, from: from)
    let checkpoint = try CheckpointFolder.commit(manifest, folder: folder)
    #expect(try CheckpointFolder.readManifest(checkpoint).from == from)
    try FileManager.default.removeItem(atPath: path)
    let second = try OneProcessCluster(
      c, workers: 1, threads: 1, folder: scratch.path + "/second", checkpoint: checkpoint, firstStep: 3
    ).run()
    #expect(second.errors == [] && second.steps == Array(whole.outcome.steps[3...]))
  }

  @Test func `a source that changed after the coordinator looked at it is refused`() throws {
    let (path, c) = try base()
    var from = try source(path)
    from.sha256 = String(repeating: "0", count: 64)
    let error = try #require(throws: ChangedSource.self) {
      _ = try OneProcessCluster(c, workers: 1, threads: 1, folder: scratch.path + "/x", from: from).run()
    }
    #expect("\(error)".contains("is not the checkpoint that the run began with"))
  }

  @Test func `another head is drawn from the seed, and every other size must be the same`() throws {
    let (path, next) = try base()
    let corpus = try Corpus(next.data)
    func start(_ change: (inout RunConfiguration) -> Void) throws -> [String] {
      var c = next
      change(&c)
      return try WarmStart(path, for: c, corpus).drawn
    }
    #expect(try start { _ in } == [])
    #expect(try start { ($0.model.keys, $0.model.graphDegree, $0.model.cache) = (2, nil, 4) } == [])
    #expect(try start { ($0.model.head, $0.model.twoSidedTaps) = (.classify, false) } == ["head/weight"])
    // Biases of relations, which the source does not have.
    #expect(try start { $0.model.relationKinds = 2 } == ["relation/bias"])
    let wide = try #require(throws: WeightMismatch.self) {
      _ = try start { ($0.model.width, $0.model.experts, $0.model.keys) = (32, 8, 2) }
    }
    #expect(wide.reason == "model.width is 16 there and 32 here, model.experts is 4 there and 8 here")
    let pool = try #require(throws: WeightMismatch.self) {
      _ = try start { ($0.model.separateBlocks, $0.model.poolExperts) = (true, true) }
    }
    #expect(pool.reason == "model.separate_blocks is false there and true here")
    let taps = try #require(throws: WeightMismatch.self) { _ = try start { $0.model.head = .tag } }
    #expect(
      taps.reason.hasPrefix("model.head is lm there and tag here; ") && taps.reason.hasSuffix("two_sided_taps: false"))
    let vocabulary = try #require(throws: WeightMismatch.self) { _ = try start { $0.model.vocabulary = 300 } }
    #expect(vocabulary.reason == "model.vocabulary is 257 there and 300 here")
  }

  @Test func `another tokenizer is refused by its hash`() throws {
    let (path, next) = try base()
    var manifest = try CheckpointFolder.readManifest(path)
    manifest.data?.tokenizer = "12ab"
    manifest.generation = 2
    let aside = CheckpointFolder.unfinished(scratch.path, step: 6, generation: 2)
    try FileManager.default.copyItem(atPath: path, toPath: aside)
    let other = try CheckpointFolder.commit(manifest, folder: scratch.path)
    let error = try #require(throws: ModelUseError.self) {
      _ = try WarmStart(other, for: next, Corpus(next.data))
    }
    #expect("\(error)".contains("SHA-256 12ab"))
  }

  @Test
  func `frozen parts keep their weights to the bit, have no moments, and leave the norm of the gradient to the others`()
    throws
  {
    let (path, next) = try base()
    let from = try source(path)
    var c = next
    c.training.freeze = ["embed", "experts", "router"]
    let frozen = try train(c, "frozen", workers: 2, from: from)
    let free = try train(next, "free", from: from)
    for name in ["embed/weight", "experts/0001/gate", "experts/0003/down", "router/weight", "router/bias"] {
      #expect(try values(frozen.path, "model/" + name) == values(path, "model/" + name), "\(name)")
      #expect(try values(free.path, "model/" + name) != values(path, "model/" + name), "\(name)")
      #expect(throws: CheckpointError.self) { try CheckpointReader(frozen.path).shape(of: "optimizer/first/" + name) }
    }
    #expect(try values(frozen.path, "model/attn/query/weight") != values(path, "model/attn/query/weight"))
    // The losses of the first step are equal; the norm lacks the frozen parts.
    #expect(frozen.outcome.steps[0].loss == free.outcome.steps[0].loss)
    #expect(frozen.outcome.steps[0].gradientNorm < free.outcome.steps[0].gradientNorm)
    #expect(frozen.outcome.steps == (try train(c, "frozen-alone", from: from).outcome.steps))
  }

  @Test func `a name that no tensor has, and freezing everything, are errors that name the parts`() throws {
    var c = try smallRun(scratch)
    c.training.freeze = ["embed", "expert"]
    let unknown = try #require(FrozenParts.complaint(c))
    #expect(unknown.hasPrefix("training.freeze names 'expert', ") && unknown.contains("experts"))
    c.training.freeze = ["attn/query", "soes", "experts/0001"]
    #expect(FrozenParts.complaint(c) == nil)
    c.model.separateBlocks = true
    c.training.freeze = ["router", "block/0001"]
    #expect(FrozenParts.complaint(c) == nil)
    let layout = ParameterLayout(c, vocabulary: 5)
    #expect(layout.denseEntry("block/0000/router/weight")?.isFrozen == true)
    #expect(layout.denseEntry("block/0000/attn/query/weight")?.isFrozen == false)
    #expect(layout.denseEntry("block/0001/attn/query/weight")?.isFrozen == true)
    let names = layout.dense.map(\.name) + ["experts"]
    c.training.freeze = names
    #expect(FrozenParts.complaint(c)?.contains("nothing to train") == true)
  }
}
