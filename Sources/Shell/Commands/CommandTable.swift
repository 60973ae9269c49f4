// Every command of `ress`, in the order in which help lists them.

package enum CommandTable {
  package static let all: [CommandDescription] = [
    .train, .coordinator, .worker, .submit, .runs, .status, .logs, .metrics, .clinic, .cancel, .pause, .resume, .scale,
    .plan,
    .drill,
    .dataPrepare, .dataShow, .tokenizerTrain, .tokenizerShow, .tokenizerEncode, .tokenizerDecode, .generate,
    .evaluate, .graph, .checkpointList, .checkpointShow, .checkpointVerify, .checkpointDiff, .checkpointRepair,
    .checkpointExport, .checkpointImport, .keysNew, .keysShow, .keysAllow, .keysTrust, .keysRevoke, .keysList,
    .configShow, .configReference, .doctor, .completion, .man,
  ]

  /// Where a coordinator listens and everybody looks for it, unless told otherwise.
  package static let standardAddress = "tcp://127.0.0.1:7077"

  /// A coordinator's store, in the folder it was started in.
  package static let standardStore = "ress-coordinator.db"
}

/// Options that several commands share.
extension OptionDescription {
  static let json = OptionDescription("--json", "Print JSON, one object a line, for other programs.")

  static let tensorboard = OptionDescription(
    "--tensorboard", .text("DIR"), "Write the curves there too, as TensorBoard reads them.")

  static let set = OptionDescription(
    "--set", .text("KEY=VALUE"), repeats: true,
    "Replace a key of the configuration, such as model.width=64 (docs/configuration.md lists them).")

  /// How a run is asked for, whether one watches it or not: `RunRequest` reads these.
  static let run: [OptionDescription] = [
    OptionDescription(
      "--workers", .whole("N", 1...4_096), standard: "cluster.workers of CONFIG",
      "Workers of the run; each holds a share of the experts and of every batch."),
    .threads(standard: "cluster.threads of CONFIG, or an equal share of the cores"),
    OptionDescription(
      "--resume", .optionalText("CHECKPOINT"),
      "Go on from the run's newest checkpoint that verifies, or from the one named."),
    OptionDescription(
      "--other-data",
      "With --resume: the dataset may be another one than the checkpoint was trained on; its tokenizer must be the same."
    ),
    OptionDescription(
      "--key", .text("KEY"), standard: "a random one",
      "Names this submission: said twice, by a script that was not sure, it is one run."),
    .set, .profile,
  ]

  private static let profile = OptionDescription(
    "--profile", "Show where the time of some steps goes, by part of the model, and write traces to RUN/profile.")

  static let insecure = OptionDescription(
    "--insecure", "Listen in the clear where other machines can connect; only where the network is trusted.")

  static let field = OptionDescription(
    "--field", .text("NAME"), standard: "text", "The field of a row that is the text.")

  static let sourceFormat = OptionDescription(
    "--format", .choice(["auto", "text", "rows"]), standard: "auto",
    "What files hold: as their first lines say, plain text all, or rows (one JSON object a line) all.")

  static let skipBadRows = OptionDescription(
    "--skip-bad-rows", "Leave out rows that cannot be used and count them; else the first one ends the command.")

  static let memory = OptionDescription(
    "--memory", .whole("MIB", 1...65_536), standard: "128",
    "Memory that unpacking a file may take; zstd --long and xz -9 files may need more.")

  static func threads(standard: String) -> OptionDescription {
    OptionDescription(
      "--threads", .whole("N", 1...4_096), standard: standard, "Threads a worker computes with; never changes a number."
    )
  }

  static func seed(_ meaning: String) -> OptionDescription {
    OptionDescription("--seed", .whole("N", 0...Int.max), standard: "1", meaning)
  }
}
