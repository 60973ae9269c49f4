// The descriptions of what one asks a coordinator about runs: `ress submit`, `runs`, `status`, `logs`, `cancel`.

extension CommandDescription {
  private static let coordinatorOption = OptionDescription(
    "--coordinator", .text("ADDRESS"), standard: CommandTable.standardAddress, "The coordinator to ask.")

  private static let runArgument = ArgumentDescription(
    "RUN", "A run's name (the newest of that name) or its identifier.")

  package static let submit = CommandDescription(
    "submit", summary: "hand a run to a coordinator and leave",
    discussion: """
      Gives the run that CONFIG describes to a coordinator that has workers, and ends; the run goes on. It waits in the coordinator's
      queue until its workers are free. A run of the same name that has not ended refuses a second one.
      """,
    arguments: [ArgumentDescription("CONFIG", "A run's configuration, such as configs/demo.yaml.")],
    options: [coordinatorOption] + OptionDescription.run + [.json],
    examples: [
      CommandExample("ress submit configs/demo.yaml --workers 2", "Then: ress logs demo --follow"),
      CommandExample("ress submit configs/demo.yaml --resume", "Go on from the newest checkpoint."),
    ])

  package static let runs = CommandDescription(
    "runs", summary: "list a coordinator's runs",
    discussion: "Every run that the coordinator knows, in order of submission, with its state and the reason for it.",
    options: [coordinatorOption, .json],
    examples: [
      CommandExample("ress runs", "The runs of the coordinator on this machine."),
      CommandExample("ress runs --json | jq -r 'select(.state == \"failed\").reason'", "Why did runs fail?"),
    ])

  package static let status = CommandDescription(
    "status", summary: "show a coordinator's workers and runs",
    discussion: "Who is here, what each works for, how long it has been silent, and the runs that have not ended.",
    options: [coordinatorOption, .json],
    examples: [
      CommandExample("ress status", "Of the coordinator on this machine."),
      CommandExample("ress status --coordinator tcp://10.0.0.1:7077", "Of a coordinator elsewhere."),
    ])

  package static let logs = CommandDescription(
    "logs", summary: "show what a run has done",
    discussion: """
      Prints a run's story from its first line on. With --follow it goes on until the run has ended, and ends with the run's exit code;
      Ctrl-C stops looking, and the run goes on.
      """,
    arguments: [runArgument],
    options: [coordinatorOption, OptionDescription("--follow", "Go on until the run has ended; -f for short."), .json],
    examples: [
      CommandExample("ress logs demo", "What happened so far."),
      CommandExample("ress logs demo -f", "And what happens next."),
    ])

  package static let cancel = CommandDescription(
    "cancel", summary: "end a run",
    discussion: "Ends a run that waits or works. Its workers are free at once; checkpoints that are complete stay.",
    arguments: [runArgument], options: [coordinatorOption],
    examples: [
      CommandExample("ress cancel demo", "The newest run of that name."),
      CommandExample(
        "ress cancel demo --coordinator tcp://10.0.0.1:7077",
        "At another coordinator; `ress submit` with --resume goes on."),
    ])
}
