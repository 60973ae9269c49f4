// Workers end a run early by themselves, all after the same step, and save the model with the best evaluation.

import Configuration
import Foundation
import RunFolder
import TestSupport
import Testing
import Wire
import Worker

@Suite(.serialized) struct EarlyStopTests {
  private let scratch = ScratchFolder()

  /// A run whose validation loss stays as it is, because its steps change almost nothing: the first evaluation is the
  /// best.
  private func configuration() throws -> RunConfiguration {
    var c = try smallRun(scratch)
    (c.optimizer.learningRate, c.optimizer.weightDecay, c.model.balancerRate) = (1e-30, 0, 0)
    (c.training.evaluateEvery, c.training.stopAfter) = (2, 3)
    (c.checkpoint.every, c.checkpoint.keepBest) = (3, 1)
    return c
  }

  @Test
  func `all workers of any cluster end after the same step, with a checkpoint, and the best evaluation has one too`()
    throws
  {
    let c = try configuration()
    for workers in 1...3 {
      let outcome = try OneProcessCluster(c, workers: workers, threads: 1, folder: scratch.path + "/\(workers)").run()
      #expect(outcome.errors == [] && outcome.endings == Array(repeating: .finished, count: workers))
      #expect(outcome.steps.map(\.step) == Array(1...8), "\(workers) workers")
      #expect(outcome.evaluations.map(\.step) == [2, 4, 6, 8])
      #expect(Set(outcome.evaluations.map(\.loss)).count == 1)
      #expect(outcome.files.keys.sorted() == [2, 3, 6, 8], "the best, those of every third step, and the last")
    }
  }

  @Test func `a generation that begins later counts on from the best evaluation before it`() throws {
    var c = try configuration()
    let first = try OneProcessCluster(c, workers: 2, threads: 1, folder: scratch.path + "/first").run()
    var standing = EvaluationStanding()
    _ = standing.take(step: 2, loss: first.evaluations[0].loss)
    let manifest = CheckpointManifest(
      run: c.run, runIdentifier: "1", step: 3, configuration: c, loss: nil, files: first.files[3]!, writer: "test",
      created: "", generation: 1, numerics: OneProcessCluster.numerics)
    let checkpoint = try CheckpointFolder.commit(manifest, folder: scratch.path + "/first")
    func go(_ standing: EvaluationStanding) throws -> [Int] {
      try OneProcessCluster(
        c, workers: 1, threads: 1, folder: scratch.path + "/\(UUID().uuidString)", checkpoint: checkpoint, firstStep: 3
      ).run(evaluations: standing).steps.map(\.step)
    }
    #expect(try go(standing) == Array(4...8))
    #expect(try go(EvaluationStanding()) == Array(4...10), "without the best one, that of step 4 is the first")
    c.training.stopAfter = 0
    #expect(try go(standing) == Array(4...20))
  }
}
