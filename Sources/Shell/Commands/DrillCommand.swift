// The description of `ress drill`.

extension CommandDescription {
  package static let drill = CommandDescription(
    "drill", summary: "break a copy of a run on purpose and see that nothing is lost",
    discussion: """
      Runs a short copy of CONFIG on this machine, undisturbed, and then once for each fault: workers and the coordinator are killed
      (kill -9), stopped (SIGSTOP) and cut off, the disk fills, a checkpoint is damaged, a processor computes a bit wrongly. Every run
      must come to the losses of the undisturbed one, bit for bit. Prints a pass sheet with the time that each recovery took; exit code 1
      if anything failed. CONFIG may be the folder of a run, whose newest checkpoint says how it was configured. Nothing of the run itself
      is touched.
      """,
    arguments: [ArgumentDescription("CONFIG", "A run's configuration, or its folder, such as checkpoints/demo.")],
    options: [
      OptionDescription(
        "--workers", .whole("N", 2...64), standard: "2", "Workers of the copies, as processes of this machine."),
      OptionDescription("--steps", .whole("N", 8...1_000_000), standard: "24", "Steps of each copy."),
      OptionDescription(
        "--faults", .text("LIST"), standard: "all",
        "Only these, by name and with commas, such as kill-worker,disk-full."),
      OptionDescription(
        "--patience", .real("SECONDS", 0.5...3_600), standard: "3", "cluster.patience_seconds of the copies."),
      OptionDescription("--keep", "Keep the copies and their logs, and say where they are."),
      .set, .json,
    ],
    examples: [
      CommandExample("ress drill configs/demo.yaml", "Does this cluster keep its promises with my model?"),
      CommandExample("ress drill checkpoints/demo --faults kill-worker,kill-coordinator", "Two faults only."),
    ])
}
