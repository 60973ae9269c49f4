// The descriptions of what one does with a trained model: `ress generate`, `ress evaluate`.

extension CommandDescription {
  private static let checkpointArgument = ArgumentDescription(
    "CHECKPOINT", "A checkpoint's folder, or a run's folder, whose newest checkpoint is taken.")

  private static let recurrence = OptionDescription(
    "--recurrence", .whole("K", 1...256), standard: "as trained",
    "Steps of recurrence to run; a model with one shared block takes any number.")

  package static let generate = CommandDescription(
    "generate", summary: "write text with a trained model",
    discussion: """
      Goes on with a prompt, one byte at a time, and prints as it writes. Memory use does not grow with the length of the text. The same
      seed writes the same text.
      """,
    arguments: [checkpointArgument],
    options: [
      OptionDescription("--prompt", .text("TEXT"), standard: "none: a new document", "The text to go on with."),
      OptionDescription("--tokens", .whole("N", 1...100_000_000), standard: "400", "How many tokens to write."),
      OptionDescription(
        "--temperature", .real("X", 0...100), standard: "0.8",
        "0 always takes the likeliest token; 1 samples the model as it is."),
      OptionDescription(
        "--top-p", .real("P", 0...1), standard: "0.95",
        "Sample among the likeliest tokens that together have this probability."),
      recurrence,
      .seed("The seed of the sampling."),
      .threads(standard: "all cores"),
    ],
    examples: [
      CommandExample("ress generate checkpoints/demo --prompt 'And God said'", "From the run's newest checkpoint."),
      CommandExample(
        "ress generate checkpoints/demo/step-00000200 --tokens 1000 --temperature 0.5",
        "From a certain one, less daring."),
    ])

  package static let evaluate = CommandDescription(
    "evaluate", summary: "measure a model's loss",
    discussion: "Prints the mean loss of a checkpoint on a dataset's validation split, in nats and in bits a token.",
    arguments: [checkpointArgument],
    options: [
      OptionDescription("--data", .text("D.h5"), standard: "the run's dataset", "The dataset to measure on."),
      OptionDescription(
        "--sequences", .whole("N", 1...1_000_000_000), standard: "the whole split", "Sequences to read, evenly spaced."),
      OptionDescription(
        "--length", .whole("N", 1...1_048_576), standard: "the run's data.sequence_length",
        "Tokens to read of a sequence. The baseline with learned positions takes no more than model.segment."),
      OptionDescription(
        "--parts", .whole("N", 1...4_096), standard: "none",
        "Tell apart the losses of N equal parts of a language model's sequences, first tokens first."),
      OptionDescription(
        "--answers", .text("FILE"), standard: "none",
        "Write a line of JSON for each question: its number, its loss, its answers and how many are right."),
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
    "graph", summary: "show what a model joins in a sample",
    discussion: """
      Runs a checkpoint's model over one sequence of its data and shows the graph that it chose in one segment (SOES): for each token the
      neighbours that weigh most, A in percent. Those of its window, which every token has, are left out. With --json every step of recurrence
      is there. A dense transformer has no graph.
      """,
    arguments: [checkpointArgument],
    options: [
      OptionDescription("--sample", .whole("N", 0...1_000_000_000), standard: "0", "Which sequence of the split."),
      OptionDescription("--split", .choice(["train", "validation"]), standard: "validation", "Whose sequence."),
      OptionDescription("--segment", .whole("S", 0...1_000_000), standard: "0", "Which segment of the sequence."),
      OptionDescription(
        "--step", .whole("T", 1...256), standard: "the last", "Which step of recurrence to print; --json gives all."),
      OptionDescription(
        "--strongest", .whole("N", 1...65_536), standard: "4, with --json all",
        "Neighbours of a token that are shown, those that weigh most."),
      OptionDescription("--data", .text("D.h5"), standard: "the run's dataset", "The dataset to take it from."),
      .threads(standard: "all cores"),
      .json,
    ],
    examples: [
      CommandExample(
        "ress graph checkpoints/demo --sample 3", "What the newest model joins in a sequence it never trained on."),
      CommandExample(
        "ress graph checkpoints/demo --segment 2 --step 1 --strongest 8", "More of it, at the first step."),
    ])
}
