// Relations between the tokens of an example: which are prepared, and the errors for those that are not usable.

import Data
import Foundation
import HDF5
import Model
import Testing

extension `Datasets of tasks` {
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
}
