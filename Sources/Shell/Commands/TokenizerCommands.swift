// The descriptions of `ress data tokenizer train | show | encode | decode`.

extension CommandDescription {
  private static let tokenizerArgument = ArgumentDescription(
    "TOKENIZER", "A tokenizer.json, or a folder with one or with vocab.json and merges.txt.")
  private static let fileArgument = ArgumentDescription(
    "FILE", .optional, "The file to read; - or none: standard input.")

  package static let tokenizerTrain = CommandDescription(
    "data tokenizer train", summary: "learn a byte-pair vocabulary from text",
    discussion: """
      Learns byte-level byte pairs from what `ress data prepare` reads, and writes Hugging Face's tokenizer.json; where the name ends in / a
      folder with GPT-2's vocab.json and merges.txt. The same text gives the same vocabulary, on any number of threads.
      """,
    arguments: [
      ArgumentDescription("FILE", .oneOrMore, "Files of text or rows, or folders of them; - is standard input.")
    ],
    options: [
      OptionDescription(
        "--out", .text("TOKENIZER"), isRequired: true, "The file to write, or a folder with a / at its end."),
      OptionDescription("--vocabulary", .whole("N", 257...1_000_000), standard: "8192", "Tokens in all."),
      OptionDescription(
        "--pattern", .choice(["gpt2", "gpt4"]), standard: "gpt2", "How text is cut into pieces that no token crosses."),
      OptionDescription(
        "--special", .text("TEXT"), standard: "<|endoftext|>", repeats: true, "A special token; they come first."),
      OptionDescription("--least-count", .whole("N", 1...1_000_000), standard: "2", "Rarer pairs are not joined."),
      .field, .sourceFormat, .skipBadRows, .memory, .threads(standard: "all cores"),
      OptionDescription("--force", "Replace TOKENIZER where it exists."),
    ],
    examples: [
      CommandExample(
        "ress data tokenizer train books/ --out data/books.json", "8192 tokens of all files below books/."),
      CommandExample(
        "ress data tokenizer train wiki.jsonl.zst --out data/wiki.json --vocabulary 32000 --pattern gpt4",
        "Of the field 'text' of each line."),
    ])

  package static let tokenizerShow = CommandDescription(
    "data tokenizer show", summary: "say what a tokenizer holds",
    discussion: "Prints a tokenizer's size, pattern and special tokens.", arguments: [tokenizerArgument],
    examples: [
      CommandExample("ress data tokenizer show data/books.json", "One of our own."),
      CommandExample("ress data tokenizer show gpt2/", "A folder with vocab.json and merges.txt."),
    ])

  package static let tokenizerEncode = CommandDescription(
    "data tokenizer encode", summary: "turn text into tokens",
    discussion: "Prints the tokens of a text, one a line. Bytes that are no UTF-8 are kept.",
    arguments: [tokenizerArgument, fileArgument],
    options: [
      OptionDescription("--specials", "Take the text of special tokens as those tokens."),
      OptionDescription("--time", "Say how fast it was."),
    ],
    examples: [
      CommandExample("ress data tokenizer encode data/books.json book.txt | head", "The first tokens of a file."),
      CommandExample("ress data tokenizer encode gpt2/ --time book.txt | wc -l", "How many there are, and how fast."),
    ])

  package static let tokenizerDecode = CommandDescription(
    "data tokenizer decode", summary: "turn tokens into text",
    discussion: "Reads tokens, as `encode` prints them, and writes their bytes.",
    arguments: [tokenizerArgument, fileArgument],
    examples: [
      CommandExample("ress data tokenizer decode gpt2/ tokens.txt", "The text of a file of tokens."),
      CommandExample(
        "ress data tokenizer decode gpt2/ tokens.txt | cmp - book.txt", "Nothing was lost."),
    ])
}
