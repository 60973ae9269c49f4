// One run has one curve across its checkpoints: written by some workers, read by others, written again after a failure.

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

extension OneCurveTests {
  @Test(arguments: [(2, 1), (1, 3), (3, 2)])
  func `a run resumed with another number of workers gives the same bits`(before: Int, after: Int) throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    c.training.evaluateSequences = 0
    let whole = try OneProcessCluster(c, workers: before, threads: 1, folder: scratch.path + "/whole").run()
    c.checkpoint.every = 7
    let folder = scratch.path + "/parts"
    let first = try OneProcessCluster(c, workers: before, threads: 1, folder: folder).run()
    let manifest = CheckpointManifest(
      run: c.run, runIdentifier: "1", step: 7, configuration: c, loss: nil, files: first.files[7]!, writer: "test",
      created: "", generation: 1, numerics: OneProcessCluster.numerics)
    let checkpoint = try CheckpointFolder.commit(manifest, folder: folder)
    let second = try OneProcessCluster(
      c, workers: after, threads: 1, folder: scratch.path + "/second", checkpoint: checkpoint, firstStep: 7
    ).run()
    #expect(second.errors == [])
    #expect(second.steps == Array(whole.steps[7...]))
    let one = try tensors(scratch.path + "/whole", step: 20, whole.files[20]!, c)
    let other = try tensors(scratch.path + "/second", step: 20, second.files[20]!, c)
    #expect(one == other)
  }

  @Test(arguments: [nil, "ress-0/1"])
  func `a checkpoint of other numerics is refused by name, and accepted where that is asked for`(numerics: String?)
    throws
  {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateSequences) = (4, 0)
    let folder = scratch.path + "/first"
    c.checkpoint.every = 2
    let first = try OneProcessCluster(c, workers: 1, threads: 1, folder: folder).run()
    let manifest = CheckpointManifest(
      run: c.run, runIdentifier: "1", step: 2, configuration: c, loss: nil, files: first.files[2]!, writer: "test",
      created: "", generation: 1, numerics: numerics)
    let checkpoint = try CheckpointFolder.commit(manifest, folder: folder)
    func resume(_ accepts: Bool) throws -> OneProcessCluster.Outcome {
      try OneProcessCluster(
        c, workers: 2, threads: 1, folder: scratch.path + "/second", checkpoint: checkpoint, firstStep: 2,
        acceptsOtherNumerics: accepts
      ).run()
    }
    let refusal = try #require(throws: JobError.self) { _ = try resume(false) }
    #expect("\(refusal)".contains(numerics ?? "the numerics of an older program"), "\(refusal)")
    #expect(
      "\(refusal)".contains(OneProcessCluster.numerics) && "\(refusal)".contains("--resume with --accept-numerics"))
    let accepted = try resume(true)
    #expect(accepted.errors == [] && accepted.steps == Array(first.steps[2...]))
  }

  @Test
  func `writing a checkpoint is retried after a failure, training continues, and the curve is the same`()
    throws
  {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    let whole = try OneProcessCluster(c, workers: 2, threads: 1, folder: scratch.path + "/whole").run()
    c.checkpoint.every = 7
    let folder = scratch.path + "/run"
    // A file at the path of the folder, so that nothing can be written. The second save replaces the first one.
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for step in [7, 20] {
      _ = FileManager.default.createFile(
        atPath: CheckpointFolder.unfinished(folder, step: step, generation: 1), contents: nil)
    }
    let cluster = OneProcessCluster(c, workers: 2, threads: 1, folder: folder)
    let outcome = try cluster.run {
      func failed(_ step: Int) -> Bool {
        cluster.channels.allSatisfy { channel in
          channel.reports.contains { if case .saveFailed(step, _) = $0 { true } else { false } }
        }
      }
      #expect(waitUntil { failed(20) } && failed(7))
      try! FileManager.default.removeItem(atPath: CheckpointFolder.unfinished(folder, step: 20, generation: 1))
    }
    #expect(outcome.errors == [] && outcome.steps == whole.steps)
    #expect(outcome.files.keys.sorted() == [14, 20])
    #expect(
      try tensors(folder, step: 20, outcome.files[20]!, c)
        == tensors(scratch.path + "/whole", step: 20, whole.files[20]!, c))
  }
}
