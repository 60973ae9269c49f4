// A model whose embedding is larger than everything else together: its rows have several owners. The curve, the copies
// and the checkpoints are those of a model whose tensors have one owner each.

import Checkpoint
import Configuration
import Foundation
import Kernels
import Model
import RunFolder
import TestSupport
import Testing
import Trained
import Training
import Wire
import Worker

@Suite(.serialized) struct LargeTensorTests {
  private let scratch = ScratchFolder()
  private static let embedding = "model/embed/weight"

  /// The embedding has 480,000 values, in which there are 7 borders.
  private func configuration() throws -> RunConfiguration {
    var c = try smallRun(scratch)
    c.model.vocabulary = 30_000
    (c.data.sequenceLength, c.training.batchSequences, c.training.steps) = (12, 7, 5)
    (c.training.evaluateEvery, c.training.evaluateSequences) = (0, 0)
    (c.cluster.mirrorEvery, c.cluster.experts, c.checkpoint.every) = (2, .travel, 2)
    return c
  }

  private struct Run {
    var cluster: OneProcessCluster
    var outcome: OneProcessCluster.Outcome
    var folder: String
  }

  private func run(
    _ c: RunConfiguration, _ workers: Int, _ name: String, sharesMemory: Bool = false, from checkpoint: String? = nil,
    firstStep: Int = 0, after before: OneProcessCluster? = nil, holders: [Int]? = nil
  ) throws -> Run {
    let folder = scratch.path + "/" + name
    let cluster = OneProcessCluster(
      c, workers: workers, threads: 1, folder: folder, checkpoint: checkpoint, firstStep: firstStep,
      sharesMemory: sharesMemory, after: before, holders: holders)
    let outcome = try cluster.run()
    #expect(outcome.errors == [], "\(name)")
    return Run(cluster: cluster, outcome: outcome, folder: folder)
  }

  /// Commits a checkpoint of a run, and returns its folder.
  private func commit(_ run: Run, step: Int, _ c: RunConfiguration, generation: UInt32 = 1) throws -> String {
    try CheckpointFolder.commit(
      CheckpointManifest(
        run: c.run, runIdentifier: "1", step: step, configuration: c, loss: nil,
        files: try #require(run.outcome.files[step]), writer: "test", created: "", generation: generation,
        numerics: OneProcessCluster.numerics), folder: run.folder)
  }

  private func expectSame(_ a: String, _ b: String) throws {
    let (differences, tensors) = try CheckpointCheck.differences(CheckpointReader(a), CheckpointReader(b))
    #expect(differences == [] && tensors > 50, "\(a), \(b)")
  }

  /// Number of owners that have written rows of the embedding.
  private func owners(_ checkpoint: String) throws -> Int {
    let reader = try CheckpointReader(checkpoint)
    var owners = 0, row = 0
    while let shape = try? reader.shape(of: TensorRows.stored(Self.embedding, from: row)) {
      owners += 1
      row += shape[0]
    }
    return owners == 0 ? 1 : owners
  }

  @Test func `losses and weights are the same on one, two, three and seven workers, in messages and in shared memory`()
    throws
  {
    var c = try configuration()
    (c.training.evaluateEvery, c.training.evaluateSequences, c.cluster.audit) = (5, 2, 0.3)
    let alone = try run(c, 1, "1")
    let one = try commit(alone, step: 5, c)
    #expect(try owners(one) == 1)
    for (workers, choice, sharesMemory) in [
      (2, ExpertChoice.travel, false), (3, .copy, true), (7, .copy, true), (7, .travel, false),
    ] {
      c.cluster.experts = choice
      let other = try run(c, workers, "\(workers)-\(choice)", sharesMemory: sharesMemory)
      #expect(other.outcome.steps == alone.outcome.steps && other.outcome.steps.count == 5, "\(workers) workers")
      #expect(other.outcome.evaluations == alone.outcome.evaluations && other.outcome.evaluations.count == 1)
      #expect((other.outcome.messages[.gradient] == nil) == sharesMemory)
      c.cluster.experts = .travel
      let path = try commit(other, step: 5, c)
      #expect(try owners(path) == workers)
      try expectSame(one, path)
    }
  }

  @Test(arguments: [2, 7])
  func `after a worker is lost or others join, the next generation continues from memory with the same bits`(
    workers: Int
  ) throws {
    let c = try configuration()
    let alone = try run(c, 1, "1")
    let one = try commit(alone, step: 5, c)
    let first = try run(c, 3, "3")
    // The shard of worker 2 comes from its mirror, which has a copy of step 4, the newest.
    let holder = try #require(
      first.cluster.channels[..<2].firstIndex { $0.store.held.contains { $0.index == 2 && $0.step == 4 } })
    let next = try run(c, workers, "\(workers)", firstStep: 4, after: first.cluster, holders: [0, 1, holder])
    #expect(next.outcome.steps == Array(alone.outcome.steps[4...]))
    try expectSame(one, commit(next, step: 5, c, generation: 2))
  }

  /// Writes a checkpoint again as a program did that divided no tensors: two shards of whole tensors.
  private func asBefore(_ checkpoint: String, _ c: RunConfiguration) throws -> String {
    let reader = try CheckpointReader(checkpoint), folder = scratch.path + "/before"
    let writer = try CheckpointWriter(folder: folder, step: reader.manifest.step, generation: 0, shardCount: 2)
    var files: [CheckpointManifest.File] = []
    var links: [(name: String, shard: Int)] = []
    for shard in 0..<2 {
      var tensors: [NamedTensor] = []
      for (number, (name, shape)) in try reader.tensors().enumerated() where number % 2 == shard {
        let values = ShardMemory(count: shape.reduce(1, *))
        try reader.read(name, shape: shape, into: values.pointer)
        tensors.append(NamedTensor(name: name, shape: shape) { $0(values.pointer) })
        links.append((name, shard))
      }
      files.append(try writer.writeShard(shard, tensors))
    }
    files.append(try writer.writeModel(links))
    return try CheckpointFolder.commit(
      CheckpointManifest(
        run: c.run, runIdentifier: "1", step: reader.manifest.step, configuration: c, loss: nil, files: files,
        writer: "test", created: "", numerics: OneProcessCluster.numerics), folder: folder)
  }

  @Test func `a checkpoint of any number of owners, or of an older program, resumes on any number of workers`() throws {
    let c = try configuration()
    let alone = try run(c, 1, "1")
    let (one, last) = (try commit(alone, step: 2, c), try commit(alone, step: 5, c))
    let three = try commit(run(c, 3, "3"), step: 2, c)
    #expect(try owners(three) == 3)
    let old = try asBefore(three, c)
    #expect(try owners(old) == 1 && CheckpointReader(old).manifest.files.count == 3)
    for (checkpoint, workers) in [(one, 3), (three, 1), (three, 2), (three, 7), (old, 3)] {
      let name = "resumed-\(workers)-" + UUID().uuidString
      let resumed = try run(c, workers, name, from: checkpoint, firstStep: 2)
      #expect(resumed.outcome.steps == Array(alone.outcome.steps[2...]), "\(checkpoint) on \(workers)")
      try expectSame(last, commit(resumed, step: 5, c))
    }
  }

  @Test func `an exported model and a verified checkpoint have whole tensors, and damage is reported by rows`() throws {
    let c = try configuration()
    let path = try commit(run(c, 3, "3"), step: 5, c)
    #expect(CheckpointCheck.problems(path) == [])
    let whole = try TrainedModel(path, threads: 1)
    #expect(whole.vocabulary == 30_000)
    _ = try ModelFile.write(path, to: scratch.path + "/model.safetensors", proofTokens: 0)
    let exported = try SafetensorsReader(scratch.path + "/model.safetensors")
    #expect(exported.tensors["embed.weight"]?.shape == [30_000, 16])
    #expect(exported.tensors.keys.allSatisfy { !$0.contains("rows") })
    var values = [Float](repeating: 0, count: 480_000)
    try CheckpointReader(path).read(Self.embedding, shape: [30_000, 16], into: &values)
    #expect(try exported.read("embed.weight", shape: [30_000, 16]) == values)
    // A value in the middle of the second owner's rows.
    let place = path + "/shard-0001-of-0003.h5"
    var bytes = try #require(FileManager.default.contents(atPath: place))
    let number = values[240_000..<240_004].withUnsafeBytes { Data($0) }
    bytes[try #require(bytes.range(of: number)).lowerBound] ^= 4
    try bytes.write(to: URL(filePath: place))
    let problems = CheckpointCheck.problems(path)
    #expect(problems.count == 2 && problems[0].contains("shard-0001-of-0003.h5 is damaged"), "\(problems)")
    #expect(problems[1].contains("\(Self.embedding)/rows-from-"), "\(problems)")
  }

  @Test(arguments: [2, 3, 7])
  func `the plan counts the rows of each worker: buffers, bytes sent and checkpoints are as large as it says`(
    workers: Int
  ) throws {
    var c = try configuration()
    (c.cluster.workers, c.cluster.threads, c.cluster.mirrorEvery, c.checkpoint.every) = (workers, 1, 1, 0)
    let outcome = try run(c, workers, "run").outcome
    let needs = RunNeeds(c, vocabulary: 30_000, cores: 2, memoryBytes: 8 << 30, hosts: workers)
    let planned = needs.modelBytes + needs.activationBytes + needs.copyBytes
    let most = outcome.heldBytes.max()!
    #expect(abs(Double(most) / Double(planned) - 1) < 0.15, "\(outcome.heldBytes) of \(planned)")
    for sent in outcome.sent.dropFirst() {
      let mean = sent.reduce(0, +) / Double(workers)
      #expect(abs(mean / Double(needs.sentBytes) - 1) < 0.15, "\(mean) of \(needs.sentBytes)")
    }
    let saved = try #require(outcome.files[5]).reduce(0) { $0 + $1.byteCount }
    #expect(abs(Double(saved) / Double(needs.checkpointBytes) - 1) < 0.15, "\(saved) of \(needs.checkpointBytes)")
  }

  @Test func `of a model with an embedding of 50,000 by 1,024 no worker has the moments of more than its share`() {
    var c = RunConfiguration()
    (c.model.width, c.model.heads, c.model.steps) = (1024, 16, 4)
    (c.model.experts, c.model.activeExperts, c.model.expertWidth) = (32, 2, 2048)
    (c.data.sequenceLength, c.training.batchSequences) = (1024, 8)
    (c.cluster.threads, c.cluster.experts) = (1, .travel)
    for workers in [2, 4, 8] {
      c.cluster.workers = workers
      let needs = RunNeeds(c, vocabulary: 50_000, cores: 8, memoryBytes: 64 << 30, hosts: workers)
      let share = Double(8 * needs.layout.totalCount / workers)
      #expect(Double(needs.memory.moments) < 1.06 * share, "\(workers) workers: \(needs.memory.moments), \(share)")
    }
  }
}
