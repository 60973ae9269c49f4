// Makes examples from rows of JSON, for every task except graphs, whose rows depend on each other.

import Foundation
import Kernels

/// Not copyable, because it owns the tokenizer's encoder, whose cache belongs to one thread.
struct RowReader: ~Copyable {
  let task: TaskKind
  let tokenizer: Tokenizer
  /// The field with the text, for task `classify`.
  let field: String
  /// Size in bytes up to which the context of a span is filled with paragraphs of other rows; 0 for no filling.
  let contextBytes: Int
  /// Paragraphs of other rows for filling.
  let otherTexts: [String]
  /// Whether rows are to be answered: their labels and answers are not read, and may be missing. A word whose tag is
  /// asked has the target 0.
  let asks: Bool
  /// Kinds of relations that are read, at most; 0: no relations are read.
  let relationKinds: Int
  var labels = LabelNames()
  private var encoder: TextEncoder

  init(
    _ task: TaskKind, _ tokenizer: Tokenizer, field: String, contextBytes: Int, otherTexts: [String],
    asks: Bool = false, relationKinds: Int = 0
  ) {
    self.task = task
    self.asks = asks
    self.relationKinds = relationKinds
    self.tokenizer = tokenizer
    self.field = field
    self.contextBytes = contextBytes
    self.otherTexts = otherTexts
    encoder = tokenizer.makeEncoder()
  }

  /// - Parameter number: number of the row among all, which is the seed for random choices.
  mutating func examples(_ row: Row, number: Int) throws(DataError) -> [Example] {
    let examples: [Example] =
      switch task {
      case .lm, .graphs: preconditionFailure("rows of \(task) are not examples by themselves")
      case .classify: [try classify(row)]
      case .multipleChoice: try choices(row)
      case .span: try spans(row, number)
      case .tag: [try tag(row)]
      case .tables: try table(row)
      }
    if let problem = encoder.problem { throw .unreadable("\(row.place): \(problem)") }
    return examples
  }

  private mutating func tokens(_ text: String) -> [Int32] {
    var tokens: [Int32] = []
    encoder.encode(Array(text.utf8), into: &tokens)
    return tokens
  }

  /// The tokens of a word after other words.
  private mutating func tokens(after word: String) -> [Int32] {
    var tokens: [Int32] = []
    encoder.encode(Array(" ".utf8) + Array(word.utf8), continues: true, into: &tokens)
    return tokens
  }

  /// What separates two texts: the separator, or a line feed where the vocabulary has none.
  private mutating func border() -> [Int32] { tokenizer.separator.map { [$0] } ?? tokens("\n") }

  /// The class in a field, numbered in order of first occurrence where the rows have names.
  private mutating func label(_ row: Row, _ name: String) throws(DataError) -> Int32 {
    if asks { return -1 }
    guard let number = labels.number(of: row.values[name]) else {
      throw row.problem("field '\(name)' must be a class: a whole number from 0 on, or a name, in all rows alike")
    }
    return number
  }

  /// One example with a class: features of the text field, and the target from field `label`.
  private mutating func classify(_ row: Row) throws(DataError) -> Example {
    var example = Example()
    example.features = tokens(try row.text(field))
    example.targets = [try label(row, "label")]
    return example
  }

  /// One example for each choice: class 1 for the right one, class 0 for the others.
  private mutating func choices(_ row: Row) throws(DataError) -> [Example] {
    let choices = try row.texts("choices")
    guard choices.count >= 2 else { throw row.problem("field 'choices' must offer two answers at least") }
    let right = asks ? -1 : try row.choice("answer", among: choices)
    var question: [Int32] = []
    for name in ["context", "question"] where row.values[name] != nil {
      question += tokens(try row.text(name))
      question += border()
    }
    var examples: [Example] = []
    for (number, choice) in choices.enumerated() {
      var example = Example()
      example.features = question + tokens(choice)
      example.targets = [number == right ? 1 : 0]
      example.beginsQuestion = number == 0
      examples.append(example)
    }
    return examples
  }

  private mutating func spans(_ row: Row, _ number: Int) throws(DataError) -> [Example] {
    // A row has one question, or several on the same text.
    guard let questions = row.values["questions"] as? [[String: Any]] else { return [try span(row, row, number)] }
    var examples: [Example] = []
    for (place, question) in questions.enumerated() {
      examples.append(try span(row, Row(question, "\(row.place): question \(place + 1)"), number &* 1000 &+ place))
    }
    return examples
  }

  /// A question followed by the text in which its answer is. The targets are the places of the answer's first and
  /// last token, or none where the answer does not occur in the text.
  private mutating func span(_ row: Row, _ question: Row, _ number: Int) throws(DataError) -> Example {
    var (paragraphs, place) = try row.paragraphs()
    let answers = asks ? [] : try question.answers()
    var found = (question.span + answers).lazy.compactMap { answer in answer.find(in: paragraphs, at: place) }.first
    fill(&paragraphs, &found, number)
    var example = Example()
    example.answers = answers.map(\.text)
    example.features = tokens(try question.text("question")) + border()
    example.targets = [-1, -1]
    for (index, paragraph) in paragraphs.enumerated() {
      if index > 0 { example.features += tokens("\n") }
      let start = example.features.count
      // The offset in the paragraph at which each of its tokens ends.
      var ends: [Int] = []
      encoder.encode(Array(paragraph.utf8), by: tokenizer, into: &example.features, ends: &ends)
      if let found, found.paragraph == index {
        // The tokens with the first and the last byte of the answer.
        if let first = ends.firstIndex(where: { found.bytes.lowerBound < $0 }),
          let last = ends.firstIndex(where: { found.bytes.upperBound <= $0 })
        {
          example.targets = [Int32(start + first), Int32(start + last)]
        }
      }
    }
    return example
  }

  /// Inserts paragraphs of other rows into a text until it has about `contextBytes`.
  private func fill(_ paragraphs: inout [String], _ found: inout FoundAnswer?, _ number: Int) {
    guard contextBytes > 0, !otherTexts.isEmpty else { return }
    let random = Philox(seed: 0x5EED, stream: UInt64(bitPattern: Int64(number)))
    var size = paragraphs.reduce(0) { $0 + $1.utf8.count + 1 }
    for draw in 0..<4 * otherTexts.count {
      let other = otherTexts[Int(random.uniform(UInt64(2 * draw)) * Double(otherTexts.count))]
      guard size + other.utf8.count + 1 <= contextBytes else { break }
      if paragraphs.contains(other) { continue }
      let place = Int(random.uniform(UInt64(2 * draw + 1)) * Double(paragraphs.count + 1))
      paragraphs.insert(other, at: place)
      if let there = found?.paragraph, there >= place { found?.paragraph += 1 }
      size += other.utf8.count + 1
    }
  }

  private mutating func tag(_ row: Row) throws(DataError) -> Example {
    let words = try row.texts(row.values["words"] == nil ? "tokens" : "words")
    guard let tags = asks ? Array(repeating: NSNull(), count: words.count) : row.values["tags"] as? [Any],
      tags.count == words.count
    else { throw row.problem("field 'tags' must hold one tag for each of the \(words.count) words") }
    var example = Example()
    // The last token of each word.
    var ends: [Int] = []
    for (word, tag) in zip(words, tags) {
      // A word with the tag null has no target.
      let asked: Int32? = asks ? 0 : tag is NSNull ? -1 : labels.number(of: tag)
      guard let number = asked else {
        throw row.problem(
          "a tag must be a class: a whole number from 0 on, or a name, in all rows alike; null for a word without a target"
        )
      }
      let own = example.features.isEmpty ? tokens(word) : tokens(after: word)
      guard !word.isEmpty, !own.isEmpty else { throw row.problem("a word is empty") }
      // The target is at a word's last token, because only there a causal model has seen the whole word.
      example.features += own
      example.targets += Array(repeating: -1, count: own.count - 1) + [number]
      ends.append(example.features.count - 1)
    }
    if relationKinds > 0 {
      for pair in try row.wordRelations(words: words.count, kinds: relationKinds) {
        example.relate(ends[pair.word], ends[pair.other], pair.kind, back: pair.back)
      }
    }
    return example
  }

  private mutating func table(_ row: Row) throws(DataError) -> [Example] {
    var table = Example()
    // The place of each token of the table; the caption has none, and a header has no row.
    var places: [(row: Int?, column: Int)?] = []
    var mentions = TableMentions()
    let first = Int32(tokenizer.vocabulary)
    if row.values["caption"] != nil {
      table.append(bag: [first + Int32(TableFeatures.caption)] + tokens(try row.text("caption")))
      places.append(nil)
    }
    for (column, text) in try row.texts("header").enumerated() {
      table.append(
        bag: [first + Int32(TableFeatures.header), first + Int32(TableFeatures.column(column))] + tokens(text))
      mentions.add(text, token: places.count)
      places.append((nil, column))
    }
    guard let cells = row.values["rows"] as? [[String]] else {
      throw row.problem("field 'rows' must be a list of rows, each a list of texts")
    }
    for (number, line) in cells.enumerated() {
      for (column, text) in line.enumerated() {
        table.append(
          bag: [
            first + Int32(TableFeatures.cell), first + Int32(TableFeatures.row(number)),
            first + Int32(TableFeatures.column(column)),
          ] + tokens(text))
        mentions.add(text, token: places.count)
        places.append((number, column))
      }
    }
    if relationKinds > TableRelation.header { table.relateCells(places) }
    let statements = (row.values["statements"] as? [[String: Any]]).map { statements in
      statements.enumerated().map { Row($1, "\(row.place): statement \($0 + 1)") }
    }
    var examples: [Example] = []
    for statement in statements ?? [row] {
      var example = Example()
      let words = try statement.text("text").split(whereSeparator: \.isWhitespace)
      for (place, word) in words.enumerated() {
        example.append(
          bag: [first + Int32(TableFeatures.statement), first + Int32(TableFeatures.place(place))]
            + tokens(after: String(word)))
      }
      for token in 0..<table.tokenCount {
        example.append(bag: Array(table.features[Int(table.bags[token])..<Int(table.bags[token + 1])]))
      }
      for relation in table.relations {
        let (token, other) = (words.count + Int(relation.token), words.count + Int(relation.other))
        example.relate(token, other, Int(relation.kind))
      }
      if relationKinds > TableRelation.mention {
        for mention in mentions.find(in: words) {
          example.relate(mention.word, words.count + mention.token, TableRelation.mention)
        }
      }
      example.targets = [try label(statement, "label")]
      examples.append(example)
    }
    return examples
  }
}
