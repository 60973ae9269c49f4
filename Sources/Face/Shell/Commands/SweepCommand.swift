// The description of `ress sweep`.

extension CommandDescription {
  package static let sweep = CommandDescription(
    "sweep", summary: "train every combination of some settings, and rank them",
    discussion: """
      Trains the run that CONFIG describes once for each combination of the values that --over gives, and prints the runs sorted by
      validation loss; with several seeds also the mean of each arm and its standard error. Every arm has the same seeds.

      The runs, their configurations and the table results.csv are in the folder NAME of checkpoint.directory. The same command continues
      a sweep that was interrupted: finished runs are not trained again, and a run that was interrupted continues from its newest checkpoint. More values
      of --over add runs. A sweep whose configuration has changed needs another --name.

      By default the runs are trained on this machine, one after another; Ctrl-C saves the current one. With --on coordinator all of
      them enter a coordinator's queue, and this command follows them; Ctrl-C ends this command, but not the runs. With --on slurm they
      are the tasks of one array job, each on one node, and this command returns; call it again for the table.
      """,
    arguments: [ArgumentDescription("CONFIG", "A run's configuration, such as configs/demo.yaml.")],
    options: [
      OptionDescription(
        "--over", .text("KEY=VALUES"), isRequired: true, repeats: true,
        "A key of the configuration and its values: optimizer.learning_rate=0.001,0.003 or training.seed=1..3."),
      OptionDescription("--name", .text("NAME"), standard: "RUN-sweep", "The sweep's name and folder."),
      OptionDescription(
        "--limit", .whole("N", 1...10_000), standard: "64", "The largest number of runs that the sweep may have."),
      OptionDescription("--dry-run", "Check all configurations, print the runs, and train nothing."),
      OptionDescription(
        "--on", .choice(["here", "coordinator", "slurm"]), standard: "here, or coordinator with --coordinator",
        "Where the runs are trained."),
      OptionDescription(
        "--coordinator", .text("ADDRESS"), standard: CommandTable.standardAddress,
        "The coordinator that trains the runs."),
      OptionDescription(
        "--sbatch", .text("OPTION"), repeats: true,
        "For Slurm: an option of sbatch, such as partition=debug."),
      OptionDescription(
        "--at-once", .whole("N", 1...10_000), standard: "all", "For Slurm: the largest number of runs at a time."),
      OptionDescription(
        "--workers", .whole("N", 1...4_096), standard: "cluster.workers of CONFIG", "Workers of each run."),
      .threads(standard: "cluster.threads of CONFIG, or an equal share of the cores"), .set, .json,
    ],
    examples: [
      CommandExample(
        "ress sweep configs/demo.yaml --over optimizer.learning_rate=0.004,0.008 --over training.seed=1..3",
        "Two arms with three seeds: six runs, one after another."),
      CommandExample(
        "ress sweep configs/demo.yaml --over model.memory_slots=0,8,16 --on coordinator", "In a coordinator's queue."),
      CommandExample(
        "ress sweep configs/demo.yaml --over training.seed=1..8 --on slurm --threads 8 --sbatch time=2:00:00",
        "One array job of eight tasks."),
    ])
}
