// Every command of `ress`, in the order in which help lists them.

package enum CommandTable {
  package static let all: [CommandDescription] = [
    .train, .coordinator, .worker, .submit, .sweep, .runs, .status, .logs, .compare, .metrics, .clinic, .cancel, .pause,
    .resume, .scale,
    .plan,
    .drill,
    .dataPrepare, .dataShow, .tokenizerTrain, .tokenizerShow, .tokenizerEncode, .tokenizerDecode, .generate, .predict,
    .evaluate, .graph, .checkpointList, .checkpointShow, .checkpointVerify, .checkpointDiff, .checkpointRepair,
    .checkpointExport, .checkpointImport, .keysNew, .keysShow, .keysAllow, .keysTrust, .keysRevoke, .keysList,
    .configShow, .configReference, .doctor, .completion, .man,
  ]

  /// The default address of a coordinator, for the coordinator itself and for its clients.
  package static let standardAddress = "tcp://127.0.0.1:7077"

  /// A coordinator's store, in the folder it was started in.
  package static let standardStore = "ress-coordinator.db"
}

/// Options that several commands share.
extension OptionDescription {
  static let json = OptionDescription("--json", "Print JSON, one object a line, for other programs.")

  static let tensorboard = OptionDescription(
    "--tensorboard", .text("DIR"),
    "Also write the curves, and the configuration where it is known, to this folder as TensorBoard event files.")

  static let set = OptionDescription(
    "--set", .text("KEY=VALUE"), repeats: true,
    "Replace a key of the configuration, such as model.width=64 (docs/configuration.md lists them).")

  /// The options of a submission, shared by `train` and `submit`: `RunRequest` reads them.
  static let run: [OptionDescription] = [
    OptionDescription(
      "--workers", .whole("N", 1...4_096), standard: "cluster.workers of CONFIG",
      "Workers of the run; each holds a share of the experts and of every batch."),
    .threads(standard: "cluster.threads of CONFIG, or an equal share of the cores"),
    OptionDescription(
      "--resume", .optionalText("CHECKPOINT"),
      "Continue from the run's newest checkpoint that verifies, or from the given one."),
    OptionDescription(
      "--from", .text("CHECKPOINT"), standard: "model.from of CONFIG",
      "Begin a new run with the weights of this checkpoint, or of the newest one of a run's folder (fine-tuning)."),
    OptionDescription(
      "--other-data",
      "With --resume: accept another dataset than the one the checkpoint was trained on; the tokenizer must be the same."
    ),
    OptionDescription(
      "--accept-numerics",
      "With --resume: accept a checkpoint of a program whose arithmetic differs in the last bits; later steps then differ as well."
    ),
    OptionDescription(
      "--key", .text("KEY"), standard: "a random one",
      "Identifies this submission: if it is sent twice with the same key, it makes one run."),
    .set, .profile,
  ]

  private static let profile = OptionDescription(
    "--profile", "Measure some steps by part of the model, print the times, and write traces to RUN/profile.")

  static let insecure = OptionDescription(
    "--insecure", "Listen without encryption at an address that other machines can reach. Only for trusted networks.")

  static let field = OptionDescription(
    "--field", .text("NAME"), standard: "text", "The field of a row, or the column of a table, that contains the text.")

  static let sourceFormat = OptionDescription(
    "--format", .choice(["auto", "text", "rows", "csv", "tsv"]), standard: "auto",
    "Format of the files: detected from the name and first line of each, plain text, rows (one JSON object a line), or a table with a header."
  )

  static let skipBadRows = OptionDescription(
    "--skip-bad-rows", "Leave out rows that cannot be used, and count them; by default the first one ends the command.")

  static let memory = OptionDescription(
    "--memory", .whole("MIB", 1...65_536), standard: "128",
    "Memory that decompression of a file may use; files of zstd --long and xz -9 may need more.")

  static func threads(standard: String) -> OptionDescription {
    OptionDescription(
      "--threads", .whole("N", 1...4_096), standard: standard,
      "Compute threads of each worker; does not change results."
    )
  }

  static func seed(_ meaning: String) -> OptionDescription {
    OptionDescription("--seed", .whole("N", 0...Int.max), standard: "1", meaning)
  }
}
