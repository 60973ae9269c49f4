// `ress data prepare --task T`: turns rows of JSON into a dataset of examples.
//
//   /train/tokens            features of all tokens
//   /train/documents         first token of each example
//   /train/bags              index of the first feature of each token, where tokens have several
//   /train/targets           targets of each example plus 1; 0 for no target
//   /train/questions         index of the first example of each question, where a question has several choices
//   /train/answers, .../answer_starts   JSON lists of right answers, where an answer is a piece of text
//   /train/relations         token, related token and kind of each relation, three numbers each, in both directions,
//                            ascending in each example; tokens are counted from the example's first
//   /train/relation_starts   index of the first relation of each example; these two only with --relations
//   and the same of /validation

import Configuration
import Foundation
import HDF5
import Kernels

struct ExamplePreparation {
  private let preparation: DatasetPreparation
  private let tally = RowTally()
  private var task: TaskKind { preparation.task }

  init(_ preparation: DatasetPreparation) { self.preparation = preparation }

  /// Sentences about rows that were left out.
  var notes: [String] { tally.notes }

  func write(
    _ files: [SourceFile], _ validationFiles: [SourceFile], to file: HDF5File, progress: (Int, Int) -> Void
  ) throws -> DatasetPreparation.Summary {
    for source in files + validationFiles where source.contents == .text {
      throw DataError.file(
        action: "read", path: source.path,
        reason: "task \(task.rawValue) needs rows: one JSON object a line, or a table in CSV or TSV, compressed or not")
    }
    if task == .span, preparation.contextBytes > 0, let stream = files.first(where: \.isStream) {
      throw DataError.file(
        action: "read", path: stream.path, reason: "--context-bytes reads each file twice, and a pipe can be read once")
    }
    let total = (files + validationFiles).reduce(0) { $0 + $1.size }
    var before = 0
    func rows(_ files: [SourceFile], _ body: (Row) throws -> Void) throws {
      for source in files {
        try read(source, tally) {
          progress(before + $0, total)
        } body: {
          try body($0)
        }
        before += source.size
      }
    }
    return task == .graphs
      ? try writeGraph(files + validationFiles, to: file, rows)
      : try writeRows(files, validationFiles, to: file, rows)
  }

  private func read(
    _ source: SourceFile, _ tally: RowTally, progress: (Int) -> Void = { _ in }, body: (Row) throws -> Void
  ) throws {
    let options = preparation.options
    var file = try PackedFile(source.path, memory: options.memory)
    switch try source.contents ?? SourceContents.look(&file, source.path, options.format) {
    case .text:
      throw DataError.file(
        action: "read", path: source.path,
        reason: "task \(task.rawValue) needs rows: one JSON object a line, or a table in CSV or TSV, compressed or not")
    case .rows:
      try RowLines.read(
        &file, named: source.path, skipsBadRows: options.skipsBadRows, tally: tally, progress: progress
      ) { object, place in try body(Row(object, place)) }
    case .table(let delimiter):
      try DelimitedRows.read(
        &file, named: source.path, delimiter: delimiter, skipsBadRows: options.skipsBadRows, tally: tally,
        progress: progress
      ) { fields, place in try body(Row(fields: fields, place)) }
    }
    try source.checkUnchanged()
  }

  private typealias Rows = ([SourceFile], (Row) throws -> Void) throws -> Void

  private func writeRows(
    _ files: [SourceFile], _ validationFiles: [SourceFile], to file: HDF5File, _ rows: Rows
  ) throws -> DatasetPreparation.Summary {
    let vocabulary = preparation.tokenizer.vocabulary + (task == .tables ? TableFeatures.count : 0)
    let train = try writer(.train, file, vocabulary), validation = try writer(.validation, file, vocabulary)
    var reader = RowReader(
      task, preparation.tokenizer, field: preparation.options.field ?? SourceOptions.standardField,
      contextBytes: preparation.contextBytes,
      otherTexts: try otherTexts(files),
      relationKinds: preparation.readsRelations ? ModelConfiguration.mostRelationKinds : 0)
    var number = 0
    func take(_ row: Row, isHeld: Bool) throws {
      let labels = reader.labels
      defer { number += 1 }
      let examples: [Example]
      do { examples = try reader.examples(row, number: number) } catch {
        // Classes that occur only in a bad row do not count.
        reader.labels = labels
        throw error
      }
      for example in examples where example.tokenCount > 0 {
        try (isHeld ? validation : train).append(example)
      }
    }
    // Whether a row validates is drawn for its number alone, so that it does not depend on the length of the files.
    let share = validationFiles.isEmpty ? preparation.validationFraction : 0
    try rows(files) { row in
      let draw = Philox(seed: 0xDA7A, stream: UInt64(number)).uniform(0)
      try take(row, isHeld: draw < share)
    }
    try rows(validationFiles) { row in try take(row, isHeld: true) }
    return try finish(train, validation, vocabulary, reader.labels, to: file)
  }

  private func writer(_ split: Split, _ file: HDF5File, _ vocabulary: Int) throws(HDF5Error) -> ExampleWriter {
    try ExampleWriter(file, split, task, vocabulary: vocabulary, hasRelations: preparation.readsRelations)
  }

  /// Paragraphs for filling the context of other rows: the first 4 MiB of different ones.
  private func otherTexts(_ files: [SourceFile]) throws -> [String] {
    guard task == .span, preparation.contextBytes > 0 else { return [] }
    struct Enough: Error {}
    var texts: [String] = [], size = 0, seen: Set<String> = []
    do {
      for source in files {
        try read(source, RowTally()) { row in
          for text in try row.paragraphs().texts where seen.insert(text).inserted {
            texts.append(text)
            size += text.utf8.count
          }
          if size > 4 << 20 { throw Enough() }
        }
      }
    } catch is Enough {}
    return texts
  }

  private func writeGraph(_ files: [SourceFile], to file: HDF5File, _ rows: Rows) throws -> DatasetPreparation.Summary {
    var graph = GraphReader(nodeLimit: preparation.nodeLimit, readsRelations: preparation.readsRelations)
    try rows(files) { row in try graph.add(row) }
    let held = preparation.validationSplit
    guard graph.splits.contains("train"), graph.splits.contains(held) else {
      throw DataError.unreadable(
        "\(files.map(\.path).joined(separator: ", ")): nodes of split 'train' and '\(held)' are needed; there are "
          + graph.splits.sorted().joined(separator: ", ") + " (--validation-split names the split for validation)")
    }
    let train = try writer(.train, file, graph.vocabulary)
    let validation = try writer(.validation, file, graph.vocabulary)
    var labels = LabelNames()
    try graph.forEach(of: "train", &labels) { try train.append($0) }
    try graph.forEach(of: held, &labels) { try validation.append($0) }
    return try finish(train, validation, graph.vocabulary, labels, to: file)
  }

  private func finish(
    _ train: ExampleWriter, _ validation: ExampleWriter, _ vocabulary: Int, _ labels: LabelNames, to file: HDF5File
  ) throws -> DatasetPreparation.Summary {
    try tally.check(preparation.options)
    guard train.exampleCount > 0 else { throw DataError.noText(sources: preparation.sources) }
    var lines = try train.finish() + validation.finish()
    try file.setAttribute("vocabulary", vocabulary)
    var summary = DatasetPreparation.Summary()
    if preparation.readsRelations {
      summary.relations = train.relationCount + validation.relationCount
      summary.relationKinds =
        task == .tables ? TableRelation.count : max(train.relationKinds, validation.relationKinds)
      guard summary.relations > 0 else { throw noRelations() }
      try file.setAttribute(Dataset.relationKindsName, summary.relationKinds)
      lines.append("\(Dataset.relationKindsName) \(summary.relationKinds)")
    }
    let names = task == .multipleChoice ? ["wrong", "right"] : labels.names
    try file.setAttribute("labels", String(decoding: try JSON.encode(names), as: UTF8.self))
    try file.setAttribute(
      DatasetDigest.name,
      DatasetDigest.of(
        task: task, vocabulary: vocabulary, tokenizer: preparation.tokenizer, labels: names, lines: lines))
    summary.documents = train.exampleCount + validation.exampleCount
    (summary.trainExamples, summary.validationExamples) = (train.exampleCount, validation.exampleCount)
    (summary.trainTokens, summary.validationTokens) = (train.tokenCount, validation.tokenCount)
    summary.withoutAnswer = train.withoutAnswer
    summary.badRows = tally.bad
    return summary
  }

  private func noRelations() -> DataError {
    let reason =
      switch task {
      case .tables: "no table has two cells in a row or column"
      case .graphs: "no edge joins two nodes of an example"
      case .lm, .classify, .multipleChoice, .span, .tag:
        "no row has a field 'relations', a list of the numbers of two words each, such as [[0, 3], [2, 3]]"
      }
    return .unreadable("\(preparation.sources.joined(separator: ", ")): there are no relations, because \(reason)")
  }
}

/// Writes the examples of one split.
private final class ExampleWriter {
  private(set) var exampleCount = 0
  private(set) var tokenCount = 0
  /// Number of examples without a target.
  private(set) var withoutAnswer = 0
  private let task: TaskKind
  private let tokens, targets, answers: DigestedList
  private let documents, bags, questions, answerStarts: DigestedList
  /// Nil in a dataset without relations.
  private let relations, relationStarts: DigestedList?
  private(set) var relationCount = 0
  /// The largest kind plus 1.
  private(set) var relationKinds = 0
  private var waiting = Waiting()

  /// Collected values. They are written in large pieces, because HDF5 is slow with small ones.
  private struct Waiting {
    var tokens: [Int32] = [], targets: [Int32] = [], answers: [Int32] = []
    var documents: [UInt64] = [], bags: [UInt64] = [], questions: [UInt64] = [], answerStarts: [UInt64] = []
    var relations: [Int32] = [], relationStarts: [UInt64] = []
  }
  private var featureCount = 0
  private var answerBytes = 0

  init(
    _ file: HDF5File, _ split: Split, _ task: TaskKind, vocabulary: Int, hasRelations: Bool
  ) throws(HDF5Error) {
    self.task = task
    func list(_ name: String, _ width: HDF5File.IntegerWidth) throws(HDF5Error) -> DigestedList {
      DigestedList(try file.createList("\(split.rawValue)/\(name)", width, chunk: 1 << 12))
    }
    tokens = try list("tokens", vocabulary > 1 << 16 ? .bits32 : .bits16)
    targets = try list("targets", .bits32)
    documents = try list("documents", .bits64)
    bags = try list("bags", .bits64)
    questions = try list("questions", .bits64)
    answers = try list("answers", .bits8)
    answerStarts = try list("answer_starts", .bits64)
    relations = hasRelations ? try list("relations", .bits32) : nil
    relationStarts = hasRelations ? try list("relation_starts", .bits64) : nil
  }

  func append(_ example: Example) throws {
    waiting.documents.append(UInt64(tokenCount))
    if example.beginsQuestion { waiting.questions.append(UInt64(exampleCount)) }
    if task.hasBags { waiting.bags += example.bags.dropLast().map { UInt64(featureCount + Int($0)) } }
    waiting.tokens += example.features
    waiting.targets += example.targets.map { $0 + 1 }
    if example.targets.allSatisfy({ $0 < 0 }) { withoutAnswer += 1 }
    if task == .span {
      waiting.answerStarts.append(UInt64(answerBytes))
      // These bytes are part of the dataset's digest, which must not change between versions.
      let text = try JSON.encode(example.answers, escapesSlashes: true)
      waiting.answers += text.map { Int32($0) }
      answerBytes += text.count
    }
    if relations != nil {
      let triples = example.relationTriples
      waiting.relationStarts.append(UInt64(relationCount))
      waiting.relations += triples
      relationCount += triples.count / 3
      relationKinds = max(relationKinds, 1 + (example.relations.map { Int($0.kind) }.max() ?? -1))
    }
    exampleCount += 1
    tokenCount += example.tokenCount
    featureCount += example.features.count
    if max(waiting.tokens.count, waiting.relations.count) > 1 << 18 { try write() }
  }

  private func write() throws(HDF5Error) {
    try tokens.append(waiting.tokens)
    try targets.append(waiting.targets)
    try documents.append(waiting.documents)
    try bags.append(waiting.bags)
    try questions.append(waiting.questions)
    try answers.append(waiting.answers)
    try answerStarts.append(waiting.answerStarts)
    try relations?.append(waiting.relations)
    try relationStarts?.append(waiting.relationStarts)
    waiting = Waiting()
  }

  /// Writes the rest, and returns the lines of its lists for the digest.
  func finish() throws(HDF5Error) -> [String] {
    try write()
    let lists = [tokens, targets, documents, bags, questions, answers, answerStarts]
    return (lists + [relations, relationStarts].compactMap { $0 }).map { $0.line() }
  }
}
