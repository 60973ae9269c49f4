// The descriptions of `ress data prepare` and `ress data show`.

extension CommandDescription {
  package static let dataPrepare = CommandDescription(
    "data prepare", summary: "make a dataset of text files",
    discussion: """
      Reads text files, or all files below a folder, as bytes, and writes one HDF5 file with a training and a validation split. Each
      file is one document. The file appears only when it is complete.
      """,
    arguments: [ArgumentDescription("FILE", .oneOrMore, "Text files, or folders of them.")],
    options: [
      OptionDescription("--out", .text("D.h5"), isRequired: true, "The dataset to write."),
      OptionDescription(
        "--validation", .real("SHARE", 0...0.9), standard: "0.05", "The share of the text kept for evaluation."),
      OptionDescription(
        "--split-by", .choice(["range", "documents"]), standard: "range",
        "Keep the last part of the text, or the last whole documents."),
      OptionDescription("--force", "Replace D.h5 where it exists."),
      .json,
    ],
    examples: [
      CommandExample("ress data prepare books/ --out data/books.h5", "All files below books/."),
      CommandExample(
        "ress data prepare a.txt b.txt --out data/ab.h5 --validation 0.1", "Two documents, a tenth kept for evaluation."
      ),
    ])

  package static let dataShow = CommandDescription(
    "data show", summary: "say what a dataset holds",
    discussion: "Prints a dataset's tokenizer, vocabulary, sources, and the size of its splits.",
    arguments: [ArgumentDescription("D.h5", "A dataset that `ress data prepare` wrote.")],
    options: [.json],
    examples: [
      CommandExample("ress data show data/demo.h5", "The splits and their sizes."),
      CommandExample("ress data show data/demo.h5 --json", "The same for a program."),
    ])
}
