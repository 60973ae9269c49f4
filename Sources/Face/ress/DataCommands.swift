// `ress data prepare` and `ress data show`.

import Configuration
import Data
import Glibc
import RunFolder
import Shell

func dataPrepare(_ options: DataPrepareOptions) throws -> ExitCode {
  let output = options.output
  let shards = options.shards ?? 0
  if shards == 0, let problem = OutputPlace.problem(output) {
    throw UsageError("\(output) cannot be written: \(problem)", command: "data prepare")
  }
  if access(output, F_OK) == 0, !options.force {
    throw UsageError("\(output) exists; --force replaces it", command: "data prepare")
  }
  var preparation = DatasetPreparation(sources: options.sources, output: output)
  preparation.validationSources = options.validationFiles
  preparation.tokenizer = try Tokenizer.named(options.tokenizer ?? ByteTokenizer.name)
  preparation.task = TaskKind(rawValue: options.task) ?? .lm
  preparation.contextBytes = options.contextBytes
  preparation.nodeLimit = options.nodes
  preparation.validationSplit = options.validationSplit
  preparation.readsRelations = options.relations
  preparation.shards = shards
  if let conflict = preparation.conflict { throw UsageError(conflict, command: "data prepare") }
  preparation.options = SourceOptions(options.files)
  if let tokenizer = options.tokenizer {
    preparation.exclusions = tokenizerFiles(tokenizer).map { ($0, "the tokenizer") }
  }
  preparation.threads = options.threads ?? MachineProbe.cores()
  preparation.validationFraction = options.validationShare
  preparation.splitBy = DatasetPreparation.SplitBy(rawValue: options.splitBy) ?? .range
  var meter = ByteMeter(isShown: Terminal.isTerminal && !options.json)
  let summary = try preparation.run {
    meter.show($0, of: $1)
  } note: {
    meter.clear()
    Terminal.complain($0)
  }
  meter.clear()
  if options.json {
    Terminal.print(
      JSON.object([
        ("path", .text(output)), ("documents", .whole(summary.documents)), ("bytes", .whole(summary.bytes)),
        ("train_tokens", .whole(summary.trainTokens)), ("validation_tokens", .whole(summary.validationTokens)),
        ("task", .text(preparation.task.rawValue)), ("train_examples", .whole(summary.trainExamples)),
        ("validation_examples", .whole(summary.validationExamples)), ("without_answer", .whole(summary.withoutAnswer)),
        ("relations", .whole(summary.relations)), ("relation_kinds", .whole(summary.relationKinds)),
        ("empty_rows", .whole(summary.emptyRows)), ("bad_rows", .whole(summary.badRows)),
      ]).line)
  } else {
    if preparation.task != .lm { return report(summary, of: preparation) }
    Terminal.print(
      "\(output): \(Format.count(summary.documents, "document")), \(Format.bytes(summary.bytes)) of text; "
        + "\(Format.count(summary.trainTokens, "token")) to train on, \(Format.grouped(summary.validationTokens)) to validate"
    )
    if summary.resumedBytes > 0 {
      Terminal.print("continued after \(Format.bytes(summary.resumedBytes)) that an earlier preparation had processed")
    }
  }
  return .done
}

extension SourceOptions {
  init(_ options: SourceFileOptions) {
    self.init()
    field = options.field
    format = SourceOptions.Format(rawValue: options.format) ?? .automatic
    skipsBadRows = options.skipsBadRows
    memory = options.memoryMebibytes << 20
  }
}

/// The files of the tokenizer at `path`, which may lie in a folder of sources.
func tokenizerFiles(_ path: String) -> [String] {
  [path] + ["tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "merges.txt"].map { path + "/" + $0 }
}

private func report(_ summary: DatasetPreparation.Summary, of preparation: DatasetPreparation) -> ExitCode {
  Terminal.print(
    "\(preparation.output): task \(preparation.task.rawValue), \(Format.count(summary.trainExamples, "example")) "
      + "(\(Format.count(summary.trainTokens, "token"))) to train on, \(Format.grouped(summary.validationExamples)) "
      + "(\(Format.grouped(summary.validationTokens))) to validate")
  if summary.withoutAnswer > 0 {
    Terminal.print(
      "answers of \(Format.count(summary.withoutAnswer, "example")) to train on do not occur in the text; these examples "
        + "contribute no loss")
  }
  if summary.relationKinds > 0 {
    Terminal.print(
      "\(Format.count(summary.relations, "relation")) of \(Format.count(summary.relationKinds, "kind")), "
        + "counted in both directions")
  }
  if let dataset = try? Dataset(path: preparation.output) { Terminal.print(modelHint(dataset)) }
  return .done
}

/// The values that a configuration needs for a model of the dataset.
private func modelHint(_ dataset: Dataset) -> String {
  let classes = dataset.task.head == .span ? "" : ", classes: \(dataset.classCount)"
  let relations =
    dataset.relationKinds > 0 ? ", and relation_kinds: \(dataset.relationKinds) to read its relations" : ""
  return "a model of this dataset needs head: \(dataset.task.head.rawValue)\(classes)\(relations)"
}

/// Prints sizes, labels and an example of a task's dataset.
private func showExamples(_ dataset: Dataset, asJSON: Bool) throws {
  let splits = Split.allCases.map { ($0.rawValue, dataset.examples($0)!) }
  if asJSON {
    let rows = splits.map { name, split in
      (
        name,
        JSON.object([
          ("examples", .whole(split.count)), ("questions", .whole(split.questionCount)),
          ("tokens", .whole(split.tokenCount)), ("longest", .whole(split.longest)),
          ("median", .whole(median(split.lengths))), ("relations", .whole(split.relationCount)),
        ])
      )
    }
    return Terminal.print(
      JSON.object(
        [
          ("path", .text(dataset.path)), ("task", .text(dataset.task.rawValue)),
          ("head", .text(dataset.task.head.rawValue)), ("tokenizer", .text(dataset.tokenizer.summary)),
          ("vocabulary", .whole(dataset.vocabulary)), ("labels", .list(dataset.labels)),
          ("relation_kinds", .whole(dataset.relationKinds)),
          ("sources", .list(dataset.sources)), ("digest", .text(try dataset.digest())),
        ] + rows
      ).line)
  }
  Terminal.print(
    "\(dataset.path): task \(dataset.task.rawValue), tokenizer \(dataset.tokenizer.summary), vocabulary \(dataset.vocabulary)"
  )
  Terminal.print("made of \(dataset.sources.joined(separator: ", "))")
  Terminal.print("digest \(try dataset.digest())")
  Terminal.print(modelHint(dataset))
  if !dataset.labels.isEmpty {
    let more = dataset.labels.count > 20 ? ", … (\(dataset.labels.count))" : ""
    Terminal.print("classes: \(dataset.labels.prefix(20).joined(separator: ", "))\(more)")
  }
  var table = TextTable(
    [
      ("split", .left), ("examples", .right), ("questions", .right), ("tokens", .right), ("median", .right),
      ("longest", .right),
    ] + (dataset.relationKinds > 0 ? [("relations", .right)] : []))
  for (name, split) in splits {
    table.add(
      [
        name, Format.grouped(split.count), Format.grouped(split.questionCount), Format.grouped(split.tokenCount),
        Format.grouped(median(split.lengths)), Format.grouped(split.longest),
      ] + (dataset.relationKinds > 0 ? [Format.grouped(split.relationCount)] : []))
  }
  Terminal.print("\n" + table.text)
  let train = splits[0].1
  Terminal.print("\nexamples by number of tokens (train)\n" + LengthHistogram(train.lengths).text)
  guard train.count > 0 else { return }
  var tokens: [Int32] = [], bags: [Int32] = [], targets: [Int32] = []
  try train.read(train.count / 2, limit: 400, features: &tokens, bags: &bags, targets: &targets)
  let text = String(
    decoding: dataset.tokenizer.decode(tokens.filter { $0 < dataset.tokenizer.vocabulary }), as: UTF8.self)
  Terminal.print("\nthe beginning of an example from the middle")
  if dataset.task != .graphs {
    Terminal.print(text.split(whereSeparator: \.isNewline).map { "  | " + $0 }.joined(separator: "\n"))
  } else {
    Terminal.print("  | \(Format.count(bags.count - 1, "node")) with \(Format.count(tokens.count, "feature"))")
  }
  if dataset.task.head == .span, targets[0] >= 0 {
    let answer = dataset.tokenizer.decode(tokens[Int(targets[0])...Int(targets[1])])
    return Terminal.print("target: tokens \(targets[0]) to \(targets[1]), “\(String(decoding: answer, as: UTF8.self))”")
  }
  let asked = targets.enumerated().filter { $0.element >= 0 }.prefix(12).map { place, target in
    dataset.labels.indices.contains(Int(target)) ? dataset.labels[Int(target)] : "\(target)"
  }
  Terminal.print("targets: \(asked.joined(separator: ", "))")
}

/// Sizes of a split of text, over all its shards.
private struct TextSizes {
  let tokens: Int
  let sequences: Int
  let lengths: [Int]

  init(_ datasets: [Dataset], _ split: Split) throws {
    let splits = datasets.map { $0.split(split) }
    tokens = splits.reduce(0) { $0 + $1.tokenCount }
    sequences = splits.reduce(0) { $0 + $1.sequenceCount(length: 1024) }
    lengths = try splits.flatMap { try $0.documentLengths() }
  }
}

func dataShow(_ options: DataShowOptions) throws -> ExitCode {
  let corpus = try Corpus(path: options.dataset)
  let datasets = corpus.parts[0].datasets, first = datasets[0]
  if corpus.task != .lm {
    try showExamples(first, asJSON: options.json)
    return .done
  }
  let splits = try Split.allCases.map { ($0.rawValue, try TextSizes(datasets, $0)) }
  if options.json {
    let rows = splits.map { name, sizes in
      (
        name,
        JSON.object([
          ("tokens", .whole(sizes.tokens)), ("documents", .whole(sizes.lengths.count)),
          ("longest", .whole(sizes.lengths.max() ?? 0)), ("median", .whole(median(sizes.lengths))),
        ])
      )
    }
    Terminal.print(
      JSON.object(
        [
          ("path", .text(corpus.path)), ("shards", .whole(datasets.count)),
          ("tokenizer", .text(corpus.tokenizer.summary)), ("vocabulary", .whole(corpus.vocabulary)),
          ("sources", .list(first.sources)), ("digest", .text(try corpus.identity().dataset ?? "")),
        ] + rows
      ).line)
    return .done
  }
  let shards = datasets.count > 1 ? "\(Format.grouped(datasets.count)) shards, complete; " : ""
  Terminal.print("\(corpus.path): \(shards)tokenizer \(corpus.tokenizer.summary), vocabulary \(corpus.vocabulary)")
  Terminal.print("made of \(first.sources.joined(separator: ", "))")
  Terminal.print("digest \(try corpus.identity().dataset ?? "")\n")
  var table = TextTable([
    ("split", .left), ("tokens", .right), ("documents", .right), ("median", .right), ("longest", .right),
    ("sequences of 1,024", .right),
  ])
  for (name, sizes) in splits {
    table.add([
      name, Format.grouped(sizes.tokens), Format.grouped(sizes.lengths.count), Format.grouped(median(sizes.lengths)),
      Format.grouped(sizes.lengths.max() ?? 0), Format.grouped(sizes.sequences),
    ])
  }
  Terminal.print(table.text)
  Terminal.print("\ndocuments by number of tokens (train)\n" + LengthHistogram(splits[0].1.lengths).text)
  // From the middle: the beginning of many texts is a title page.
  let train = first.split(.train)
  let count = min(120, train.tokenCount)
  var tokens: [Int32] = []
  try train.read(from: (train.tokenCount - count) / 2, count: count, into: &tokens)
  let sample = String(decoding: corpus.tokenizer.decode(tokens), as: UTF8.self)
  Terminal.print(
    "\n\(Format.count(count, "token")) from the middle\n"
      + sample.split(whereSeparator: \.isNewline).map { "  | " + $0 }.joined(separator: "\n"))
  return .done
}

private func median(_ lengths: [Int]) -> Int { lengths.isEmpty ? 0 : lengths.sorted()[lengths.count / 2] }

/// A progress line for long commands, if `isShown`.
struct ByteMeter {
  let isShown: Bool
  private var lastShare = -1

  init(isShown: Bool) { self.isShown = isShown }

  mutating func show(_ done: Int, of total: Int) {
    // The size of a pipe's input is unknown: then every 16 MiB are shown.
    let isKnown = done <= total
    let share = isKnown ? done * 100 / max(1, total) : done >> 24
    guard isShown, share != lastShare else { return }
    lastShare = share
    Terminal.write(
      isKnown
        ? "\r\(share) %  \(Format.bytes(done)) of \(Format.bytes(total))\u{1B}[K" : "\r\(Format.bytes(done))\u{1B}[K")
  }

  func clear() {
    if isShown, lastShare >= 0 { Terminal.write("\r\u{1B}[K") }
  }
}
