// `ress predict` and `ress generate --prompts`: the answers of a model to rows are those of an evaluation, and a text
// is the same alone and among others.

import Configuration
import Data
import Foundation
import RunFolder
import TestSupport
import Trained
import Testing
import Training
import Wire
import Worker

@Suite(.serialized) struct PredictorTests {
  private let scratch = ScratchFolder()

  /// Trains a small model for a task on rows, and returns its checkpoint.
  private func train(
    _ task: TaskKind, _ rows: [String], held heldRows: [String]? = nil, relationKinds: Int = 0,
    _ change: (inout RunConfiguration) -> Void = { _ in }
  ) throws -> String {
    var c = try smallRun(scratch)
    if task != .lm {
      let path = scratch.path + "/rows.jsonl", held = scratch.path + "/held.jsonl"
      for (file, rows) in [(path, rows), (held, heldRows ?? rows)] {
        try rows.joined(separator: "\n").write(toFile: file, atomically: true, encoding: .utf8)
      }
      c.data.path = scratch.path + "/rows.h5"
      var preparation = DatasetPreparation(sources: [path], output: c.data.path)
      (preparation.task, preparation.validationSources) = (task, [held])
      preparation.readsRelations = relationKinds > 0
      _ = try preparation.run()
      c.model.head = task.head
      c.model.relationKinds = relationKinds
      c.model.classes = max(2, try Corpus(path: c.data.path).classCount)
    }
    (c.training.steps, c.training.evaluateSequences) = (6, 0)
    change(&c)
    let folder = scratch.path + "/run"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let outcome = try OneProcessCluster(c, workers: 1, threads: 1, folder: folder).run()
    #expect(outcome.errors == [])
    let corpus = try Corpus(c.data)
    return try CheckpointFolder.commit(
      CheckpointManifest(
        run: "run", runIdentifier: "1", step: 6, configuration: c, loss: nil, files: outcome.files[6] ?? [],
        writer: "test", created: "", generation: 1, data: corpus.identity()), folder: folder)
  }

  private func answers(_ predictor: Predictor, _ rows: [String]) throws -> [Prediction] {
    let path = scratch.path + "/asked.jsonl"
    try rows.joined(separator: "\n").write(toFile: path, atomically: true, encoding: .utf8)
    var reader = predictor.reader(), answers: [Prediction] = []
    try RowFile.forEach(path) { row, place in
      for query in try reader.queries(row, at: place) { answers.append(try predictor.answer(query)) }
    }
    return answers
  }

  private func best(_ probabilities: [Double]) -> Int {
    probabilities.indices.max { probabilities[$0] < probabilities[$1] }!
  }

  /// Which questions an evaluation counts as answered rightly.
  private func judged(_ path: String) throws -> (right: [Int], losses: [Double]) {
    var right: [Int] = [], losses: [Double] = []
    let model = try TrainedModel(path, threads: 1)
    _ = try model.evaluate(Corpus(model.manifest.configuration.data), sequences: nil) { asked in
      right.append(asked.sums.scores.right)
      losses.append(asked.sums.targets > 0 ? asked.sums.task / Double(asked.sums.targets) : 0)
    }
    return (right, losses)
  }

  private func words(_ count: Int, _ seed: Int) -> String {
    let words = ["sea", "ship", "wind", "shore", "gull", "tide"]
    return (0..<count).map { words[($0 * 5 + seed * 3 + seed / 2) % words.count] }.joined(separator: " ")
  }

  @Test func `a class for a text is that of an evaluation, with the same loss, and has a name without the dataset`()
    throws
  {
    let names = ["calm", "rough", "fog"]
    let rows = (0..<12).map { #"{"text": "\#(words(3 + $0 % 4, $0))", "label": "\#(names[$0 % 3])"}"# }
    let path = try train(.classify, rows)
    let (right, losses) = try judged(path)
    try FileManager.default.removeItem(atPath: scratch.path + "/rows.h5")
    let predictor = try Predictor(TrainedModel(path, threads: 2))
    #expect(predictor.task == .classify && predictor.labels == names)
    let found = try answers(predictor, (0..<12).map { #"{"text": "\#(words(3 + $0 % 4, $0))"}"# })
    #expect(found.count == 12)
    for (number, prediction) in found.enumerated() {
      guard case .classes(let probabilities) = prediction else {
        Issue.record("\(prediction)")
        continue
      }
      #expect((best(probabilities) == number % 3 ? 1 : 0) == right[number])
      #expect(abs(-log(probabilities[number % 3]) - losses[number]) < 1e-6)
    }
  }

  @Test func `a validation example that is longer than all training examples is evaluated`() throws {
    func rows(_ words: Int) -> [String] {
      (0..<8).map { #"{"text": "\#(self.words(words, $0))", "label": \#($0 % 2)}"# }
    }
    let path = try train(.classify, rows(2), held: rows(6)) { $0.training.evaluateSequences = 8 }
    #expect(try judged(path).losses.count == 8)
  }

  @Test func `one of several choices is that of an evaluation`() throws {
    func row(_ number: Int, _ answer: String) -> String {
      #"{"question": "\#(words(4, number))", "choices": ["\#(words(2, number + 1))", "\#(words(2, number + 2))", "\#(words(3, number))"]\#(answer)}"#
    }
    let path = try train(.multipleChoice, (0..<9).map { row($0, #", "answer": \#($0 % 3)"#) })
    let (right, _) = try judged(path)
    let found = try answers(Predictor(TrainedModel(path, threads: 1)), (0..<9).map { row($0, "") })
    for (number, prediction) in found.enumerated() {
      guard case .choices(let probabilities) = prediction else {
        Issue.record("\(prediction)")
        continue
      }
      #expect(probabilities.count == 3 && abs(probabilities.reduce(0, +) - 1) < 1e-9)
      #expect((best(probabilities) == number % 3 ? 1 : 0) == right[number])
    }
  }

  @Test func `each word has a tag, and each statement about a table a label`() throws {
    func row(_ number: Int, _ tags: String) -> String {
      let words = words(4, number).split(separator: " ").map { "\"\($0)\"" }.joined(separator: ", ")
      return #"{"words": [\#(words)]\#(tags)}"#
    }
    let path = try train(.tag, (0..<8).map { row($0, #", "tags": ["O", "B-X", "I-X", "O"]"#) })
    let (right, _) = try judged(path)
    let predictor = try Predictor(TrainedModel(path, threads: 1))
    let expected = [0, 1, 2, 0]
    for (number, prediction) in try answers(predictor, (0..<8).map { row($0, "") }).enumerated() {
      guard case .tags(let words) = prediction else {
        Issue.record("\(prediction)")
        continue
      }
      #expect(words.count == 4 && zip(words, expected).count { best($0) == $1 } == right[number])
    }
    #expect(throws: DataError.self) { _ = try answers(predictor, [#"{"text": "no words"}"#]) }
  }

  @Test func `the tags of related words are those of an evaluation, and others without the relations`() throws {
    // The words are the same in every row: its relation to the first word alone tells which one has the tag 1.
    func row(_ number: Int, _ kind: Int, tagged: Bool) -> String {
      let answer = 2 + number % 4
      let tags = (0..<6).map { $0 == answer ? "1" : "0" }.joined(separator: ", ")
      return #"{"words": ["ask", "a", "a", "a", "a", "a"], "relations": [[0, \#(answer), \#(kind)]]"#
        + (tagged ? #", "tags": [\#(tags)]}"# : "}")
    }
    let path = try train(.tag, (0..<8).map { row($0, 1, tagged: true) }, relationKinds: 2) {
      ($0.training.steps, $0.model.graphDegree) = (6, 4)
    }
    let (right, losses) = try judged(path)
    let predictor = try Predictor(TrainedModel(path, threads: 1))
    let found = try answers(predictor, (0..<8).map { row($0, 1, tagged: false) })
    for (number, prediction) in found.enumerated() {
      guard case .tags(let words) = prediction else {
        Issue.record("\(prediction)")
        continue
      }
      let expected = (0..<6).map { $0 == 2 + number % 4 ? 1 : 0 }
      #expect(zip(words, expected).count { best($0) == $1 } == right[number])
      let loss = zip(words, expected).reduce(0) { $0 - log($1.0[$1.1]) } / 6
      #expect(abs(loss - losses[number]) < 1e-6)
    }
    let unrelated = try answers(predictor, [#"{"words": ["ask", "a", "a", "a", "a", "a"]}"#])
    #expect(unrelated[0] != found[0])
    let error = try #require(throws: DataError.self) { _ = try answers(predictor, [row(0, 2, tagged: false)]) }
    #expect("\(error)".hasSuffix("asked.jsonl:1: relation 0 (the first is 0) is of kind 2, and kinds are 0 to 1"))
  }

  @Test func `the answer in a text is the one that an evaluation compares`() throws {
    func row(_ number: Int, _ answers: String) -> String {
      #"{"question": "what", "context": "\#(words(5, number))"\#(answers)}"#
    }
    let path = try train(.span, (0..<8).map { row($0, #", "answers": ["ship"]"#) })
    let (right, _) = try judged(path)
    let found = try answers(Predictor(TrainedModel(path, threads: 1)), (0..<8).map { row($0, "") })
    for (number, prediction) in found.enumerated() {
      guard case .span(let text, let probability) = prediction else {
        Issue.record("\(prediction)")
        continue
      }
      #expect(words(5, number).contains(text) && !text.isEmpty && (0...1).contains(probability))
      #expect((SpanJudge.words(text) == ["ship"] ? 1 : 0) == right[number])
    }
  }

  @Test func `a language model gives a text's loss, and refuses the rows of other tasks`() throws {
    let path = try train(.lm, [])
    let model = try TrainedModel(path, threads: 1)
    let found = try answers(Predictor(model), [#"{"text": "sea ship wind"}"#, #"{"text": "qqqqqqqqqqqqq"}"#])
    guard case .text(let usual, 13, 13) = found[0], case .text(let strange, 13, 13) = found[1] else {
      Issue.record("\(found)")
      return
    }
    #expect(usual < strange)
    let error = try #require(throws: PredictionError.self) { _ = try Predictor(model, task: .tag) }
    #expect("\(error)".contains("task tag needs 'tag'"))
  }

  @Test func `texts are the same alone and among others, in the order of their prompts, and end before a stop string`()
    throws
  {
    let path = try train(.lm, [])
    func request(_ number: Int) -> TextRequest {
      var options = SamplingOptions()
      (options.seed, options.topK) = (UInt64(number), 20)
      return TextRequest(
        prompt: "ship \(number)".utf8.map { Int32($0) }, count: 20 + number, options: options, stops: ["e", "zz"])
    }
    let requests = (0..<9).map { request($0) }
    var alone: [WrittenText] = []
    let single = try TrainedModel(path, threads: 1)
    for request in requests {
      var pieces: [UInt8] = []
      let text = try single.write(request) { pieces += $0 }
      #expect(pieces == text.bytes && !text.bytes.contains(UInt8(ascii: "e")))
      #expect((text.stop == "e") == (text.tokenCount < request.count) || text.tokenCount == request.count)
      alone.append(text)
    }
    #expect(alone.contains { $0.stop != nil })
    for threads in [1, 2, 4] {
      var together: [WrittenText] = [], numbers: [Int] = []
      try TrainedModel(path, threads: threads).write(requests) { number, text in
        numbers.append(number)
        together.append(text)
      }
      #expect(numbers == Array(0..<9) && together == alone, "\(threads) threads")
    }
    struct Full: Error {}
    #expect(throws: Full.self) { try TrainedModel(path, threads: 2).write(requests) { _, _ in throw Full() } }
  }
}
