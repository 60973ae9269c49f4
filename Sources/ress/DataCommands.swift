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
  }
  return .done
}

func dataShow(_ arguments: Arguments) throws -> ExitCode {
  let dataset = try Dataset(path: arguments.words[0])
  let splits = Split.allCases.map { ($0.rawValue, dataset.split($0)) }
  if arguments.has("--json") {
    let rows = splits.map { name, split in
      (
        name,
        JSONText.Value.raw(
          JSONText.object([("tokens", .whole(split.tokenCount)), ("documents", .whole(split.documentCount))]))
      )
    }
    Terminal.print(
      JSONText.object(
        [
          ("path", .text(dataset.path)), ("tokenizer", .text(dataset.tokenizer)),
          ("vocabulary", .whole(dataset.vocabulary)), ("sources", JSONText.list(dataset.sources)),
        ] + rows))
    return .done
  }
  Terminal.print("\(dataset.path): tokenizer \(dataset.tokenizer), vocabulary \(dataset.vocabulary)")
  Terminal.print("made of \(dataset.sources.joined(separator: ", "))\n")
  var table = TextTable([("split", .left), ("tokens", .right), ("documents", .right), ("sequences of 1,024", .right)])
  for (name, split) in splits {
    table.add([
      name, Format.grouped(split.tokenCount), Format.grouped(split.documentCount),
      Format.grouped(split.sequenceCount(length: 1024)),
    ])
  }
  Terminal.print(table.text)
  return .done
}

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
