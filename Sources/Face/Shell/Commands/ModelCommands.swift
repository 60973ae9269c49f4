// The descriptions of the commands for a trained model: `ress generate`, `ress evaluate`, `ress graph`.

extension CommandDescription {
  private static let checkpointArgument = ArgumentDescription(
    "CHECKPOINT", "A checkpoint's folder, or a run's folder (then its newest checkpoint).")

  private static let recurrence = OptionDescription(
    "--recurrence", .whole("K", 1...256), standard: "as trained",
    "Steps of recurrence; a model with one shared block accepts any number.")

  package static let generate = CommandDescription(
    "generate", summary: "write text with a trained model",
    discussion: """
      Continues a prompt token by token and prints each token at once. Memory use does not grow with the length of the text. The same seed
      gives the same text.
      """,
    arguments: [checkpointArgument],
    options: [
      OptionDescription("--prompt", .text("TEXT"), standard: "none: a new document", "The text to continue."),
      OptionDescription("--tokens", .whole("N", 1...100_000_000), standard: "400", "Number of tokens to generate."),
      OptionDescription(
        "--temperature", .real("X", 0...100), standard: "0.8",
        "0 always takes the most likely token; 1 samples from the model's probabilities unchanged."),
      OptionDescription(
        "--top-p", .real("P", 0...1), standard: "0.95",
        "Sample from the most likely tokens that together have this probability."),
      recurrence,
      .seed("The seed of the sampling."),
      .threads(standard: "all cores"),
    ],
    examples: [
      CommandExample("ress generate checkpoints/demo --prompt 'And God said'", "From the run's newest checkpoint."),
      CommandExample(
        "ress generate checkpoints/demo/step-00000200 --tokens 1000 --temperature 0.5",
        "From a specific checkpoint, with less random text."),
    ])

  package static let evaluate = CommandDescription(
    "evaluate", summary: "measure a model's loss",
    discussion: "Prints the mean loss of a checkpoint on a dataset's validation split, in nats and bits per token.",
    arguments: [checkpointArgument],
    options: [
      OptionDescription("--data", .text("D.h5"), standard: "the run's dataset", "The dataset to evaluate on."),
      OptionDescription(
        "--sequences", .whole("N", 1...1_000_000_000), standard: "the whole split", "Sequences to read, evenly spaced."),
      OptionDescription(
        "--length", .whole("N", 1...1_048_576), standard: "the run's data.sequence_length",
        "Tokens of each sequence. The baseline with learned positions accepts at most model.segment."),
      OptionDescription(
        "--parts", .whole("N", 1...4_096), standard: "none",
        "Also print the losses of N equal parts of a language model's sequences, from the first tokens to the last."),
      OptionDescription(
        "--answers", .text("FILE"), standard: "none",
        "Write a line of JSON for each question: its index, its loss, its answers and the number of right ones."),
      recurrence,
      .threads(standard: "all cores"),
      .json,
    ],
    examples: [
      CommandExample("ress evaluate checkpoints/demo", "The run's newest checkpoint, on its own validation split."),
      CommandExample("ress evaluate checkpoints/demo --data data/other.h5", "On other text."),
      CommandExample(
        "ress evaluate checkpoints/demo --length 2048 --parts 8",
        "On longer sequences than it was trained with, by position."),
    ])

  package static let graph = CommandDescription(
    "graph", summary: "show which tokens a model links in a sample",
    discussion: """
      Runs a checkpoint's model on one sequence of its data and shows the token graph (SOES) of one segment: for each token the neighbours with
      the largest weights A, in percent. Neighbours in the window, which every token has, are left out. --json prints all steps of recurrence.
      A dense transformer has no graph.
      """,
    arguments: [checkpointArgument],
    options: [
      OptionDescription(
        "--sample", .whole("N", 0...1_000_000_000), standard: "0", "The index of the sequence in the split."),
      OptionDescription(
        "--split", .choice(["train", "validation"]), standard: "validation", "The split of the sequence."),
      OptionDescription("--segment", .whole("S", 0...1_000_000), standard: "0", "The segment of the sequence."),
      OptionDescription(
        "--step", .whole("T", 1...256), standard: "the last", "The step of recurrence to print; --json prints all."),
      OptionDescription(
        "--strongest", .whole("N", 1...65_536), standard: "4, with --json all",
        "Number of neighbours of each token to show, those with the largest weights."),
      OptionDescription("--data", .text("D.h5"), standard: "the run's dataset", "The dataset of the sample."),
      .threads(standard: "all cores"),
      .json,
    ],
    examples: [
      CommandExample(
        "ress graph checkpoints/demo --sample 3", "The newest model's graph of a validation sequence."),
      CommandExample(
        "ress graph checkpoints/demo --segment 2 --step 1 --strongest 8",
        "Another segment, with more neighbours, at the first step of recurrence."),
    ])
}
