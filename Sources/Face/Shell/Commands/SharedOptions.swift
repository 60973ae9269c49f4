// Arguments and options that several commands share.

import Configuration

extension OptionReader {
  mutating func configuration() -> String {
    argument("CONFIG", "A run's configuration, such as configs/demo.yaml.")
  }

  mutating func run() -> String { argument("RUN", "A run's name (the newest of that name) or its identifier.") }

  mutating func json() -> Bool { flag("--json", "Print JSON, one object a line, for other programs.") }

  mutating func coordinator(_ meaning: String = "The coordinator to ask.") -> String {
    text("--coordinator", "ADDRESS", default: CommandTable.standardAddress, meaning)
  }

  mutating func tensorboard() -> String? {
    text(
      "--tensorboard", "DIR",
      "Also write the curves, and the configuration where it is known, to this folder as TensorBoard event files.")
  }

  mutating func set() -> [ConfigurationOverride] {
    list(
      "--set", "KEY=VALUE",
      "Replace a key of the configuration, such as model.width=64 (docs/configuration.md lists them)."
    ).map(ConfigurationOverride.init(set:))
  }

  mutating func workers(_ meaning: String) -> Int? {
    whole("--workers", "N", 1...4_096, defaultText: "cluster.workers of CONFIG", meaning)
  }

  mutating func threads(
    defaultText: String, _ meaning: String = "Compute threads; their number does not change results."
  )
    -> Int?
  { whole("--threads", "N", 1...4_096, defaultText: defaultText, meaning) }

  /// For a command that trains a run.
  mutating func threadsOfEachWorker() -> Int? {
    threads(
      defaultText: "cluster.threads of CONFIG, or an equal share of the cores",
      "Compute threads of each worker; their number does not change results.")
  }

  mutating func insecure() -> Bool {
    flag(
      "--insecure", "Listen without encryption at an address that other machines can reach. Only for trusted networks.")
  }

  mutating func sbatch(_ meaning: String) -> [String] { list("--sbatch", "OPTION", meaning) }

  mutating func field() -> String? {
    text(
      "--field", "NAME", defaultText: "text", "The field of a row, or the column of a table, that contains the text.")
  }

  mutating func recurrence() -> Int? {
    whole(
      "--recurrence", "K", 1...256, defaultText: "as trained",
      "Steps of recurrence; a model whose steps share the block or the experts accepts any number.")
  }
}

/// The only option is `--json`.
package struct JSONOptions: CommandOptions {
  package let json: Bool

  package init(_ line: inout OptionReader) { json = line.json() }
}

/// How files of text and rows are read; shared by `data prepare` and `data tokenizer train`.
package struct SourceFileOptions: CommandOptions {
  package let field: String?
  package let format: String
  package let skipsBadRows: Bool
  package let memoryMebibytes: Int

  package init(_ line: inout OptionReader) {
    field = line.field()
    format = line.choice(
      "--format", ["auto", "text", "rows", "csv", "tsv"], default: "auto",
      "Format of the files: detected from the name and first line of each, plain text, rows (one JSON object a line), or a table with a header."
    )
    skipsBadRows = line.flag(
      "--skip-bad-rows",
      "Leave out rows that cannot be used, and count them; by default the first one ends the command."
    )
    memoryMebibytes = line.whole(
      "--memory", "MIB", 1...65_536, default: 128,
      "Memory that decompression of a file may use; files of zstd --long and xz -9 may need more.")
  }
}

/// What a submission consists of, besides CONFIG; shared by `train` and `submit`.
package struct SubmissionOptions: CommandOptions {
  package let workers, threads: Int?
  /// A checkpoint; an empty text is the newest one; nil begins a new run.
  package let resume: String?
  package let from: String?
  package let acceptsOtherData, acceptsOtherNumerics: Bool
  package let key: String?
  package let set: [ConfigurationOverride]
  package let profile: Bool

  package init(_ line: inout OptionReader) {
    workers = line.workers("Workers of the run; each holds a share of the experts and of every batch.")
    threads = line.threadsOfEachWorker()
    resume = line.optionalText(
      "--resume", "CHECKPOINT",
      "Continue from the run's newest checkpoint that verifies, or from the given one.")
    from = line.text(
      "--from", "CHECKPOINT", defaultText: "model.from of CONFIG",
      "Begin a new run with the weights of this checkpoint, or of the newest one of a run's folder (fine-tuning).")
    acceptsOtherData = line.flag(
      "--other-data",
      "With --resume: accept another dataset than the one the checkpoint was trained on; the tokenizer must be the same."
    )
    acceptsOtherNumerics = line.flag(
      "--accept-numerics",
      "With --resume: accept a checkpoint of a program whose arithmetic differs in the last bits; later steps then differ as well."
    )
    key = line.text(
      "--key", "KEY", defaultText: "a random one",
      "Identifies this submission: if it is sent twice with the same key, it makes one run.")
    set = line.set()
    profile = line.flag(
      "--profile", "Measure some steps by part of the model, print the times, and write traces to RUN/profile.")
  }

  /// The keys of the configuration that these options replace. An option of its own takes precedence over `--set`.
  package var overrides: [ConfigurationOverride] {
    var overrides = set
    overrides.replace("cluster.workers", "--workers", workers)
    overrides.replace("cluster.threads", "--threads", threads)
    overrides.replace("model.from", "--from", from)
    if profile {
      overrides.append(
        ConfigurationOverride(
          option: "--profile", path: "cluster.profile_steps", value: String(Self.profiledSteps)))
    }
    return overrides
  }

  /// Enough for a mean, and few enough that a browser opens the trace quickly.
  private static let profiledSteps = 20
}

extension [ConfigurationOverride] {
  /// Replaces the key at `path` if the option was given.
  package mutating func replace(_ path: String, _ option: String, _ value: (some CustomStringConvertible)?) {
    guard let value else { return }
    append(ConfigurationOverride(option: option, path: path, value: value.description))
  }
}
