// `ress data prepare` and `ress data show`.

import Data
import Glibc
import Shell

func dataPrepare(_ arguments: Arguments) throws -> ExitCode {
  guard let output = arguments.text("--out") else { preconditionFailure("the parser asks for --out") }
  if access(output, F_OK) == 0, !arguments.has("--force") {
    throw UsageError("\(output) exists; --force replaces it", command: "data prepare")
  }
  var preparation = DatasetPreparation(sources: arguments.words, output: output)
  preparation.validationSources = arguments.texts("--validation-file")
  preparation.tokenizer = try Tokenizer.named(arguments.text("--tokenizer") ?? ByteTokenizer.name)
  preparation.field = arguments.text("--field") ?? preparation.field
  preparation.threads = arguments.whole("--threads") ?? MachineProbe.cores()
  preparation.validationFraction = arguments.real("--validation") ?? preparation.validationFraction
  if let name = arguments.text("--split-by") {
    guard let splitBy = DatasetPreparation.SplitBy(rawValue: name) else { preconditionFailure("--split-by \(name)") }
    preparation.splitBy = splitBy
  }
  var meter = ByteMeter(isShown: Terminal.isTerminal && !arguments.has("--json"))
  let summary = try preparation.run { meter.show($0, of: $1) }
  meter.clear()
  if arguments.has("--json") {
    Terminal.print(
      JSONText.object([
        ("path", .text(output)), ("documents", .whole(summary.documents)), ("bytes", .whole(summary.bytes)),
        ("train_tokens", .whole(summary.trainTokens)), ("validation_tokens", .whole(summary.validationTokens)),
      ]))
  } else {
    Terminal.print(
      "\(output): \(Format.grouped(summary.documents)) documents, \(Format.bytes(summary.bytes)) of text; "
        + "\(Format.grouped(summary.trainTokens)) tokens to train on, \(Format.grouped(summary.validationTokens)) to validate"
    )
    if summary.resumedBytes > 0 {
      Terminal.print("went on behind \(Format.bytes(summary.resumedBytes)) that an earlier preparation had done")
    }
  }
  return .done
}

func dataShow(_ arguments: Arguments) throws -> ExitCode {
  let dataset = try Dataset(path: arguments.words[0])
  let splits = Split.allCases.map { ($0.rawValue, dataset.split($0)) }
  if arguments.has("--json") {
    let rows = try splits.map { name, split in
      let lengths = try split.documentLengths()
      return (
        name,
        JSONText.Value.raw(
          JSONText.object([
            ("tokens", .whole(split.tokenCount)), ("documents", .whole(split.documentCount)),
            ("longest", .whole(lengths.max() ?? 0)), ("median", .whole(median(lengths))),
          ]))
      )
    }
    Terminal.print(
      JSONText.object(
        [
          ("path", .text(dataset.path)), ("tokenizer", .text(dataset.tokenizer.summary)),
          ("vocabulary", .whole(dataset.vocabulary)), ("sources", JSONText.list(dataset.sources)),
        ] + rows))
    return .done
  }
  Terminal.print("\(dataset.path): tokenizer \(dataset.tokenizer.summary), vocabulary \(dataset.vocabulary)")
  Terminal.print("made of \(dataset.sources.joined(separator: ", "))\n")
  var table = TextTable([
    ("split", .left), ("tokens", .right), ("documents", .right), ("median", .right), ("longest", .right),
    ("sequences of 1,024", .right),
  ])
  for (name, split) in splits {
    let lengths = try split.documentLengths()
    table.add([
      name, Format.grouped(split.tokenCount), Format.grouped(split.documentCount), Format.grouped(median(lengths)),
      Format.grouped(lengths.max() ?? 0), Format.grouped(split.sequenceCount(length: 1024)),
    ])
  }
  Terminal.print(table.text)
  let train = dataset.split(.train)
  Terminal.print("\ndocuments by their tokens (train)\n" + LengthHistogram(try train.documentLengths()).text)
  // From the middle: the beginning of many texts is a title page.
  let count = min(120, train.tokenCount)
  var tokens: [Int32] = []
  try train.read(from: (train.tokenCount - count) / 2, count: count, into: &tokens)
  let sample = String(decoding: dataset.tokenizer.decode(tokens), as: UTF8.self)
  Terminal.print(
    "\n\(count) tokens from its middle\n" + sample.split(separator: "\n").map { "  | " + $0 }.joined(separator: "\n"))
  return .done
}

private func median(_ lengths: [Int]) -> Int { lengths.isEmpty ? 0 : lengths.sorted()[lengths.count / 2] }

/// A line that counts while a long command works; nothing where nobody looks.
struct ByteMeter {
  let isShown: Bool
  private var lastShare = -1

  init(isShown: Bool) { self.isShown = isShown }

  mutating func show(_ done: Int, of total: Int) {
    let share = done * 100 / max(1, total)
    guard isShown, share != lastShare else { return }
    lastShare = share
    Terminal.write("\r\(share) %  \(Format.bytes(done)) of \(Format.bytes(total))\u{1B}[K")
  }

  func clear() {
    if isShown, lastShare >= 0 { Terminal.write("\r\u{1B}[K") }
  }
}
