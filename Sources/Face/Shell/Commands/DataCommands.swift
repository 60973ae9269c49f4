// `ress data prepare` and `ress data show`.

package struct DataPrepareOptions: CommandOptions {
  package let sources: [String]
  package let task, output: String
  /// Nil: a token is a byte.
  package let tokenizer: String?
  package let files: SourceFileOptions
  package let validationShare: Double
  package let splitBy: String
  package let validationFiles: [String]
  package let contextBytes, nodes: Int
  package let validationSplit: String
  package let shards, threads: Int?
  package let relations, force, json: Bool

  package init(_ line: inout OptionReader) {
    sources = line.argumentList("FILE", "Files of text, rows or tables, or folders of them; - is standard input.")
    task = line.choice(
      "--task", ["lm", "classify", "multiple_choice", "span", "tag", "tables", "graphs"], default: "lm",
      "The task of the dataset; all but `lm` need rows (docs/tasks.md).")
    output = line.required("--out", "D.h5", "The dataset to write.")
    tokenizer = line.text(
      "--tokenizer", "TOKENIZER", defaultText: "byte",
      "A tokenizer.json, a tokenizer.model of SentencePiece, or a folder with one of them or with vocab.json and merges.txt."
    )
    files = SourceFileOptions(&line)
    validationShare = line.real(
      "--validation", "SHARE", 0...0.9, default: 0.05, "The share of the text that is kept for validation.")
    splitBy = line.choice(
      "--split-by", ["range", "documents"], default: "range",
      "What is kept for validation: the last part of the text, or the last whole documents.")
    validationFiles = line.list(
      "--validation-file", "FILE", "Use this file for validation instead of a share of the others.")
    contextBytes = line.whole(
      "--context-bytes", "N", 0...1 << 30, default: 0,
      "For `span`: surround each text with paragraphs of other rows until it has N bytes.")
    nodes = line.whole(
      "--nodes", "N", 1...65_536, default: 32, "For `graphs`: nodes of an example, the nearest by distance.")
    validationSplit = line.text(
      "--validation-split", "NAME", default: "valid", "For `graphs`: the split whose nodes are for validation.")
    relations = line.flag(
      "--relations",
      "For `tag`, `tables` and `graphs`: store which tokens are related: words by the field `relations`, cells of a table, neighbouring nodes."
    )
    shards = line.whole("--shards", "N", 2...99_999, "For text: make a folder with N files instead of one file.")
    threads = line.threads(defaultText: "all cores")
    force = line.flag("--force", "Replace D.h5 if it exists.")
    json = line.json()
  }
}

extension CommandDescription {
  package static let dataPrepare = CommandDescription(
    "data prepare", Command.dataPrepare, summary: "make a dataset from text",
    discussion: """
      Reads text files, rows (JSON, one object a line), tables (CSV or TSV with a header), pipes, or folders of files, uncompressed or
      compressed with gzip, zstd, xz, bzip2 or lz4, and writes one HDF5 file with a training and a validation split. A text file is one
      document, and so is a row. A file whose first line is a JSON object contains rows, whatever its name; a file named .csv or .tsv is a
      table. Parquet and Arrow files are refused with the command that converts them (python3 -m ress.convert). Links are followed, and skipped files are
      reported. A token is a byte unless a tokenizer is given, which is then stored in the dataset. An interrupted preparation continues where
      it stopped; the output file appears only when it is complete.
      """,
    examples: [
      CommandExample("ress data prepare books/ --out data/books.h5", "All files below books/, as bytes."),
      CommandExample(
        "ress data prepare a.txt b.txt --out data/ab.h5 --validation 0.1", "Two documents, a tenth kept for validation."
      ),
      CommandExample(
        "ress data prepare wiki.train.jsonl.gz --validation-file wiki.valid.jsonl.gz --tokenizer data/wiki.json --out data/wiki.h5",
        "Byte pairs, and a separate validation set."),
      CommandExample(
        "ress data prepare - --out data/a.h5 < a.jsonl.gz", "Standard input or a pipe, compressed or not."
      ),
      CommandExample(
        "ress data prepare reviews.csv --field body --out data/reviews.h5",
        "The column `body` of a table with a header."
      ),
      CommandExample(
        "ress data prepare squad.train.jsonl --task span --context-bytes 8000 --out data/squad.h5",
        "Questions whose answers are spans in texts of 8,000 bytes."),
    ])
}

package struct DataShowOptions: CommandOptions {
  package let dataset: String
  package let json: Bool

  package init(_ line: inout OptionReader) {
    dataset = line.argument("D.h5", "A dataset that `ress data prepare` wrote: a file, or a folder of shards.")
    json = line.json()
  }
}

extension CommandDescription {
  package static let dataShow = CommandDescription(
    "data show", Command.dataShow, summary: "show what a dataset contains",
    discussion:
      "Prints the tokenizer, vocabulary and sources of a dataset, the sizes of its splits, the lengths of its documents, and a sample of its text.",
    examples: [
      CommandExample("ress data show data/demo.h5", "The splits and their sizes."),
      CommandExample("ress data show data/demo.h5 --json", "The same as JSON."),
    ])
}
