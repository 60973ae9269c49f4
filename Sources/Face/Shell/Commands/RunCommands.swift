// The descriptions of the commands that ask a coordinator about runs: `ress submit`, `runs`, `status`, `logs`, `cancel`, `pause`, `resume`,
// `scale`, `plan`; and of `clinic` and `metrics`, which read a run's folder.

extension CommandDescription {
  private static let coordinatorOption = OptionDescription(
    "--coordinator", .text("ADDRESS"), standard: CommandTable.standardAddress, "The coordinator to ask.")

  private static let runArgument = ArgumentDescription(
    "RUN", "A run's name (the newest of that name) or its identifier.")

  package static let submit = CommandDescription(
    "submit", summary: "submit a run to a coordinator and return",
    discussion: """
      Submits the run that CONFIG describes to a coordinator, and ends; the run continues. It waits in the coordinator's queue, ordered by
      cluster.priority and then by time, until cluster.minimum_workers are free, and grows up to cluster.workers as workers join.
      A run is refused if a run of the same name has not ended. With --resume a run that has ended or is paused continues under its name,
      identifier and curve. With --key it is safe to submit twice: the second submission returns the run of the first.
      If this machine has the data, they are checked first: missing data, or data that do not fit the model, are an error at once.
      """,
    arguments: [ArgumentDescription("CONFIG", "A run's configuration, such as configs/demo.yaml.")],
    options: [
      coordinatorOption,
      OptionDescription(
        "--on", .choice(["coordinator", "slurm"]), standard: "coordinator",
        "Submit to an existing coordinator, or as a Slurm job with a coordinator of its own; RESS_NETWORK=10.1.0.0/16 chooses the job's network."
      ),
      OptionDescription(
        "--sbatch", .text("OPTION"), repeats: true, "For a Slurm job: an option of sbatch, such as partition=debug."),
    ] + OptionDescription.run + [.json],
    examples: [
      CommandExample("ress submit configs/demo.yaml --workers 2", "Then: ress logs demo --follow"),
      CommandExample("ress submit configs/demo.yaml --resume", "Continue from the newest checkpoint."),
      CommandExample(
        "ress submit configs/demo.yaml --on slurm --workers 4 --threads 8 --sbatch time=12:00:00",
        "A job of 4 tasks with 8 cores each."),
    ])

  package static let runs = CommandDescription(
    "runs", summary: "list a coordinator's runs",
    discussion:
      "Lists all runs in the coordinator's store in order of submission, with their states and the reasons for them.",
    options: [coordinatorOption, .json],
    examples: [
      CommandExample("ress runs", "The runs of the coordinator on this machine."),
      CommandExample("ress runs --json | jq -r 'select(.state == \"failed\").reason'", "Why did runs fail?"),
    ])

  package static let status = CommandDescription(
    "status", summary: "show a coordinator's workers and runs",
    discussion: """
      Lists the workers, with the run that each works for, what it waits for and how long it has been silent, and the runs that have not
      ended. With RUN, shows the workers and the checkpoint of that run and its goodput: the share of its time that went into useful steps,
      and the causes of the rest.
      """,
    arguments: [ArgumentDescription("RUN", .optional, "A run's name or identifier.")],
    options: [coordinatorOption, .json],
    examples: [
      CommandExample("ress status demo", "The state of one run, and where its time goes."),
      CommandExample("ress status", "The coordinator on this machine."),
      CommandExample("ress status --coordinator tcp://10.0.0.1:7077", "A coordinator elsewhere."),
    ])

  package static let logs = CommandDescription(
    "logs", summary: "show the story of a run",
    discussion: """
      Prints the events of a run from its beginning. With --follow it continues until the run has ended, and ends with the run's exit code;
      Ctrl-C ends this command, but not the run.
      """,
    arguments: [runArgument],
    options: [
      coordinatorOption, OptionDescription("--follow", "Continue until the run has ended; -f for short."), .tensorboard,
      .json,
    ],
    examples: [
      CommandExample("ress logs demo", "The events so far."),
      CommandExample("ress logs demo -f", "The events so far, then new ones."),
      CommandExample(
        "ress logs demo -f --tensorboard boards/", "The same, for TensorBoard: tensorboard --logdir boards"),
    ])

  package static let clinic = CommandDescription(
    "clinic", summary: "show the health of a run's router and attention",
    discussion: """
      Reads router.jsonl in a run's folder, to which the run writes every training.clinic_every steps: the load of each expert, the router's \
      entropy and how often top-k cuts sparsemax short, by step of recurrence; and the balancer's bias. Warns if the router has collapsed, \
      if experts are idle, and if model.keys is too small; the same warnings are in the run's log.
      """,
    arguments: [ArgumentDescription("RUN", "A run's folder: checkpoints/RUN.")],
    options: [.json],
    examples: [
      CommandExample("ress clinic checkpoints/demo", "The last measurement, compared with the first."),
      CommandExample(
        "ress clinic checkpoints/demo --json | tail -1", "All measurements as JSON, one object a line; here the newest."
      ),
    ])

  package static let metrics = CommandDescription(
    "metrics", summary: "print a run's curve as a table",
    discussion: """
      Reads metrics.jsonl in a run's folder, which every run writes, and prints it as CSV: one row for each step, with each evaluation in the
      row of the step that it followed. With --tensorboard it writes an event file instead.
      """,
    arguments: [
      ArgumentDescription("FOLDER", "A run's folder: checkpoints/RUN, unless checkpoint.directory is set.")
    ],
    options: [.tensorboard],
    examples: [
      CommandExample("ress metrics checkpoints/demo > demo.csv", "For a spreadsheet."),
      CommandExample("ress metrics checkpoints/demo --tensorboard boards/", "For TensorBoard, after the run."),
    ])

  package static let cancel = CommandDescription(
    "cancel", summary: "end a run",
    discussion: "Ends a run that is waiting or running. Its workers are free at once; complete checkpoints are kept.",
    arguments: [runArgument], options: [coordinatorOption],
    examples: [
      CommandExample("ress cancel demo", "The newest run of that name."),
      CommandExample(
        "ress cancel demo --coordinator tcp://10.0.0.1:7077",
        "At another coordinator; `ress submit --resume` continues the run."),
    ])

  package static let pause = CommandDescription(
    "pause", summary: "save a run and free its workers",
    discussion: """
      At the end of its step the run writes a checkpoint and releases its workers. A waiting run leaves the queue at once. The run stays out
      of the queue until `ress resume`.
      """,
    arguments: [runArgument], options: [coordinatorOption],
    examples: [
      CommandExample("ress pause demo", "Later: ress resume demo"),
      CommandExample("ress pause demo --coordinator tcp://10.0.0.1:7077", "At another coordinator."),
    ])

  package static let resume = CommandDescription(
    "resume", summary: "continue a paused, failed or cancelled run",
    discussion: """
      The run enters the queue again and continues from its newest checkpoint that verifies, under its name, identifier and curve. Steps that
      were recorded after that checkpoint are computed again and must have the same bits.
      """,
    arguments: [runArgument], options: [coordinatorOption],
    examples: [
      CommandExample("ress resume demo", "Continue the run."),
      CommandExample("ress resume demo --coordinator tcp://10.0.0.1:7077", "At another coordinator."),
    ])

  package static let scale = CommandDescription(
    "scale", summary: "give a run more or fewer workers",
    discussion: """
      Sets the number of workers that the run may have from now on. The change takes effect at the end of a step, from memory: experts and
      moments move between the workers, and losses and weights do not change. Additional workers are taken as they join.
      """,
    arguments: [runArgument],
    options: [
      OptionDescription(
        "--workers", .whole("N", 1...4_096), isRequired: true,
        "Number of workers, at most the number of units of a batch."),
      coordinatorOption,
    ],
    examples: [
      CommandExample("ress scale demo --workers 4", "Four workers, as soon as they have joined."),
      CommandExample("ress scale demo --workers 1", "One worker gets all experts; the others are free."),
    ])

  package static let plan = CommandDescription(
    "plan", summary: "predict what a run needs, how long a step takes, and whether it can be placed",
    discussion: """
      Counts the parameters of CONFIG, the memory of each worker, the size of a checkpoint and the bytes that are sent in each step. Runs a few
      short steps on this machine, which should be idle and like the workers' machines, to estimate the time of a step. With --coordinator,
      checks whether the run can be placed on the coordinator's workers; exit code 3 means that it cannot. If the run is submitted from this
      machine afterwards, `ress status RUN` compares the plan with the actual run.
      """,
    arguments: [ArgumentDescription("CONFIG", "A run's configuration, such as configs/demo.yaml.")],
    options: [
      OptionDescription(
        "--coordinator", .text("ADDRESS"),
        "Check placement on the workers of this coordinator; without it only the needs are predicted."),
      OptionDescription(
        "--workers", .whole("N", 1...4_096), standard: "cluster.workers of CONFIG", "Number of workers to plan for."),
      OptionDescription(
        "--vocabulary", .whole("N", 1...10_000_000), standard: "that of the dataset, if this machine has it",
        "Vocabulary of a dataset that this machine does not have."),
      OptionDescription(
        "--hosts", .whole("N", 1...4_096), standard: "1 if this machine has enough cores, else one for each worker",
        "Number of machines for the workers."),
      OptionDescription(
        "--gigabits", .real("G", 0.001...10_000), standard: "1",
        "Between machines: bandwidth of a worker's link in gigabits per second."),
      OptionDescription(
        "--latency", .real("US", 0...1_000_000), standard: "50", "Between machines: one-way latency in microseconds."),
      OptionDescription("--count-only", "Run no steps, and predict no times."),
      .set, .json,
    ],
    examples: [
      CommandExample("ress plan configs/demo.yaml --workers 4", "What would each of four workers need?"),
      CommandExample(
        "ress plan configs/demo.yaml --workers 16 --set cluster.threads=8 --gigabits 25",
        "On sixteen machines, one worker on each."),
      CommandExample("ress plan configs/demo.yaml --coordinator tcp://127.0.0.1:7077", "Can it be placed there now?"),
    ])
}
