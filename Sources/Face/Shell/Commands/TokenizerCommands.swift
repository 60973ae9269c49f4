// The descriptions of `ress data tokenizer train | show | encode | decode`.

extension CommandDescription {
  private static let tokenizerArgument = ArgumentDescription(
    "TOKENIZER",
    "A tokenizer.json, a tokenizer.model of SentencePiece, or a folder with one of them or with vocab.json and merges.txt."
  )
  private static let fileArgument = ArgumentDescription(
    "FILE", .optional, "The file to read; standard input if it is - or absent.")

  package static let tokenizerTrain = CommandDescription(
    "data tokenizer train", summary: "learn a byte-pair vocabulary from text",
    discussion: """
      Learns byte-level byte pairs from the files that `ress data prepare` can read, and writes a Hugging Face tokenizer.json, or, if the name
      ends in /, a folder with GPT-2's vocab.json and merges.txt. The same text gives the same vocabulary, with any number of threads.
      """,
    arguments: [
      ArgumentDescription("FILE", .oneOrMore, "Files of text or rows, or folders of them; - is standard input.")
    ],
    options: [
      OptionDescription(
        "--out", .text("TOKENIZER"), isRequired: true, "The file to write, or a folder, with / at the end of its name."),
      OptionDescription("--vocabulary", .whole("N", 257...1_000_000), standard: "8192", "Number of tokens."),
      OptionDescription(
        "--pattern", .choice(["gpt2", "gpt4"]), standard: "gpt2",
        "The pattern that splits text into pieces; no token crosses a piece."),
      OptionDescription(
        "--special", .text("TEXT"), standard: "<|endoftext|>", repeats: true,
        "A special token; special tokens have the first numbers."),
      OptionDescription(
        "--least-count", .whole("N", 1...1_000_000), standard: "2", "Pairs that occur less often are not merged."),
      .field, .sourceFormat, .skipBadRows, .memory, .threads(standard: "all cores"),
      OptionDescription("--force", "Replace TOKENIZER if it exists."),
    ],
    examples: [
      CommandExample(
        "ress data tokenizer train books/ --out data/books.json", "8192 tokens from all files below books/."),
      CommandExample(
        "ress data tokenizer train wiki.jsonl.zst --out data/wiki.json --vocabulary 32000 --pattern gpt4",
        "From the field 'text' of each line."),
    ])

  package static let tokenizerShow = CommandDescription(
    "data tokenizer show", summary: "show what a tokenizer contains",
    discussion: "Prints the size, pattern and special tokens of a tokenizer.", arguments: [tokenizerArgument],
    examples: [
      CommandExample("ress data tokenizer show data/books.json", "A tokenizer.json."),
      CommandExample("ress data tokenizer show gpt2/", "A folder with vocab.json and merges.txt."),
    ])

  package static let tokenizerEncode = CommandDescription(
    "data tokenizer encode", summary: "turn text into tokens",
    discussion: "Prints the tokens of a text, one a line. Bytes that are not UTF-8 are kept.",
    arguments: [tokenizerArgument, fileArgument],
    options: [
      OptionDescription("--specials", "Encode the text of special tokens as those tokens."),
      OptionDescription("--time", "Print the speed."),
    ],
    examples: [
      CommandExample("ress data tokenizer encode data/books.json book.txt | head", "The first tokens of a file."),
      CommandExample(
        "ress data tokenizer encode gpt2/ --time book.txt | wc -l", "The number of tokens, and the speed."),
    ])

  package static let tokenizerDecode = CommandDescription(
    "data tokenizer decode", summary: "turn tokens into text",
    discussion: "Reads tokens, as `encode` prints them, and writes their bytes.",
    arguments: [tokenizerArgument, fileArgument],
    examples: [
      CommandExample("ress data tokenizer decode gpt2/ tokens.txt", "The text of a file of tokens."),
      CommandExample(
        "ress data tokenizer decode gpt2/ tokens.txt | cmp - book.txt", "Check that nothing was lost."),
    ])
}
