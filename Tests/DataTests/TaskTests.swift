// Rows of JSON to the examples of a task, and the errors for rows that are not usable.

import Data
import Foundation
import HDF5
import Model
import Testing

@Suite final class `Datasets of tasks` {
  private let folder = NSTemporaryDirectory() + "ress-tasks-" + UUID().uuidString

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  struct Read: Equatable {
    var tokens: [Int32] = []
    var bags: [Int32] = []
    var targets: [Int32] = []
  }

  private func prepare(
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

  private func bytes(_ text: String) -> [Int32] { text.utf8.map { Int32($0) } }

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

  // MARK: Relations

  /// The relations among the first `limit` tokens of an example: token, related token, kind.
  private func relations(_ dataset: Dataset, _ example: Int, limit: Int = 10_000) throws -> RelationTable {
    var table = RelationTable()
    try dataset.examples(.train)!.readRelations(example, limit: limit, into: &table)
    return table
  }

  private func table(_ triples: [Int32], tokens: Int) -> RelationTable {
    var table = RelationTable()
    table.set(triples, tokens: tokens)
    return table
  }

  @Test func `related words are related at their last tokens, in both directions, whatever order the row has`() throws {
    let rows = [
      #"{"words": ["ab", "c", "de"], "tags": [0, 0, 1], "relations": [[2, 0, 1], [0, 1], [1, 0], [1, 2, 3, 2]]}"#,
      #"{"words": ["a", "b"], "tags": [0, 1]}"#,
    ]
    let dataset = try prepare(.tag, rows) { $0.readsRelations = true }
    #expect(dataset.relationKinds == 4 && dataset.examples(.train)!.relationCount == 6)
    // The tokens are the bytes of "ab c de": the words end at 1, 3 and 6.
    let expected: [Int32] = [1, 3, 0, 1, 6, 1, 3, 1, 0, 3, 6, 3, 6, 1, 1, 6, 3, 2]
    #expect(try relations(dataset, 0) == table(expected, tokens: 7))
    #expect(try relations(dataset, 0, limit: 5) == table([1, 3, 0, 3, 1, 0], tokens: 5))
    #expect(try relations(dataset, 1) == table([], tokens: 3))
    let digest = try dataset.digest()
    // Another order of the same relations makes the same dataset.
    let again = [rows[0].replacing("[[2, 0, 1], [0, 1], [1, 0], ", with: "[[0, 1, 0], [0, 2, 1], "), rows[1]]
    #expect(try prepare(.tag, again) { $0.readsRelations = true }.digest() == digest)
    let other = [rows[0].replacing("[2, 0, 1]", with: "[2, 0, 2]"), rows[1]]
    #expect(try prepare(.tag, other) { $0.readsRelations = true }.digest() != digest)
    // Without the option the field is not read, and the dataset is the one of rows without it.
    let plain = try prepare(.tag, rows)
    #expect(plain.relationKinds == 0 && plain.examples(.train)!.relationCount == 0)
    #expect(try relations(plain, 0).isEmpty)
    #expect(try prepare(.tag, rows.map { $0.replacing("relations", with: "others") }).digest() == plain.digest())
  }

  @Test func `cells are related to those of their row and column, and headers to their cells`() throws {
    let row =
      #"{"caption": "t", "header": ["a", "b"], "rows": [["1", "2"], ["3", "4"]], "statements": [{"text": "x y", "label": 1}]}"#
    let dataset = try prepare(.tables, [row]) { $0.readsRelations = true }
    #expect(dataset.relationKinds == 4)
    // Two words, the caption, headers 3 and 4, and the cells 5, 6 and 7, 8.
    let pairs: [(Int32, Int32, Int32)] = [
      (5, 6, 0), (7, 8, 0), (5, 7, 1), (6, 8, 1), (3, 5, 2), (3, 7, 2), (4, 6, 2), (4, 8, 2),
    ]
    let triples = (pairs + pairs.map { ($1, $0, $2) }).sorted { ($0.0, $0.1) < ($1.0, $1.1) }
    #expect(try relations(dataset, 0) == table(triples.flatMap { [$0.0, $0.1, $0.2] }, tokens: 9))
  }

  @Test func `words of a statement are related to the headers and cells that they spell`() throws {
    let grid = [["York", "a"], ["New York City", "New York"], ["", "york"]], header = ["home town", "state"]
    let texts = header + grid.joined()
    /// Word and text of each mention, in both directions.
    func mentions(_ statement: String, kinds: Int = 4) throws -> [[String]] {
      var reader = QueryReader(.tables, .byte, relationKinds: kinds)
      let query = try reader.queries(["header": header, "rows": grid, "text": statement], at: "row 1")[0]
      let tokens = statement.split(separator: " ").map(String.init) + texts
      let triples = query.examples[0].relations
      var found: [[String]] = []
      for place in stride(from: 0, to: triples.count, by: 3) where triples[place + 2] == 3 {
        found.append([tokens[Int(triples[place])], tokens[Int(triples[place + 1])]])
      }
      return found
    }
    func bothWays(_ pairs: [[String]]) -> Set<[String]> { Set(pairs + pairs.map { [$0[1], $0[0]] }) }
    let found = try mentions("the state of York is A")
    #expect(found.count == 8)
    #expect(Set(found) == bothWays([["state", "state"], ["York", "York"], ["York", "york"], ["A", "a"]]))
    // The longest text that is spelled counts, and not those within it.
    #expect(
      try Set(mentions("near new  York city"))
        == bothWays([["new", "New York City"], ["York", "New York City"], ["city", "New York City"]]))
    #expect(
      try Set(mentions("new york , home town"))
        == bothWays([["new", "New York"], ["york", "New York"], ["home", "home town"], ["town", "home town"]]))
    #expect(try mentions("home city").isEmpty, "a part of a text is no mention of it")
    #expect(try mentions("the state of York is A", kinds: 3).isEmpty, "an older model knows three kinds")
  }

  @Test func `an edge relates two nodes of an example in both directions, whichever of them names it`() throws {
    let rows = [
      #"{"id": 1, "words": [0, 5], "label": 2, "neighbors": [2, 3, 1], "split": "train"}"#,
      #"{"id": 2, "words": [1], "neighbors": [1], "split": "unlabelled"}"#,
      #"{"id": 3, "words": [2], "label": 0, "neighbors": [2, 4], "split": "valid"}"#,
      #"{"id": 4, "words": [3], "label": 1, "neighbors": [], "split": "unlabelled"}"#,
    ]
    let dataset = try prepare(.graphs, rows) { $0.readsRelations = true }
    #expect(dataset.relationKinds == 1)
    // Node 1 is token 0, its neighbours 2 and 3 are tokens 1 and 2, and node 4 is token 3.
    let expected: [Int32] = [0, 1, 0, 0, 2, 0, 1, 0, 0, 1, 2, 0, 2, 0, 0, 2, 1, 0, 2, 3, 0, 3, 2, 0]
    #expect(try relations(dataset, 0) == table(expected, tokens: 4))
    // An edge to a node that is not in the example is left out.
    let few = try prepare(.graphs, rows) { ($0.readsRelations, $0.nodeLimit) = (true, 2) }
    #expect(try relations(few, 0) == table([0, 1, 0, 1, 0, 0], tokens: 2))
  }

  @Test func `an error names the relation that is not one, its file and line, and what is allowed`() {
    func complaint(_ relations: String, _ task: TaskKind = .tag) -> String {
      let row = #"{"words": ["a", "b", "c"], "tags": [0, 0, 1], "text": "x", "label": 0, "relations": \#(relations)}"#
      do { _ = try prepare(task, [row]) { $0.readsRelations = true } } catch {
        return "\(error)".replacing(folder + "/", with: "")
      }
      return "no error"
    }
    #expect(
      complaint("[[0, 1], [0, 3]]")
        == "rows.jsonl:1: relation 1 (the first is 0) names word 3, and the row's 3 words are 0 to 2")
    #expect(complaint("[[-1, 1]]").hasSuffix("names word -1, and the row's 3 words are 0 to 2"))
    #expect(
      complaint("[[1, 1]]").hasSuffix(
        "relation 0 (the first is 0) relates word 1 to itself; leave it out, because a word always sees itself"))
    #expect(complaint("[[0, 1, 1024]]").hasSuffix("is of kind 1024, and kinds are 0 to 1023"))
    for wrong in ["[[0]]", "[0, 1]", #"[["a", "b"]]"#, "[[0, 1, 2, 3, 4]]", "[[0, 1.5]]"] {
      #expect(
        complaint(wrong).hasPrefix("rows.jsonl:1: relation 0 (the first is 0) must be two words, [0, 3]"), "\(wrong)")
    }
    #expect(complaint("{}").hasPrefix("rows.jsonl:1: field 'relations' must be a list, whose items are two words"))
    #expect(complaint("[]").contains("there are no relations, because no row has a field 'relations'"))
    #expect(
      complaint("[]", .classify)
        == "rows of task classify have no relations; those of these tasks can have them: tag, tables, graphs")
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

  /// A dataset of one example with three tokens and these relations, in both splits.
  private func forged(_ relations: [Int32], starts: [UInt64] = [0], kinds: Int = 2) throws -> String {
    let path = folder + "/forged.h5"
    try? FileManager.default.removeItem(atPath: path)
    do {
      let file = try HDF5File.create(path)
      for (name, number) in [("ress_dataset_format", 2), ("vocabulary", 257), ("relation_kinds", kinds)] {
        try file.setAttribute(name, number)
      }
      for (name, text) in [("task", "tag"), ("sources", "x"), ("tokenizer", "byte"), ("labels", #"["a"]"#)] {
        try file.setAttribute(name, text)
      }
      for split in Split.allCases.map(\.rawValue) {
        for (name, values) in [("tokens", [1, 2, 3]), ("targets", [0, 0, 1]), ("relations", relations)] {
          try file.createList("\(split)/\(name)", .bits32).append(values as [Int32])
        }
        _ = try file.createList("\(split)/answers", .bits8)
        for (name, values) in [("documents", [0]), ("questions", [0]), ("relation_starts", starts)] {
          try file.createList("\(split)/\(name)", .bits64).append(values as [UInt64])
        }
      }
      try file.flush()
    }
    do {
      var table = RelationTable()
      try Dataset(path: path).examples(.train)!.readRelations(0, limit: 3, into: &table)
    } catch { return "\(error)" }
    return "no error"
  }

  @Test func `a damaged list of relations is refused by name before a model reads it`() throws {
    #expect(try forged([0, 1, 1, 1, 0, 1]) == "no error")
    #expect(try forged([]) == "no error")
    // Out of order, twice the same, a token and a kind that do not exist.
    for wrong: [Int32] in [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 1, 0], [0, 3, 0], [3, 0, 0], [0, 1, 2], [0, .max, 0]] {
      #expect(
        try forged(wrong).contains("is out of order, or not one of 3 tokens and 2 kinds; the file is damaged"),
        "\(wrong)")
    }
    #expect(try forged([0, 1]).contains("train/relations: it does not have three numbers for each relation"))
    #expect(
      try forged([0, 1, 0], starts: []).contains("train/relation_starts: it does not have one number per example"))
    #expect(
      try forged([0, 1, 0], starts: [2]).contains("train/relation_starts: its numbers are not in ascending order"))
    #expect(try forged([0, 1, 0], starts: [.max]).contains("its numbers are not in ascending order"))
    #expect(try forged([0, 1, 0], kinds: 1 << 40).contains("kinds of relations; the file is damaged"))
    #expect(try forged([0, 1, 0], kinds: -1).contains("kinds of relations; the file is damaged"))
  }

  @Test func `plain text in place of rows is refused before anything is written`() throws {
    try "text".write(toFile: folder + "/a.txt", atomically: true, encoding: .utf8)
    var preparation = DatasetPreparation(sources: [folder + "/a.txt"], output: folder + "/d.h5")
    preparation.task = .classify
    #expect(throws: DataError.self) { try preparation.run() }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["a.txt"])
  }
}
