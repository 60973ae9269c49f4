// Relations between tokens reach a model from its dataset: the workers read them, a run has one curve, and a
// configuration that does not fit the dataset is refused.

import Configuration
import Data
import Foundation
import Model
import TestSupport
import Testing
import Training
import Worker

@Suite(.serialized) struct RelationCurveTests {
  private let scratch = ScratchFolder()

  /// A run on rows in which relations of two kinds alone tell which of six equal words is asked for.
  private func run(kinds: Int = 2, relations: Bool = true) throws -> RunConfiguration {
    var c = RunConfiguration.smallModel
    c.run = "related"
    let rows = (0..<60).map { number in
      let answer = 1 + number * 7 % 6, other = 1 + (answer + number % 4) % 6
      let tags = (0...6).map { $0 == answer ? "1" : "0" }.joined(separator: ", ")
      let wrong = other == answer ? "" : ", [0, \(other), 0]"
      return
        #"{"words": ["ask", "a", "a", "a", "a", "a", "a"], "tags": [\#(tags)], "relations": [[0, \#(answer), 1]\#(wrong)]}"#
    }
    let source = scratch.path + "/rows.jsonl"
    try rows.joined(separator: "\n").write(toFile: source, atomically: true, encoding: .utf8)
    c.data.path = scratch.path + "/rows.h5"
    var preparation = DatasetPreparation(sources: [source], output: c.data.path)
    (preparation.task, preparation.readsRelations, preparation.validationFraction) = (.tag, relations, 0.2)
    _ = try preparation.run()
    (c.model.head, c.model.classes, c.model.relationKinds) = (.tag, 2, kinds)
    c.data.sequenceLength = 40
    (c.training.batchSequences, c.training.steps) = (6, 30)
    (c.training.evaluateEvery, c.training.evaluateSequences) = (15, 4)
    c.checkpoint.every = 0
    (c.optimizer.learningRate, c.optimizer.warmupSteps) = (2e-2, 4)
    return c
  }

  @Test func `a run with relations has one curve on any number of workers and threads, and learns what they tell`()
    throws
  {
    var c = try run()
    func train(_ c: RunConfiguration, _ name: String, workers: Int = 1, threads: Int = 1) throws
      -> OneProcessCluster.Outcome
    {
      let folder = scratch.path + "/" + name
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      let outcome = try OneProcessCluster(c, workers: workers, threads: threads, folder: folder).run()
      #expect(outcome.errors == [], "\(name)")
      return outcome
    }
    let alone = try train(c, "alone")
    for (workers, threads) in [(2, 2), (3, 1)] {
      let outcome = try train(c, "\(workers)", workers: workers, threads: threads)
      #expect(outcome.steps == alone.steps && outcome.evaluations == alone.evaluations, "\(workers) workers")
    }
    // Without them the same rows cannot be told apart: the loss stays at that of the tags' shares, .386 nats.
    c.model.relationKinds = 0
    let blind = try train(c, "blind")
    #expect(blind.steps.last!.task > 0.35, "\(blind.steps.last!.task)")
    #expect(alone.steps.last!.task < 0.3, "\(alone.steps.last!.task)")
  }

  @Test func `relations add a parameter for each kind and step, and no multiplication`() throws {
    let plain = try run(kinds: 0), related = try run(kinds: 2)
    func parameters(_ c: RunConfiguration) -> Int { ParameterLayout(c, vocabulary: 257).totalCount }
    #expect(parameters(related) == parameters(plain) + 2 * plain.model.steps)
    #expect(related.multiplyAdds(vocabulary: 257) == plain.multiplyAdds(vocabulary: 257))
  }

  @Test func `a model that reads relations which the dataset does not have is refused, with the right value`() throws {
    func complaint(_ c: RunConfiguration) throws -> String {
      do { _ = try TaskSource(Corpus(c.data), c) } catch let error as TaskError {
        return "\(error)".replacing(scratch.path + "/", with: "")
      }
      return "no error"
    }
    #expect(try complaint(run(kinds: 2)) == "no error")
    #expect(try complaint(run(kinds: 5)) == "no error")
    #expect(try complaint(run(kinds: 0)) == "no error")
    #expect(
      try complaint(run(kinds: 1))
        == "rows.h5 has 2 kinds of relations, and model.relation_kinds is 1; set model.relation_kinds: 2, or 0 to read none"
    )
    #expect(
      try complaint(run(kinds: 2, relations: false))
        == "rows.h5 has no relations, and model.relation_kinds is 2; prepare it with --relations, or set model.relation_kinds: 0"
    )
    var text = try smallRun(scratch)
    text.model.relationKinds = 1
    #expect(
      try complaint(text)
        == "text.h5 has no relations, and model.relation_kinds is 1; task lm has none: set model.relation_kinds: 0")
    // The baseline has no graph, so the key means nothing to it.
    var dense = try run(kinds: 1)
    (dense.model.architecture, dense.model.segment) = (.transformer, 40)
    #expect(try complaint(dense) == "no error")
  }
}
