// `ress data tokenizer train | show | encode | decode`.

package struct TokenizerTrainOptions: CommandOptions {
  package let sources: [String]
  package let output: String
  package let vocabulary: Int
  package let pattern: String
  /// Empty: the default.
  package let specials: [String]
  package let leastCount: Int
  package let files: SourceFileOptions
  package let threads: Int?
  package let force: Bool

  package init(_ line: inout OptionReader) {
    sources = line.argumentList("FILE", "Files of text or rows, or folders of them; - is standard input.")
    output = line.required(
      "--out", "TOKENIZER", "The file to write, or a folder, with / at the end of its name.")
    vocabulary = line.whole("--vocabulary", "N", 257...1_000_000, default: 8192, "Number of tokens.")
    pattern = line.choice(
      "--pattern", ["gpt2", "gpt4"], default: "gpt2",
      "The pattern that splits text into pieces; no token crosses a piece.")
    specials = line.list(
      "--special", "TEXT", defaultText: "<|endoftext|>", "A special token; special tokens have the first numbers.")
    leastCount = line.whole(
      "--least-count", "N", 1...1_000_000, default: 2, "Pairs that occur less often are not merged.")
    files = SourceFileOptions(&line)
    threads = line.threads(defaultText: "all cores")
    force = line.flag("--force", "Replace TOKENIZER if it exists.")
  }
}

extension CommandDescription {
  package static let tokenizerTrain = CommandDescription(
    "data tokenizer train", Command.tokenizerTrain, summary: "learn a byte-pair vocabulary from text",
    discussion: """
      Learns byte-level byte pairs from the files that `ress data prepare` can read, and writes a Hugging Face tokenizer.json, or, if the name
      ends in /, a folder with GPT-2's vocab.json and merges.txt. The same text gives the same vocabulary, with any number of threads.
      """,
    examples: [
      CommandExample(
        "ress data tokenizer train books/ --out data/books.json", "8192 tokens from all files below books/."),
      CommandExample(
        "ress data tokenizer train wiki.jsonl.zst --out data/wiki.json --vocabulary 32000 --pattern gpt4",
        "From the field 'text' of each line."),
    ])
}

extension OptionReader {
  fileprivate mutating func tokenizer() -> String {
    argument(
      "TOKENIZER",
      "A tokenizer.json, a tokenizer.model of SentencePiece, or a folder with one of them or with vocab.json and merges.txt."
    )
  }

  /// A file, or `-` for standard input.
  fileprivate mutating func input() -> String {
    optionalArgument("FILE", "The file to read; standard input if it is - or absent.") ?? "-"
  }
}

package struct TokenizerShowOptions: CommandOptions {
  package let tokenizer: String

  package init(_ line: inout OptionReader) { tokenizer = line.tokenizer() }
}

extension CommandDescription {
  package static let tokenizerShow = CommandDescription(
    "data tokenizer show", Command.tokenizerShow, summary: "show what a tokenizer contains",
    discussion: "Prints the size, pattern and special tokens of a tokenizer.",
    examples: [
      CommandExample("ress data tokenizer show data/books.json", "A tokenizer.json."),
      CommandExample("ress data tokenizer show gpt2/", "A folder with vocab.json and merges.txt."),
    ])
}

package struct TokenizerEncodeOptions: CommandOptions {
  package let tokenizer, input: String
  package let specials, time: Bool

  package init(_ line: inout OptionReader) {
    tokenizer = line.tokenizer()
    input = line.input()
    specials = line.flag("--specials", "Encode the text of special tokens as those tokens.")
    time = line.flag("--time", "Print the speed.")
  }
}

extension CommandDescription {
  package static let tokenizerEncode = CommandDescription(
    "data tokenizer encode", Command.tokenizerEncode, summary: "turn text into tokens",
    discussion: "Prints the tokens of a text, one a line. Bytes that are not UTF-8 are kept.",
    examples: [
      CommandExample("ress data tokenizer encode data/books.json book.txt | head", "The first tokens of a file."),
      CommandExample(
        "ress data tokenizer encode gpt2/ --time book.txt | wc -l", "The number of tokens, and the speed."),
    ])
}

package struct TokenizerDecodeOptions: CommandOptions {
  package let tokenizer, input: String

  package init(_ line: inout OptionReader) {
    tokenizer = line.tokenizer()
    input = line.input()
  }
}

extension CommandDescription {
  package static let tokenizerDecode = CommandDescription(
    "data tokenizer decode", Command.tokenizerDecode, summary: "turn tokens into text",
    discussion: "Reads tokens, as `encode` prints them, and writes their bytes.",
    examples: [
      CommandExample("ress data tokenizer decode gpt2/ tokens.txt", "The text of a file of tokens."),
      CommandExample(
        "ress data tokenizer decode gpt2/ tokens.txt | cmp - book.txt", "Check that nothing was lost."),
    ])
}
