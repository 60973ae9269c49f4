// The description of `ress drill`.

extension CommandDescription {
  package static let drill = CommandDescription(
    "drill", summary: "see a copy of your run survive kills, cuts and a full disk",
    discussion: """
      Runs a short copy of the run that CONFIG describes once in peace, then once under each fault, with a coordinator and workers of its own on
      this machine, and prints a sheet. A fault passes where the run noticed it, ended by itself, and has the undisturbed run's losses and
      weights, bit for bit. Your run, its checkpoints and its coordinator are not touched. Ends with code 1 where a fault failed; the logs then stay.

      kill-worker, kill-coordinator, kill-all: SIGKILL. stop-worker: SIGSTOP beyond the patience. cut-worker: nothing reaches it, nothing
      comes from it, no connection closes. disk-full: no file can grow beyond half a shard, until a checkpoint has failed. damaged-checkpoint: a bit of the newest
      checkpoint flips, and all workers die. flipped-bit: a worker computes one bit wrongly, under cluster.audit 1.
      """,
    arguments: [ArgumentDescription("CONFIG", "The run's configuration.")],
    options: [
      OptionDescription("--workers", .whole("N", 2...64), standard: "3", "Workers of the copy."),
      OptionDescription(
        "--threads", .whole("N", 1...4_096), standard: "an equal share of the cores", "Threads of each worker."),
      OptionDescription(
        "--steps", .whole("N", 20...1_000_000), standard: "40, or more where steps are short",
        "Steps of the copy; the fault comes at a third of them."),
      OptionDescription(
        "--faults", .text("A,B"), standard: "all",
        "Which faults, of: " + DrillFault.allCases.map(\.rawValue).joined(separator: ", ") + "."),
      OptionDescription(
        "--patience", .real("SECONDS", 0.5...3_600), standard: "3", "The copy's cluster.patience_seconds."),
      OptionDescription(
        "--out", .text("FOLDER"), standard: "DIRECTORY/RUN-drill of CONFIG, removed when all has passed",
        "Keep logs, stores and checkpoints of every fault in this folder."),
      .set, .json,
    ],
    examples: [
      CommandExample("ress drill configs/demo.yaml", "Every fault, three workers."),
      CommandExample(
        "ress drill configs/demo.yaml --workers 2 --faults kill-worker,cut-worker --steps 100",
        "Two faults, longer runs."),
    ])
}
