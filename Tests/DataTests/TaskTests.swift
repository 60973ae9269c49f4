// Rows of JSON to the examples of a task, and the errors for rows that are not usable.

import Data
import Foundation
import HDF5
import Model
import Testing

@Suite final class `Datasets of tasks` {
  let folder = NSTemporaryDirectory() + "ress-tasks-" + UUID().uuidString

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  struct Read: Equatable {
    var tokens: [Int32] = []
    var bags: [Int32] = []
    var targets: [Int32] = []
  }

  func prepare(
    _ task: TaskKind, _ rows: [String], _ change: (inout DatasetPreparation) -> Void = { _ in }
  ) throws -> Dataset {
    let path = folder + "/rows.jsonl"
    try rows.joined(separator: "\n").write(toFile: path, atomically: true, encoding: .utf8)
    var preparation = DatasetPreparation(sources: [path], output: folder + "/d.h5")
    preparation.task = task
    preparation.validationFraction = 0
    change(&preparation)
    _ = try preparation.run()
    return try Dataset(path: folder + "/d.h5")
  }

  private func read(_ split: ExampleSplit, _ example: Int, limit: Int = 10_000) throws -> Read {
    var read = Read()
    try split.read(example, limit: limit, features: &read.tokens, bags: &read.bags, targets: &read.targets)
    return read
  }

  func bytes(_ text: String) -> [Int32] { text.utf8.map { Int32($0) } }

  private func complaint(_ task: TaskKind, _ rows: String...) -> String {
    do { _ = try prepare(task, rows) } catch { return "\(error)".replacing(folder + "/", with: "") }
    return "no error"
  }

  @Test func `classes are numbers as given, or names numbered in the order of occurrence`() throws {
    let numbers = try prepare(.classify, [#"{"text": "ab", "label": 3}"#, #"{"text": "c", "label": 0}"#])
    #expect(numbers.labels == ["0", "1", "2", "3"] && numbers.task == .classify && numbers.classCount == 4)
    #expect(try read(numbers.examples(.train)!, 0) == Read(tokens: bytes("ab"), targets: [3]))

    let names = try prepare(.classify, [#"{"body": "ab", "label": "spam"}"#, #"{"body": "c", "label": "ham"}"#]) {
      $0.options.field = "body"
    }
    #expect(names.labels == ["spam", "ham"])
    #expect(try read(names.examples(.train)!, 1) == Read(tokens: bytes("c"), targets: [1]))
  }

  @Test func `each choice is an example that contains the question, and they are judged together`() throws {
    let rows = [
      #"{"context": "c", "question": "q", "choices": ["x", "yy", "z"], "answer": 1}"#,
      #"{"question": "r", "choices": ["s", "t"], "answer": "A"}"#,
      #"{"question": "r", "choices": ["s", "t"], "answer": "t"}"#,
    ]
    let split = try prepare(.multipleChoice, rows).examples(.train)!
    #expect(split.count == 7 && split.questionCount == 3)
    #expect((0..<3).map { split.examples(of: $0) } == [0..<3, 3..<5, 5..<7])
    #expect(try read(split, 1) == Read(tokens: bytes("c") + [256] + bytes("q") + [256] + bytes("yy"), targets: [1]))
    #expect(try (0..<7).map { try read(split, $0).targets[0] } == [0, 1, 0, 1, 0, 0, 1])
  }

  @Test(arguments: [
    // SQuAD's own form: the offset counts characters and not bytes, and the first "an" is not the answer.
    #"{"question": "q", "context": "ü an an", "answers": [{"text": "an", "answer_start": 5}]}"#,
    #"{"question": "q", "context": "ü an an", "answers": {"text": ["an"], "answer_start": [5]}}"#,
  ])
  func `a span is at the place that its row gives`(row: String) throws {
    let split = try prepare(.span, [row]).examples(.train)!
    #expect(
      try read(split, 0) == Read(tokens: bytes("q") + [256] + bytes("ü an an"), targets: [2 + 6, 2 + 7]))
    #expect(try split.answers(of: 0) == ["an"])
  }

  @Test func `an answer without an offset is found by its text, and one that does not occur gives no target`() throws {
    let rows = [
      #"{"question": "q", "paragraphs": [{"title": "T", "text": "one"}, {"text": "two"}], "answer": "two"}"#,
      #"{"question": "q", "context": "abc", "answers": ["xyz"]}"#,
      #"{"context": "hello", "questions": [{"question": "q", "answers": ["a greeting"], "span_text": "ello"}]}"#,
    ]
    let split = try prepare(.span, rows).examples(.train)!
    #expect(try read(split, 0) == Read(tokens: bytes("q") + [256] + bytes("T\none\ntwo"), targets: [8, 10]))
    #expect(try read(split, 1).targets == [-1, -1])
    #expect(try split.answers(of: 1) == ["xyz"])
    #expect(try read(split, 2).targets == [3, 6])
    #expect(try split.answers(of: 2) == ["a greeting"])
    #expect(try split.targetCount(of: 1, limit: 100) == 0)
    // What follows the limit is neither read nor a target.
    #expect(
      try read(split, 0, limit: 9) == Read(tokens: Array(bytes("q") + [256] + bytes("T\none\nt")), targets: [-1, -1]))
    #expect(try split.targetCount(of: 0, limit: 9) == 0)
    #expect(try split.targetCount(of: 0, limit: 11) == 2)
  }

  @Test func `a span of byte pairs is from the token of its first byte to that of its last`() throws {
    var training = BytePairTraining()
    training.vocabulary = 300
    let text = Array("the whole of the whole of the whole".utf8)
    text.withUnsafeBufferPointer { training.read($0) }
    let tokenizer = Tokenizer.bytePairs(try training.learn())
    let rows = [#"{"question": "what", "context": "see the whole of it", "answer": "whole of"}"#]
    let split = try prepare(.span, rows) { $0.tokenizer = tokenizer }.examples(.train)!
    let example = try read(split, 0)
    let answer = example.tokens[Int(example.targets[0])...Int(example.targets[1])]
    #expect(String(decoding: tokenizer.decode(answer), as: UTF8.self).contains("whole of"))
    #expect(answer.count < 8)
  }

  @Test func `a span's context is filled with paragraphs of other rows up to the requested size`() throws {
    let rows = (0..<30).map {
      #"{"question": "q\#($0)", "context": "paragraph \#(100 + $0)", "answer": "\#(100 + $0)"}"#
    }
    let dataset = try prepare(.span, rows) { $0.contextBytes = 100 }
    let split = dataset.examples(.train)!
    var places: Set<Int32> = []
    for example in 0..<30 {
      let read = try read(split, example)
      let text = ByteTokenizer.decode(read.tokens)
      #expect((80...110).contains(read.tokens.count), "\(text)")
      #expect(
        ByteTokenizer.decode(Array(read.tokens[Int(read.targets[0])...Int(read.targets[1])])) == "\(100 + example)")
      places.insert(read.targets[0])
    }
    #expect(places.count > 4)
  }

  @Test func `the target of a tag is at its word's last token`() throws {
    let dataset = try prepare(.tag, [#"{"words": ["Ann", "is"], "tags": ["B-PER", "O"]}"#])
    let read = try read(dataset.examples(.train)!, 0)
    #expect(read == Read(tokens: bytes("Ann is"), targets: [-1, -1, 0, -1, -1, 1]))
    #expect(dataset.labels == ["B-PER", "O"])
  }

  @Test func `a word whose tag is null is read and has no target`() throws {
    let dataset = try prepare(.tag, [#"{"words": ["ab", "c", "d"], "tags": [null, null, 3]}"#])
    let read = try read(dataset.examples(.train)!, 0)
    #expect(read == Read(tokens: bytes("ab c d"), targets: [-1, -1, -1, -1, -1, 3]))
    #expect(try dataset.examples(.train)!.targetCount(of: 0, limit: 6) == 1)
  }

  @Test func `cells of a table are tokens with features for row and column`() throws {
    let row =
      #"{"caption": "t", "header": ["a", "b"], "rows": [["1", "2"], ["3", "4"]], "statements": [{"text": "x y", "label": 1}, {"text": "z", "label": 0}]}"#
    let dataset = try prepare(.tables, [row])
    let split = dataset.examples(.train)!
    #expect(split.count == 2 && dataset.vocabulary > 257)
    let first = try read(split, 0), second = try read(split, 1)
    // Two words, the caption, two headers, and four cells.
    #expect(first.bags.count - 1 == 9 && second.bags.count - 1 == 8)
    #expect(first.targets == [1] && second.targets == [0])
    func bag(_ read: Read, _ token: Int) -> [Int32] {
      Array(read.tokens[Int(read.bags[token])..<Int(read.bags[token + 1])])
    }
    let cells = (5..<9).map { bag(first, $0) }
    #expect(cells.map { $0.last! } == bytes("1234"))
    // Cells of one row have a feature in common, and so have cells of one column.
    #expect(cells[0][1] == cells[1][1] && cells[0][1] != cells[2][1])
    #expect(cells[0][2] == cells[2][2] && cells[0][2] != cells[1][2])
    #expect(try read(split, 0, limit: 3).bags.count == 4)
  }

  @Test func `an example has a node and those around it, nearest first, and rows name their split`() throws {
    let rows = [
      #"{"id": 1, "words": [0, 5], "label": 2, "neighbors": [2], "split": "train"}"#,
      #"{"id": 2, "words": [1], "neighbors": [1, 3], "split": "unlabelled"}"#,
      #"{"id": 3, "words": [2], "label": 0, "neighbors": [2], "split": "test"}"#,
      #"{"id": 4, "words": [3], "label": 1, "neighbors": [], "split": "valid"}"#,
    ]
    let dataset = try prepare(.graphs, rows) { $0.validationSplit = "test" }
    #expect(dataset.vocabulary == 6 + 3)
    #expect(
      try read(dataset.examples(.train)!, 0)
        == Read(tokens: [6, 0, 5, 7, 1, 8, 2], bags: [0, 3, 5, 7], targets: [2, -1, -1]))
    #expect(try read(dataset.examples(.validation)!, 0).targets == [0, -1, -1])
    #expect(dataset.examples(.validation)!.count == 1)
    #expect(try read(prepare(.graphs, rows) { $0.nodeLimit = 2 }.examples(.train)!, 0).targets == [2, -1])
  }

  @Test func `every preparation chooses the same rows for validation, about as many as requested`() throws {
    let rows = (0..<1000).map { #"{"text": "row \#($0)", "label": \#($0 % 2)}"# }
    let first = try prepare(.classify, rows) { $0.validationFraction = 0.2 }
    let held = first.examples(.validation)!.count
    #expect((150...250).contains(held) && first.examples(.train)!.count == 1000 - held)
    let text = try read(first.examples(.validation)!, 7)
    #expect(try read(prepare(.classify, rows) { $0.validationFraction = 0.2 }.examples(.validation)!, 7) == text)
  }

  @Test func `an error names the file and line of a row that is not an example, and what it lacks`() {
    let good = #"{"text": "a", "label": "x"}"#
    #expect(complaint(.classify, good, #"{"text": "a"}"#).hasPrefix("rows.jsonl:2: field 'label' must be a class"))
    #expect(complaint(.classify, good, #"{"text": "a", "label": 1}"#).hasPrefix("rows.jsonl:2: field 'label'"))
    #expect(
      complaint(.classify, #"{"body": "a", "label": 1}"#)
        == "rows.jsonl:1: no text in field 'text'; it has texts in body")
    #expect(complaint(.classify, "{").contains("rows.jsonl:1: not a JSON object"))
    #expect(
      complaint(.multipleChoice, #"{"question": "q", "choices": ["a", "b"], "answer": 2}"#)
        == "rows.jsonl:1: field 'answer' must name one of the 2 choices: its number from 0 on, letter or text")
    #expect(
      complaint(.tag, #"{"words": ["a", "b"], "tags": ["x"]}"#)
        == "rows.jsonl:1: field 'tags' must hold one tag for each of the 2 words")
    #expect(
      complaint(.tag, #"{"words": ["a", "b"], "tags": ["x", 1.5]}"#)
        == "rows.jsonl:1: a tag must be a class: a whole number from 0 on, or a name, in all rows alike; null for a word without a target"
    )
    #expect(complaint(.span, #"{"question": "q", "context": "c"}"#).contains("rows.jsonl:1: field 'answers' must be"))
    #expect(complaint(.tables, #"{"header": ["a"], "rows": "x"}"#).contains("rows.jsonl:1: field 'rows' must be"))
    #expect(
      complaint(.graphs, #"{"id": 0, "words": [1], "label": 0, "neighbors": [], "split": "train"}"#)
        .contains("nodes of split 'train' and 'valid' are needed; there are train"))
  }

  @Test func `options that do not fit the task are known before anything is read`() {
    var preparation = DatasetPreparation(sources: ["none.jsonl"], output: "none.h5")
    (preparation.task, preparation.shards) = (.tag, 4)
    #expect(preparation.conflict == "shards are for text; the examples of task tag are in one file")
    (preparation.shards, preparation.readsRelations) = (0, true)
    #expect(preparation.conflict == nil)
    preparation.task = .lm
    #expect(preparation.conflict?.hasPrefix("rows of task lm have no relations") == true)
  }

  @Test func `plain text in place of rows is refused before anything is written`() throws {
    try "text".write(toFile: folder + "/a.txt", atomically: true, encoding: .utf8)
    var preparation = DatasetPreparation(sources: [folder + "/a.txt"], output: folder + "/d.h5")
    preparation.task = .classify
    #expect(throws: DataError.self) { try preparation.run() }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["a.txt"])
  }
}
