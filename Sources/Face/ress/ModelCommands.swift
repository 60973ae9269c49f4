// `ress generate` and `ress evaluate`: the commands for a trained model.

import Configuration
import Data
import Foundation
import Shell
import Trained
import Training

func generate(_ options: GenerateOptions) throws -> ExitCode {
  let model = try TrainedModel(options.checkpoint, threads: options.threads ?? 0)
  for sentence in model.skipped { Terminal.complain(sentence) }
  var sampling = SamplingOptions()
  sampling.temperature = options.temperature
  sampling.topP = options.topP
  sampling.topK = options.topK ?? 0
  sampling.seed = UInt64(options.seed)
  let tokenizer = try model.tokenizer
  sampling.forbidden = tokenizer.specials
  func request(_ prompt: String) -> TextRequest {
    TextRequest(
      prompt: [tokenizer.separator].compactMap { $0 } + tokenizer.encode(prompt),
      count: options.tokens, options: sampling, stops: options.stops)
  }
  let recurrence = options.recurrence
  if let path = options.promptFile {
    guard options.prompt == nil else {
      throw UsageError("--prompt and --prompts are both given", command: "generate")
    }
    let prompts = try PromptFile.read(path, request)
    let sheet = try LineSheet(options.output)
    try model.write(prompts.map(\.request), recurrence: recurrence) { number, text in
      try sheet.write(prompts[number].line(number, text))
    }
    try sheet.finish()
    return .done
  }
  guard options.output == nil else {
    throw UsageError("--out needs --prompts", command: "generate")
  }
  let prompt = options.prompt ?? ""
  Terminal.write(prompt)
  var writer = CharacterWriter()
  _ = try model.write(request(prompt), recurrence: recurrence) { bytes in
    for byte in bytes { Terminal.write(writer.text(after: byte)) }
  }
  Terminal.write(writer.rest() + "\n")
  return .done
}

/// Turns single bytes into text that a terminal can show: a character is written when its last byte has arrived.
struct CharacterWriter {
  private var waiting: [UInt8] = []

  mutating func text(after byte: UInt8) -> String {
    // A byte that begins a character ends the previous one, complete or not.
    let ended = byte & 0xC0 != 0x80 ? rest() : ""
    waiting.append(byte)
    let needed = byte < 0x80 ? 1 : waiting[0] >= 0xF0 ? 4 : waiting[0] >= 0xE0 ? 3 : waiting[0] >= 0xC0 ? 2 : 1
    return ended + (waiting.count >= needed ? rest() : "")
  }

  /// The bytes of an incomplete character, as they are.
  mutating func rest() -> String {
    defer { waiting = [] }
    return String(decoding: waiting, as: UTF8.self)
  }
}

func evaluate(_ options: EvaluateOptions) throws -> ExitCode {
  let model = try TrainedModel(options.checkpoint, threads: options.threads ?? 0)
  for sentence in model.skipped { Terminal.complain(sentence) }
  let paths = options.datasets
  guard paths.count < 2 || options.answers == nil else {
    throw UsageError(
      "--answers writes the answers of one dataset, and --data is given several times", command: "evaluate")
  }
  // All are opened first, so that a wrong path is reported before a long evaluation.
  let corpora = try paths.isEmpty ? [Corpus(model.manifest.configuration.data)] : paths.map { try Corpus(path: $0) }
  for corpus in corpora { try evaluate(model, corpus, options) }
  return .done
}

private func evaluate(_ model: TrainedModel, _ corpus: Corpus, _ options: EvaluateOptions) throws {
  let isShown = Terminal.isTerminal && !options.json
  let parts = options.parts ?? 0
  var sheet: AnswerSheet? = nil
  if let path = options.answers { sheet = try AnswerSheet(path) }
  var partLosses = [Double](repeating: 0, count: parts), partedCount = 0
  let result = try model.evaluate(
    corpus, sequences: options.sequences, recurrence: options.recurrence,
    length: options.length, parts: parts
  ) { asked in
    for (part, loss) in asked.parts.enumerated() { partLosses[part] += loss }
    if !asked.parts.isEmpty { partedCount += 1 }
    try sheet?.write(asked)
  } progress: { done, total in
    if isShown { Terminal.write("\r\(done)/\(total) sequences\u{1B}[K") }
  }
  try sheet?.finish()
  partLosses = partedCount == 0 ? [] : partLosses.map { $0 / Double(partedCount) }
  if isShown { Terminal.write("\r\u{1B}[K") }
  if options.json {
    Terminal.print(
      JSON.object(
        [
          ("checkpoint", .text(model.path)), ("step", .whole(model.manifest.step)), ("data", .text(corpus.path)),
          ("validation_loss", .real(result.losses.task)), ("bits", .real(result.losses.task / log(2))),
          ("sequences", .whole(result.sequences)), ("tokens", .whole(result.tokens)),
          ("metrics", MetricText.json(result.metrics)),
        ]
          + (partLosses.isEmpty ? [] : [("parts", .list(partLosses))])
      ).line)
  } else {
    Terminal.print(
      "\(model.path) on \(corpus.path): \(MetricText.sentence(loss: result.losses.task, result.metrics)); "
        + "\(Format.count(result.sequences, "sequence")), \(Format.count(result.tokens, "token"))"
    )
    for (part, loss) in partLosses.enumerated() {
      Terminal.print("  part \(part + 1) of \(parts): \(Format.fixed(loss, 4)) nats a token")
    }
  }
}
