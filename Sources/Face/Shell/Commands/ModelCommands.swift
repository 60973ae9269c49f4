// The commands for a trained model: `ress generate`, `predict`, `evaluate` and `graph`.

extension OptionReader {
  fileprivate mutating func checkpoint() -> String {
    argument(
      "CHECKPOINT",
      "A checkpoint's folder, or a run's folder (then its newest checkpoint); RUN/best is the best one (checkpoint.keep_best)."
    )
  }
}

package struct GenerateOptions: CommandOptions {
  package let checkpoint: String
  package let prompt, promptFile, output: String?
  package let tokens: Int
  package let stops: [String]
  package let temperature, topP: Double
  package let topK, recurrence: Int?
  package let seed: Int
  package let threads: Int?

  package init(_ line: inout OptionReader) {
    checkpoint = line.checkpoint()
    prompt = line.text("--prompt", "TEXT", "The text to continue; without it the model begins a new document.")
    promptFile = line.text(
      "--prompts", "FILE",
      "Continue the prompts of this file, one JSON object with `prompt` a line; - is standard input.")
    output = line.text(
      "--out", "FILE", defaultText: "standard output", "With --prompts: the file for the texts.")
    tokens = line.whole("--tokens", "N", 1...100_000_000, default: 400, "Number of tokens to generate.")
    stops = line.list("--stop", "TEXT", "End the text before this string.")
    temperature = line.real(
      "--temperature", "X", 0...100, default: 0.8,
      "0 always takes the most likely token; 1 samples from the model's probabilities unchanged.")
    topP = line.real(
      "--top-p", "P", 0...1, default: 0.95,
      "Sample from the most likely tokens that together have this probability.")
    topK = line.whole(
      "--top-k", "N", 1...16_777_216, defaultText: "all", "Sample from the N most likely tokens only.")
    recurrence = line.recurrence()
    seed = line.whole("--seed", "N", 0...Int.max, default: 1, "The seed of the sampling.")
    threads = line.threads(defaultText: "all cores")
  }
}

extension CommandDescription {
  package static let generate = CommandDescription(
    "generate", Command.generate, summary: "write text with a trained model",
    discussion: """
      Continues a prompt token by token and prints each token at once. Memory use does not grow with the length of the text. The same seed
      gives the same text.

      With --prompts it continues many prompts, as many at a time as there are threads, and prints one JSON object a line, in the order of
      the prompts: index, id (if the row has one), prompt, text, tokens, seed, and stop (the string that ended the text, or null). A row has
      `prompt`, and may have `seed` and `tokens`; without them, the seed is --seed plus the index. A text is the same alone and among others.
      """,
    examples: [
      CommandExample("ress generate checkpoints/demo --prompt 'And God said'", "From the run's newest checkpoint."),
      CommandExample(
        "ress generate checkpoints/demo/step-00000200 --tokens 1000 --temperature 0.5",
        "From a specific checkpoint, with less random text."),
      CommandExample(
        "ress generate checkpoints/demo --prompts prompts.jsonl --stop '.' --out texts.jsonl",
        "Many sentences, as JSON."),
    ])
}

package struct PredictOptions: CommandOptions {
  package let checkpoint, rows: String
  package let output, field, task: String?
  package let length, recurrence, threads: Int?

  package init(_ line: inout OptionReader) {
    checkpoint = line.checkpoint()
    rows = line.argument("ROWS", "The file of rows, compressed or not; - is standard input.")
    output = line.text("--out", "FILE", defaultText: "standard output", "The file for the answers.")
    field = line.field()
    task = line.choice(
      "--task", ["lm", "classify", "multiple_choice", "span", "tag", "tables"], defaultText: "that of the run",
      "The task of the rows, if neither the run's folder nor its dataset is available.")
    length = line.whole(
      "--length", "N", 1...1_048_576, defaultText: "the run's data.sequence_length",
      "Tokens of each example that are read.")
    recurrence = line.recurrence()
    threads = line.threads(defaultText: "all cores")
  }
}

extension CommandDescription {
  package static let predict = CommandDescription(
    "predict", Command.predict, summary: "answer rows with a trained model",
    discussion: """
      Reads rows of the model's task (docs/tasks.md), whose labels and answers may be missing, and prints the model's answer to each question,
      one JSON object a line, in the order of the rows: row (its index), id (if the row has one), question (if the row has several), and

        classify, tables  label, probability, and the probabilities of all labels
        multiple_choice   choice (its index), text, and the probabilities of the choices
        tag               tags and their probabilities, one for each word
        span              answer and its probability
        lm                loss in nats a token, tokens, bits_per_byte

      The names of labels come from the run's folder or from its dataset. An example longer than data.sequence_length is cut off there, as in
      training, and its answer has cut: true.
      """,
    examples: [
      CommandExample("ress predict checkpoints/sst2 rows.jsonl --out answers.jsonl", "A label for each row."),
      CommandExample(
        "ress predict checkpoints/sst2/best - < rows.jsonl | jq -r .label", "With the best checkpoint, in a pipe."),
    ])
}

package struct EvaluateOptions: CommandOptions {
  package let checkpoint: String
  package let datasets: [String]
  package let sequences, length, parts: Int?
  package let answers: String?
  package let recurrence, threads: Int?
  package let json: Bool

  package init(_ line: inout OptionReader) {
    checkpoint = line.checkpoint()
    datasets = line.list(
      "--data", "D.h5", defaultText: "the run's dataset", "A dataset to evaluate on.")
    sequences = line.whole(
      "--sequences", "N", 1...1_000_000_000, defaultText: "the whole split", "Sequences to read, evenly spaced.")
    length = line.whole(
      "--length", "N", 1...1_048_576, defaultText: "the run's data.sequence_length",
      "Tokens of each sequence. The baseline with learned positions accepts at most model.segment.")
    parts = line.whole(
      "--parts", "N", 1...4_096,
      "Also print the losses of N equal parts of a language model's sequences, from the first tokens to the last.")
    answers = line.text(
      "--answers", "FILE",
      "Write a line of JSON for each question: its index, its loss, its answers and the number of right ones.")
    recurrence = line.recurrence()
    threads = line.threads(defaultText: "all cores")
    json = line.json()
  }
}

extension CommandDescription {
  package static let evaluate = CommandDescription(
    "evaluate", Command.evaluate, summary: "measure a model's loss",
    discussion: """
      Prints the mean loss of a checkpoint on a dataset's validation split, in nats and bits per token. With several --data, prints a line
      for each dataset.
      """,
    examples: [
      CommandExample("ress evaluate checkpoints/demo", "The run's newest checkpoint, on its own validation split."),
      CommandExample("ress evaluate checkpoints/demo --data data/other.h5 --data data/third.h5", "On other texts."),
      CommandExample(
        "ress evaluate checkpoints/demo --length 2048 --parts 8",
        "On longer sequences than it was trained with, by position."),
    ])
}

package struct GraphOptions: CommandOptions {
  package let checkpoint: String
  package let sample: Int
  package let split: String
  package let segment: Int
  package let step, strongest: Int?
  package let dataset: String?
  package let threads: Int?
  package let json: Bool

  package init(_ line: inout OptionReader) {
    checkpoint = line.checkpoint()
    sample = line.whole(
      "--sample", "N", 0...1_000_000_000, default: 0, "The index of the sequence in the split.")
    split = line.choice("--split", ["train", "validation"], default: "validation", "The split of the sequence.")
    segment = line.whole("--segment", "S", 0...1_000_000, default: 0, "The segment of the sequence.")
    step = line.whole(
      "--step", "T", 1...256, defaultText: "the last", "The step of recurrence to print; --json prints all.")
    strongest = line.whole(
      "--strongest", "N", 1...65_536, defaultText: "4, with --json all",
      "Number of neighbours of each token to show, those with the largest weights.")
    dataset = line.text("--data", "D.h5", defaultText: "the run's dataset", "The dataset of the sample.")
    threads = line.threads(defaultText: "all cores")
    json = line.json()
  }
}

extension CommandDescription {
  package static let graph = CommandDescription(
    "graph", Command.graph, summary: "show which tokens a model links in a sample",
    discussion: """
      Runs a checkpoint's model on one sequence of its data and shows the token graph (SOES) of one segment: for each token the neighbours with
      the largest weights A, in percent. Neighbours in the window, which every token has, are left out. --json prints all steps of recurrence.
      A dense transformer has no graph.
      """,
    examples: [
      CommandExample(
        "ress graph checkpoints/demo --sample 3", "The newest model's graph of a validation sequence."),
      CommandExample(
        "ress graph checkpoints/demo --segment 2 --step 1 --strongest 8",
        "Another segment, with more neighbours, at the first step of recurrence."),
    ])
}
