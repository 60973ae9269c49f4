// The descriptions of what one asks a coordinator about runs: `ress submit`, `runs`, `status`, `logs`, `cancel`, `pause`, `resume`,
// `scale`, `plan`.

extension CommandDescription {
  private static let coordinatorOption = OptionDescription(
    "--coordinator", .text("ADDRESS"), standard: CommandTable.standardAddress, "The coordinator to ask.")

  private static let runArgument = ArgumentDescription(
    "RUN", "A run's name (the newest of that name) or its identifier.")

  package static let submit = CommandDescription(
    "submit", summary: "hand a run to a coordinator and leave",
    discussion: """
      Gives the run that CONFIG describes to a coordinator that has workers, and ends; the run goes on. It waits in the coordinator's
      queue, by cluster.priority and then by time, until cluster.minimum_workers are free, and grows to cluster.workers as they come.
      A run of the same name that has not ended refuses a second one; with --resume a run that has ended or paused goes on under its
      name, identifier and curve. A --key makes it safe to submit twice: the second answer is the first one's.
      The data are looked at first, where this machine has them: what is missing or is not for the model is an error at once.
      """,
    arguments: [ArgumentDescription("CONFIG", "A run's configuration, such as configs/demo.yaml.")],
    options: [
      coordinatorOption,
      OptionDescription(
        "--on", .choice(["coordinator", "slurm"]), standard: "coordinator",
        "A coordinator that is there, or a Slurm job of its own, which brings one along; RESS_NETWORK=10.1.0.0/16 chooses its network."
      ),
      OptionDescription(
        "--sbatch", .text("OPTION"), repeats: true, "Of a Slurm job: an option for sbatch, such as partition=debug."),
    ] + OptionDescription.run + [.json],
    examples: [
      CommandExample("ress submit configs/demo.yaml --workers 2", "Then: ress logs demo --follow"),
      CommandExample("ress submit configs/demo.yaml --resume", "Go on from the newest checkpoint."),
      CommandExample(
        "ress submit configs/demo.yaml --on slurm --workers 4 --threads 8 --sbatch time=12:00:00",
        "A job of 4 tasks with 8 cores each."),
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
    discussion: """
      Who is here, what each works for, what it waits for and how long it has been silent, and the runs that have not ended. With RUN:
      that run's workers, checkpoint and goodput, the share of its time that went into useful steps, and where the rest went.
      """,
    arguments: [ArgumentDescription("RUN", .optional, "A run's name or identifier.")],
    options: [coordinatorOption, .json],
    examples: [
      CommandExample("ress status demo", "Where does that run's time go?"),
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
    options: [
      coordinatorOption, OptionDescription("--follow", "Go on until the run has ended; -f for short."), .tensorboard,
      .json,
    ],
    examples: [
      CommandExample("ress logs demo", "What happened so far."),
      CommandExample("ress logs demo -f", "And what happens next."),
      CommandExample("ress logs demo -f --tensorboard boards/", "And in TensorBoard: tensorboard --logdir boards"),
    ])

  package static let clinic = CommandDescription(
    "clinic", summary: "show what a run's router and attention do",
    discussion: """
      Reads router.jsonl of a run's folder, which a run writes every training.clinic_every steps: the load of each expert, the router's \
      entropy and how often top-k cuts sparsemax short, by step of recurrence; and the balancer's bias. Says where the router has \
      collapsed, where experts are idle, and where model.keys is too small; a run says so in its log, too.
      """,
    arguments: [ArgumentDescription("RUN", "A run's folder: checkpoints/RUN.")],
    options: [.json],
    examples: [
      CommandExample("ress clinic checkpoints/demo", "The sheet of the last look."),
      CommandExample("ress clinic checkpoints/demo --json | tail -1", "All looks, one JSON object a line; the newest."),
    ])

  package static let metrics = CommandDescription(
    "metrics", summary: "print a run's curve as a table",
    discussion: """
      Reads metrics.jsonl of a run's folder, which every run writes, and prints it as CSV: a row a step, with the evaluations beside the steps
      that they followed. With --tensorboard it becomes an event file instead.
      """,
    arguments: [
      ArgumentDescription("FOLDER", "A run's folder: checkpoints/RUN, unless checkpoint.directory says else.")
    ],
    options: [.tensorboard],
    examples: [
      CommandExample("ress metrics checkpoints/demo > demo.csv", "For a spreadsheet."),
      CommandExample("ress metrics checkpoints/demo --tensorboard boards/", "For TensorBoard, after the run."),
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

  package static let pause = CommandDescription(
    "pause", summary: "save a run and free its workers",
    discussion: """
      At the end of its step the run writes a checkpoint and lets its workers go; it keeps its place in no queue until `ress resume`.
      A run that waits is taken out of the queue at once.
      """,
    arguments: [runArgument], options: [coordinatorOption],
    examples: [
      CommandExample("ress pause demo", "Then, whenever: ress resume demo"),
      CommandExample("ress pause demo --coordinator tcp://10.0.0.1:7077", "At another coordinator."),
    ])

  package static let resume = CommandDescription(
    "resume", summary: "let a paused, failed or cancelled run go on",
    discussion: """
      The run waits for its turn again and goes on from its newest checkpoint that verifies, under its name, identifier and curve.
      Steps that it had recorded behind that checkpoint are computed again and must have the same bits.
      """,
    arguments: [runArgument], options: [coordinatorOption],
    examples: [
      CommandExample("ress resume demo", "Go on."),
      CommandExample("ress resume demo --coordinator tcp://10.0.0.1:7077", "At another coordinator."),
    ])

  package static let scale = CommandDescription(
    "scale", summary: "give a run more or fewer workers",
    discussion: """
      The number of workers that the run may have from now on. It changes at the end of a step, without a stop and without a change of
      any number: experts and moments move in memory. More workers are taken as they come.
      """,
    arguments: [runArgument],
    options: [
      OptionDescription(
        "--workers", .whole("N", 1...4_096), isRequired: true, "Workers, at most one a unit of the batch."),
      coordinatorOption,
    ],
    examples: [
      CommandExample("ress scale demo --workers 4", "Four, as soon as they are here."),
      CommandExample("ress scale demo --workers 1", "One keeps all experts; the others are free."),
    ])

  package static let plan = CommandDescription(
    "plan", summary: "say what a run would need, how long a step takes, and whether it can be placed",
    discussion: """
      Counts the parameters of CONFIG, the memory of each worker, the size of a checkpoint and the bytes that travel each step; tries a few
      short steps on this machine, which should be idle and like the workers' machines, to say how long one takes; and asks the coordinator
      whether its workers would do. Exit code 3: they would not. `ress status RUN` of a run that is submitted from here afterwards shows the
      plan beside what came.
      """,
    arguments: [ArgumentDescription("CONFIG", "A run's configuration, such as configs/demo.yaml.")],
    options: [
      OptionDescription(
        "--coordinator", .text("ADDRESS"), "Ask this coordinator for workers; without it only the needs are counted."),
      OptionDescription(
        "--workers", .whole("N", 1...4_096), standard: "cluster.workers of CONFIG", "Workers to plan for."),
      OptionDescription(
        "--vocabulary", .whole("N", 1...10_000_000), standard: "of the dataset, where it is here",
        "Tokens of the dataset that is not here yet."),
      OptionDescription(
        "--hosts", .whole("N", 1...4_096), standard: "1 if it has the cores, else a machine a worker",
        "Machines that the workers are spread over."),
      OptionDescription(
        "--gigabits", .real("G", 0.001...10_000), standard: "1",
        "Between machines: gigabits a second of a worker's link."),
      OptionDescription(
        "--latency", .real("US", 0...1_000_000), standard: "50", "Between machines: microseconds of a message's way."),
      OptionDescription("--count-only", "Try no step; say nothing of time."),
      .set, .json,
    ],
    examples: [
      CommandExample("ress plan configs/demo.yaml --workers 4", "What would each of four workers need?"),
      CommandExample(
        "ress plan configs/demo.yaml --workers 16 --set cluster.threads=8 --gigabits 25",
        "On sixteen machines, a worker each."),
      CommandExample("ress plan configs/demo.yaml --coordinator tcp://127.0.0.1:7077", "Can it be placed there now?"),
    ])
}
