// `ress sweep`.

import Configuration

package struct SweepOptions: CommandOptions {
  package enum Place: String, CaseIterable, Sendable { case here, coordinator, slurm }

  package let configuration: String
  package let over: [String]
  package let name: String?
  package let limit: Int
  package let isDryRun: Bool
  package let place: Place
  package let coordinator: String
  package let sbatch: [String]
  package let atOnce, workers, threads: Int?
  package let set: [ConfigurationOverride]
  package let json: Bool

  package init(_ line: inout OptionReader) {
    configuration = line.configuration()
    over = line.list(
      "--over", "KEY=VALUES", isRequired: true,
      "A key of the configuration and its values: optimizer.learning_rate=0.001,0.003 or training.seed=1..3.")
    name = line.text("--name", "NAME", defaultText: "RUN-sweep", "The sweep's name and folder.")
    limit = line.whole("--limit", "N", 1...10_000, default: 64, "The largest number of runs that the sweep may have.")
    isDryRun = line.flag("--dry-run", "Check all configurations, print the runs, and train nothing.")
    let place = line.choice(
      "--on", of: Place.self, defaultText: "here, or coordinator with --coordinator", "Where the runs are trained.")
    let coordinator = line.text(
      "--coordinator", "ADDRESS", defaultText: CommandTable.standardAddress, "The coordinator that trains the runs.")
    self.place = place ?? (coordinator == nil ? .here : .coordinator)
    self.coordinator = coordinator ?? CommandTable.standardAddress
    sbatch = line.sbatch("For Slurm: an option of sbatch, such as partition=debug.")
    atOnce = line.whole(
      "--at-once", "N", 1...10_000, defaultText: "all", "For Slurm: the largest number of runs at a time.")
    workers = line.workers("Workers of each run.")
    threads = line.threadsOfEachWorker()
    set = line.set()
    json = line.json()
  }

  /// The keys of the configuration that these options replace in every run.
  package var overrides: [ConfigurationOverride] {
    var overrides = set
    overrides.replace("cluster.workers", "--workers", workers)
    overrides.replace("cluster.threads", "--threads", threads)
    return overrides
  }
}

extension CommandDescription {
  package static let sweep = CommandDescription(
    "sweep", Command.sweep, summary: "train every combination of some settings, and rank them",
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
