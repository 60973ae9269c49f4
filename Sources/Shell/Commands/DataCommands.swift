// The descriptions of `ress data prepare` and `ress data show`.

extension CommandDescription {
  package static let dataPrepare = CommandDescription(
    "data prepare", summary: "make a dataset of text",
    discussion: """
      Reads text files, rows (JSON, one object a line), pipes, or folders of files, packed by gzip, zstd, xz, bzip2 or lz4 or not, and writes one
      HDF5 file with a training and a validation split. A text file is one document, and so is a row. A file whose first line is a JSON object
      holds rows, whatever its name. What is neither text nor rows is refused; links are followed; what is left out is said. A token is a byte
      unless a tokenizer is named, which then is in the dataset too. What was cut short goes on where it was; the file appears only when it is
      complete.
      """,
    arguments: [
      ArgumentDescription("FILE", .oneOrMore, "Files of text or rows, or folders of them; - is standard input.")
    ],
    options: [
      OptionDescription(
        "--task", .choice(["lm", "classify", "multiple_choice", "span", "tag", "tables", "graphs"]), standard: "lm",
        "What a model shall learn of it; all but `lm` need rows (docs/tasks.md)."),
      OptionDescription("--out", .text("D.h5"), isRequired: true, "The dataset to write."),
      OptionDescription(
        "--tokenizer", .text("TOKENIZER"), standard: "byte",
        "A tokenizer.json, or a folder with one or with vocab.json and merges.txt."),
      .field, .sourceFormat, .skipBadRows, .memory,
      OptionDescription(
        "--validation", .real("SHARE", 0...0.9), standard: "0.05", "The share of the text kept for evaluation."),
      OptionDescription(
        "--split-by", .choice(["range", "documents"]), standard: "range",
        "Keep the last part of the text, or the last whole documents."),
      OptionDescription(
        "--validation-file", .text("FILE"), repeats: true, "Evaluate on this file instead of a share of the others."),
      OptionDescription(
        "--context-bytes", .whole("N", 0...1 << 30), standard: "0",
        "Of `span`: put paragraphs of other rows around each text until it has N bytes."),
      OptionDescription(
        "--nodes", .whole("N", 1...65_536), standard: "32", "Of `graphs`: nodes of an example at most, by distance."),
      OptionDescription(
        "--validation-split", .text("NAME"), standard: "valid", "Of `graphs`: the split whose nodes validate."),
      OptionDescription(
        "--shards", .whole("N", 2...99_999), "Of text: make a folder of that name with N files instead of one file."),
      .threads(standard: "all cores"),
      OptionDescription("--force", "Replace D.h5 where it exists."),
      .json,
    ],
    examples: [
      CommandExample("ress data prepare books/ --out data/books.h5", "All files below books/, as bytes."),
      CommandExample(
        "ress data prepare a.txt b.txt --out data/ab.h5 --validation 0.1", "Two documents, a tenth kept for evaluation."
      ),
      CommandExample(
        "ress data prepare wiki.train.jsonl.gz --validation-file wiki.valid.jsonl.gz --tokenizer data/wiki.json --out data/wiki.h5",
        "Byte pairs, and a validation set of its own."),
      CommandExample(
        "ress data prepare - --out data/a.h5 < a.jsonl.gz", "Standard input, or a pipe, packed or not."
      ),
      CommandExample(
        "ress data prepare squad.train.jsonl --task span --context-bytes 8000 --out data/squad.h5",
        "Questions, and where in 8,000 bytes of text their answers are."),
    ])

  package static let dataShow = CommandDescription(
    "data show", summary: "say what a dataset holds",
    discussion:
      "Prints a dataset's tokenizer, vocabulary, sources, the size of its splits, how long its documents are, and a piece of its text.",
    arguments: [
      ArgumentDescription("D.h5", "A dataset that `ress data prepare` wrote: a file, or a folder of shards.")
    ],
    options: [.json],
    examples: [
      CommandExample("ress data show data/demo.h5", "The splits and their sizes."),
      CommandExample("ress data show data/demo.h5 --json", "The same for a program."),
    ])
}
