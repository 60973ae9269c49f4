// The commands that ask a coordinator about runs: `ress submit`, `runs`, `status`, `logs`, `cancel`, `pause`, `resume`,
// `scale`.

package struct SubmitOptions: CommandOptions {
  package enum Place: String, CaseIterable, Sendable { case coordinator, slurm }

  package let configuration: String
  package let coordinator: String
  package let place: Place
  package let sbatch: [String]
  package let submission: SubmissionOptions
  package let json: Bool

  package init(_ line: inout OptionReader) {
    configuration = line.configuration()
    coordinator = line.coordinator()
    place = line.choice(
      "--on", default: .coordinator,
      "Submit to an existing coordinator, or as a Slurm job with a coordinator of its own; RESS_NETWORK=10.1.0.0/16 chooses the job's network."
    )
    sbatch = line.sbatch("For a Slurm job: an option of sbatch, such as partition=debug.")
    submission = SubmissionOptions(&line)
    json = line.json()
  }
}

extension CommandDescription {
  package static let submit = CommandDescription(
    "submit", Command.submit, summary: "submit a run to a coordinator and return",
    discussion: """
      Submits the run that CONFIG describes to a coordinator, and ends; the run continues. It waits in the coordinator's queue, ordered by
      cluster.priority and then by time, until cluster.minimum_workers are free, and grows up to cluster.workers as workers join.
      A run is refused if a run of the same name has not ended. With --resume a run that has ended or is paused continues under its name,
      identifier and curve. With --key it is safe to submit twice: the second submission returns the run of the first.
      If this machine has the data, they are checked first: missing data, or data that do not fit the model, are an error at once.
      """,
    examples: [
      CommandExample("ress submit configs/demo.yaml --workers 2", "Then: ress logs demo --follow"),
      CommandExample("ress submit configs/demo.yaml --resume", "Continue from the newest checkpoint."),
      CommandExample(
        "ress submit configs/demo.yaml --on slurm --workers 4 --threads 8 --sbatch time=12:00:00",
        "A job of 4 tasks with 8 cores each."),
    ])
}

/// What `ress runs` takes: which coordinator, and how its state is printed.
package struct StatusOptions: CommandOptions {
  package let coordinator: String
  package let json: Bool

  package init(_ line: inout OptionReader) {
    coordinator = line.coordinator()
    json = line.json()
  }
}

extension CommandDescription {
  package static let runs = CommandDescription(
    "runs", Command.runs, summary: "list a coordinator's runs",
    discussion:
      "Lists all runs in the coordinator's store in order of submission, with their states and the reasons for them.",
    examples: [
      CommandExample("ress runs", "The runs of the coordinator on this machine."),
      CommandExample("ress runs --json | jq -r 'select(.state == \"failed\").reason'", "Why did runs fail?"),
    ])
}

package struct RunStatusOptions: CommandOptions {
  /// Nil: the whole cluster.
  package let run: String?
  package let coordinator: String
  package let json: Bool

  package init(_ line: inout OptionReader) {
    run = line.optionalArgument("RUN", "A run's name or identifier.")
    coordinator = line.coordinator()
    json = line.json()
  }
}

extension CommandDescription {
  package static let status = CommandDescription(
    "status", Command.status, summary: "show a coordinator's workers and runs",
    discussion: """
      Lists the workers, with the run that each works for, what it waits for and how long it has been silent, and the runs that have not
      ended. With RUN, shows the workers and the checkpoint of that run and its goodput: the share of its time that went into useful steps,
      and the causes of the rest.
      """,
    examples: [
      CommandExample("ress status demo", "The state of one run, and where its time goes."),
      CommandExample("ress status", "The coordinator on this machine."),
      CommandExample("ress status --coordinator tcp://10.0.0.1:7077", "A coordinator elsewhere."),
    ])
}

package struct LogsOptions: CommandOptions {
  package let run, coordinator: String
  package let follows: Bool
  package let tensorboard: String?
  package let json: Bool

  package init(_ line: inout OptionReader) {
    run = line.run()
    coordinator = line.coordinator()
    follows = line.flag("--follow", "Continue until the run has ended; -f for short.")
    tensorboard = line.tensorboard()
    json = line.json()
  }
}

extension CommandDescription {
  package static let logs = CommandDescription(
    "logs", Command.logs, summary: "show the story of a run",
    discussion: """
      Prints the events of a run from its beginning. With --follow it continues until the run has ended, and ends with the run's exit code;
      Ctrl-C ends this command, but not the run.
      """,
    examples: [
      CommandExample("ress logs demo", "The events so far."),
      CommandExample("ress logs demo -f", "The events so far, then new ones."),
      CommandExample(
        "ress logs demo -f --tensorboard boards/", "The same, for TensorBoard: tensorboard --logdir boards"),
    ])
}

/// What `ress cancel`, `pause` and `resume` take.
package struct RunOptions: CommandOptions {
  package let run, coordinator: String

  package init(_ line: inout OptionReader) {
    run = line.run()
    coordinator = line.coordinator()
  }
}

extension CommandDescription {
  package static let cancel = CommandDescription(
    "cancel", Command.cancel, summary: "end a run",
    discussion: "Ends a run that is waiting or running. Its workers are free at once; complete checkpoints are kept.",
    examples: [
      CommandExample("ress cancel demo", "The newest run of that name."),
      CommandExample(
        "ress cancel demo --coordinator tcp://10.0.0.1:7077",
        "At another coordinator; `ress submit --resume` continues the run."),
    ])

  package static let pause = CommandDescription(
    "pause", Command.pause, summary: "save a run and free its workers",
    discussion: """
      At the end of its step the run writes a checkpoint and releases its workers. A waiting run leaves the queue at once. The run stays out
      of the queue until `ress resume`.
      """,
    examples: [
      CommandExample("ress pause demo", "Later: ress resume demo"),
      CommandExample("ress pause demo --coordinator tcp://10.0.0.1:7077", "At another coordinator."),
    ])

  package static let resume = CommandDescription(
    "resume", Command.resume, summary: "continue a paused, failed or cancelled run",
    discussion: """
      The run enters the queue again and continues from its newest checkpoint that verifies, under its name, identifier and curve. Steps that
      were recorded after that checkpoint are computed again and must have the same bits.
      """,
    examples: [
      CommandExample("ress resume demo", "Continue the run."),
      CommandExample("ress resume demo --coordinator tcp://10.0.0.1:7077", "At another coordinator."),
    ])
}

package struct ScaleOptions: CommandOptions {
  package let run: String
  package let workers: Int
  package let coordinator: String

  package init(_ line: inout OptionReader) {
    run = line.run()
    workers = line.required(
      "--workers", "N", 1...4_096, "Number of workers, at most the number of units of a batch.")
    coordinator = line.coordinator()
  }
}

extension CommandDescription {
  package static let scale = CommandDescription(
    "scale", Command.scale, summary: "give a run more or fewer workers",
    discussion: """
      Sets the number of workers that the run may have from now on. The change takes effect at the end of a step, from memory: experts and
      moments move between the workers, and losses and weights do not change. Additional workers are taken as they join.
      """,
    examples: [
      CommandExample("ress scale demo --workers 4", "Four workers, as soon as they have joined."),
      CommandExample("ress scale demo --workers 1", "One worker gets all experts; the others are free."),
    ])
}
