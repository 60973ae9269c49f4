// The description of `ress drill`.

extension CommandDescription {
  package static let drill = CommandDescription(
    "drill", summary: "test a copy of your run against kills, cut connections and a full disk",
    discussion: """
      Trains a short copy of the run that CONFIG describes, once undisturbed and then once under each fault, with a coordinator and workers of
      its own on this machine, and prints a table. A fault passes if the run reported it, finished without help, and has the losses and weights
      of the undisturbed run, bit for bit. Your run, its checkpoints and its coordinator are not touched. Ends with code 1 if a fault did not
      pass; the logs are then kept.

      kill-worker, kill-coordinator, kill-all: SIGKILL. stop-worker: SIGSTOP for longer than the patience. cut-worker: no data reach or leave
      the worker, but no connection is closed. disk-full: no file can grow beyond half a shard until a checkpoint has failed.
      damaged-checkpoint: a bit of the newest checkpoint is flipped, and all workers are killed. flipped-bit: a worker computes one bit wrongly,
      with cluster.audit 1.
      """,
    arguments: [ArgumentDescription("CONFIG", "The run's configuration.")],
    options: [
      OptionDescription("--workers", .whole("N", 2...64), standard: "3", "Workers of the copy."),
      OptionDescription(
        "--threads", .whole("N", 1...4_096), standard: "an equal share of the cores", "Threads of each worker."),
      OptionDescription(
        "--steps", .whole("N", 20...1_000_000), standard: "40, or more where steps are short",
        "Steps of the copy; the fault is injected after a third of them."),
      OptionDescription(
        "--faults", .text("A,B"), standard: "all",
        "The faults to inject, of: " + DrillFault.allCases.map(\.rawValue).joined(separator: ", ") + "."),
      OptionDescription(
        "--patience", .real("SECONDS", 0.5...3_600), standard: "3", "The copy's cluster.patience_seconds."),
      OptionDescription(
        "--out", .text("FOLDER"), standard: "DIRECTORY/RUN-drill of CONFIG, removed if all faults pass",
        "Keep the logs, stores and checkpoints of every fault in this folder."),
      .set, .json,
    ],
    examples: [
      CommandExample("ress drill configs/demo.yaml", "Every fault, three workers."),
      CommandExample(
        "ress drill configs/demo.yaml --workers 2 --faults kill-worker,cut-worker --steps 100",
        "Two faults, longer runs."),
    ])
}
