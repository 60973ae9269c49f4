// `ress data tokenizer train | show | encode | decode`.

import Data
import Foundation
import Glibc
import RunFolder
import Shell
import Transport
import Wire

func tokenizerTrain(_ options: TokenizerTrainOptions) throws -> ExitCode {
  let output = options.output
  if access(output, F_OK) == 0, !options.force {
    throw UsageError("\(output) exists; --force replaces it", command: "data tokenizer train")
  }
  // The name of a folder ends in /; its files are checked when they are written.
  if !output.hasSuffix("/"), let problem = OutputPlace.problem(output) {
    throw UsageError("\(output) cannot be written: \(problem)", command: "data tokenizer train")
  }
  var training = BytePairTraining()
  training.vocabulary = options.vocabulary
  training.leastCount = options.leastCount
  if !options.specials.isEmpty { training.specials = options.specials }
  training.pretokenizer = Pretokenizer.written.first { $0.name == options.pattern }!
  let isShown = Terminal.isTerminal
  func show(_ text: String) { if isShown { Terminal.write("\r\(text)\u{1B}[K") } }
  try training.read(
    options.sources, options: SourceOptions(options.files), threads: options.threads ?? MachineProbe.cores(),
    leavingOut: tokenizerFiles(output).map { ($0, "the tokenizer that is written") }
  ) {
    show("read \(Format.bytes($0))")
  } note: {
    show("")
    Terminal.complain($0)
  }
  let pieces = training.pieceCount
  let table = try training.learn { if $0 % 64 == 0 { show("\($0) tokens") } }
  show("")
  // If it names a folder, vocab.json is written too.
  if output.hasSuffix("/") {
    try Durable.makeFolder(output)
    let (vocabulary, merges) = try TokenizerFile.gpt2(table)
    try Durable.write(Array(vocabulary.utf8), to: output + "vocab.json")
    try Durable.write(Array(merges.utf8), to: output + "merges.txt")
  } else {
    try Durable.write(Array(TokenizerFile.json(table).utf8), to: output)
  }
  Terminal.print(
    "\(output): \(Format.count(table.vocabulary, "token")), \(Format.count(table.merges.count, "merge")) learned from \(Format.count(pieces, "distinct piece"))"
  )
  if table.vocabulary < training.vocabulary {
    Terminal.print("the text contains no more pairs that occur at least \(Format.count(training.leastCount, "time"))")
  }
  return .done
}

func tokenizerShow(_ options: TokenizerShowOptions) throws -> ExitCode {
  let path = options.tokenizer
  guard case .bytePairs(let table) = try TokenizerFile.read(path) else {
    let tokenizer = try TokenizerFile.read(path)
    let specials = tokenizer.specials.sorted().map { AddedToken(text: tokenizer.spoken($0), token: $0) }
    Terminal.print("\(path): \(tokenizer.summary)\n  special   \(names(specials))")
    return .done
  }
  Terminal.print(
    """
    \(path): \(table.vocabulary) tokens, \(table.merges.count) merges
      pattern   \(table.pretokenizer.name)
      special   \(names(table.specials))
      added     \(names(table.added.filter { !$0.isSpecial }))
      longest   \(table.tokens.max { $0.count < $1.count }.map { String(decoding: $0, as: UTF8.self) } ?? "")
    """)
  return .done
}

/// The first ones, with their numbers.
private func names(_ tokens: [AddedToken]) -> String {
  if tokens.isEmpty { return "none" }
  let more = tokens.count > 20 ? ", … (\(tokens.count))" : ""
  return tokens.prefix(20).map { "\($0.text.debugDescription.dropFirst().dropLast()) (\($0.token))" }.joined(
    separator: ", ") + more
}

func tokenizerEncode(_ options: TokenizerEncodeOptions) throws -> ExitCode {
  let tokenizer = try Tokenizer.named(options.tokenizer)
  let text = try allBytes(of: options.input)
  var tokens: [Int32] = []
  var problem: TokenizerError?
  let begun = MonotonicClock.now.seconds
  if case .bytePairs(let table) = tokenizer {
    var encoder = BytePairEncoder(table)
    problem = text.withUnsafeBufferPointer {
      encoder.encode($0, withSpecials: options.specials, into: &tokens)
    }
  } else {
    if options.specials {
      throw UsageError(
        "--specials is for byte pairs; \(tokenizer.summary) has no such tokens in a text",
        command: "data tokenizer encode")
    }
    var encoder = tokenizer.makeEncoder()
    encoder.encode(text, into: &tokens)
    problem = encoder.problem
  }
  if let problem { throw problem }
  let seconds = MonotonicClock.now.seconds - begun
  if options.time {
    Terminal.complain(
      "\(Format.bytes(text.count)) to \(Format.count(tokens.count, "token")) in \(Format.fixed(seconds, 3)) s: "
        + "\(Format.fixed(Double(text.count) / seconds / 1e6, 1)) MB/s on one thread")
  }
  var lines = ""
  lines.reserveCapacity(tokens.count * 6)
  for token in tokens { lines += "\(token)\n" }
  Terminal.write(lines)
  return .done
}

func tokenizerDecode(_ options: TokenizerDecodeOptions) throws -> ExitCode {
  let tokenizer = try Tokenizer.named(options.tokenizer)
  let text = try allBytes(of: options.input)
  var tokens: [Int32] = []
  for (number, word) in text.split(whereSeparator: { $0 == 10 || $0 == 32 }).enumerated() {
    let word = String(decoding: word, as: UTF8.self)
    guard let token = Int32(word), (0..<Int32(tokenizer.vocabulary)).contains(token) else {
      throw UsageError(
        "word \(number + 1), '\(word)', is not a token number from 0 to \(tokenizer.vocabulary - 1)",
        command: "data tokenizer decode")
    }
    tokens.append(token)
  }
  switch tokenizer {
  case .byte: Terminal.write(bytes: tokenizer.decode(tokens))
  // With the texts of special tokens.
  case .bytePairs(let table): Terminal.write(bytes: table.decode(tokens))
  case .pieces(let model): Terminal.write(bytes: model.wholeText(tokens))
  }
  return .done
}

/// The bytes of a file, or of standard input (`-`).
private func allBytes(of path: String) throws -> [UInt8] {
  guard path != "-" else { return Array(FileHandle.standardInput.readDataToEndOfFile()) }
  guard let data = FileManager.default.contents(atPath: path) else {
    throw DataError.file(action: "read", path: path, reason: String(cString: strerror(errno)))
  }
  return Array(data)
}
