// The descriptions of the commands for a trained model: `ress generate`, `ress evaluate`, `ress graph`.

extension CommandDescription {
  private static let checkpointArgument = ArgumentDescription(
    "CHECKPOINT",
    "A checkpoint's folder, or a run's folder (then its newest checkpoint); RUN/best is the best one (checkpoint.keep_best)."
  )

  private static let recurrence = OptionDescription(
    "--recurrence", .whole("K", 1...256), standard: "as trained",
    "Steps of recurrence; a model with one shared block accepts any number.")

  package static let generate = CommandDescription(
    "generate", summary: "write text with a trained model",
    discussion: """
      Continues a prompt token by token and prints each token at once. Memory use does not grow with the length of the text. The same seed
      gives the same text.

      With --prompts it continues many prompts, as many at a time as there are threads, and prints one JSON object a line, in the order of
      the prompts: index, id (if the row has one), prompt, text, tokens, seed, and stop (the string that ended the text, or null). A row has
      `prompt`, and may have `seed` and `tokens`; without them, the seed is --seed plus the index. A text is the same alone and among others.
      """,
    arguments: [checkpointArgument],
    options: [
      OptionDescription("--prompt", .text("TEXT"), standard: "none: a new document", "The text to continue."),
      OptionDescription(
        "--prompts", .text("FILE"), standard: "none",
        "Continue the prompts of this file, one JSON object with `prompt` a line; - is standard input."),
      OptionDescription(
        "--out", .text("FILE"), standard: "standard output", "With --prompts: the file for the texts."),
      OptionDescription("--tokens", .whole("N", 1...100_000_000), standard: "400", "Number of tokens to generate."),
      OptionDescription(
        "--stop", .text("TEXT"), repeats: true,
        "End the text before this string; may be given several times."),
      OptionDescription(
        "--temperature", .real("X", 0...100), standard: "0.8",
        "0 always takes the most likely token; 1 samples from the model's probabilities unchanged."),
      OptionDescription(
        "--top-p", .real("P", 0...1), standard: "0.95",
        "Sample from the most likely tokens that together have this probability."),
      OptionDescription(
        "--top-k", .whole("N", 1...16_777_216), standard: "all", "Sample from the N most likely tokens only."),
      recurrence,
      .seed("The seed of the sampling."),
      .threads(standard: "all cores"),
    ],
    examples: [
      CommandExample("ress generate checkpoints/demo --prompt 'And God said'", "From the run's newest checkpoint."),
      CommandExample(
        "ress generate checkpoints/demo/step-00000200 --tokens 1000 --temperature 0.5",
        "From a specific checkpoint, with less random text."),
      CommandExample(
        "ress generate checkpoints/demo --prompts prompts.jsonl --stop '.' --out texts.jsonl",
        "Many sentences, as JSON."),
    ])

  package static let predict = CommandDescription(
    "predict", summary: "answer rows with a trained model",
    discussion: """
      Reads rows of the model's task (docs/tasks.md), whose labels and answers may be missing, and prints the model's answer to each question,
      one JSON object a line, in the order of the rows: row (its index), id (if the row has one), question (if the row has several), and

        classify, tables  label, probability, and the probabilities of all labels
        multiple_choice   choice (its index), text, and the probabilities of the choices
        tag               tags and their probabilities, one for each word
        span              answer and its probability
        lm                loss in nats a token, tokens, bits_per_byte

      The names of labels come from the run's folder or from its dataset. Of an example longer than data.sequence_length the rest is not read,
      as in training, and its answer has cut: true.
      """,
    arguments: [
      checkpointArgument, ArgumentDescription("ROWS", "The file of rows, packed or not; - is standard input."),
    ],
    options: [
      OptionDescription("--out", .text("FILE"), standard: "standard output", "The file for the answers."),
      .field,
      OptionDescription(
        "--task", .choice(["lm", "classify", "multiple_choice", "span", "tag", "tables"]),
        standard: "that of the run", "The task of the rows, where the run's folder and its dataset are not there."),
      OptionDescription(
        "--length", .whole("N", 1...1_048_576), standard: "the run's data.sequence_length",
        "Tokens of each example that are read."),
      recurrence,
      .threads(standard: "all cores"),
    ],
    examples: [
      CommandExample("ress predict checkpoints/sst2 rows.jsonl --out answers.jsonl", "A label for each row."),
      CommandExample(
        "ress predict checkpoints/sst2/best - < rows.jsonl | jq -r .label", "With the best checkpoint, in a pipe."),
    ])

  package static let evaluate = CommandDescription(
    "evaluate", summary: "measure a model's loss",
    discussion: """
      Prints the mean loss of a checkpoint on a dataset's validation split, in nats and bits per token. With several --data, prints a line
      for each dataset.
      """,
    arguments: [checkpointArgument],
    options: [
      OptionDescription(
        "--data", .text("D.h5"), standard: "the run's dataset", repeats: true,
        "A dataset to evaluate on; may be given several times."),
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
      CommandExample("ress evaluate checkpoints/demo --data data/other.h5 --data data/third.h5", "On other texts."),
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
