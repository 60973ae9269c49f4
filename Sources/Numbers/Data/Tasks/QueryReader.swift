// Rows that a trained model is to answer (`ress predict`, `ress generate --prompts`): the rows of docs/tasks.md, whose
// labels and answers may be missing.

import Foundation

/// The examples of one question, encoded as in training.
package struct Query {
  package struct Example {
    /// Features of all tokens.
    package var features: [Int32]
    /// Index of the first feature of each token, and the end; empty where every token has one feature.
    package var bags: [Int32]
    /// Places of the tokens at which a class is asked, for task `tag`.
    package var asked: [Int]
    /// Token, related token and kind of each relation, ascending.
    package var relations: [Int32]

    package var tokenCount: Int { bags.isEmpty ? features.count : bags.count - 1 }
  }

  /// One example, or one for each choice.
  package var examples: [Example]
}

/// Reads rows of one task. Not copyable, because it owns the tokenizer's encoder.
package struct QueryReader: ~Copyable {
  private var reader: RowReader

  /// - Parameters:
  ///   - field: the field with the text, for tasks `lm` and `classify`.
  ///   - relationKinds: kinds of relations that the model reads.
  package init(_ task: TaskKind, _ tokenizer: Tokenizer, field: String? = nil, relationKinds: Int = 0) {
    reader = RowReader(
      task, tokenizer, field: field ?? SourceOptions.standardField, contextBytes: 0, otherTexts: [], asks: true,
      relationKinds: relationKinds)
  }

  /// The questions of a row: one, or several on the same text or table.
  package mutating func queries(_ object: [String: Any], at place: String) throws -> [Query] {
    let row = Row(object, place)
    if reader.task == .lm {
      var tokens: [Int32] = reader.tokenizer.separator.map { [$0] } ?? []
      tokens += reader.tokenizer.encode(try row.text(reader.field))
      return [Query(examples: [.init(features: tokens, bags: [], asked: [], relations: [])])]
    }
    var queries: [Query] = []
    for example in try reader.examples(row, number: 0) {
      guard example.tokenCount > 0 else { throw row.problem("the text is empty") }
      let asked = reader.task == .tag ? example.targets.indices.filter { example.targets[$0] >= 0 } : []
      let encoded = Query.Example(
        features: example.features, bags: example.bags, asked: asked, relations: example.relationTriples)
      if example.beginsQuestion { queries.append(Query(examples: [])) }
      queries[queries.count - 1].examples.append(encoded)
    }
    return queries
  }
}

/// A file of rows, one JSON object a line, compressed or not.
package enum RowFile {
  /// Calls `body` with each row and its place, `FILE:LINE`. The path `-` is standard input.
  package static func forEach(_ path: String, _ body: ([String: Any], String) throws -> Void) throws {
    var file = try PackedFile(path == "-" ? "/dev/stdin" : path, memory: SourceOptions.standardMemory)
    try RowLines.read(
      &file, named: path == "-" ? "standard input" : path, skipsBadRows: false, tally: RowTally(), body: body)
  }
}
