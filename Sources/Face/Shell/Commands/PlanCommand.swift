// `ress plan`.

import Configuration

package struct PlanOptions: CommandOptions {
  package let configuration: String
  package let coordinator: String?
  package let workers, vocabulary, hosts: Int?
  package let gigabits, latencyMicroseconds: Double
  package let countsOnly: Bool
  package let set: [ConfigurationOverride]
  package let json: Bool

  package init(_ line: inout OptionReader) {
    configuration = line.configuration()
    coordinator = line.text(
      "--coordinator", "ADDRESS",
      "Check placement on the workers of this coordinator; without it only the needs are predicted.")
    workers = line.workers("Number of workers to plan for.")
    vocabulary = line.whole(
      "--vocabulary", "N", 1...10_000_000, defaultText: "that of the dataset, if this machine has it",
      "Vocabulary of a dataset that this machine does not have.")
    hosts = line.whole(
      "--hosts", "N", 1...4_096, defaultText: "1 if this machine has enough cores, else one for each worker",
      "Number of machines for the workers.")
    gigabits = line.real(
      "--gigabits", "G", 0.001...10_000, default: 1,
      "Between machines: bandwidth of a worker's link in gigabits per second.")
    latencyMicroseconds = line.real(
      "--latency", "US", 0...1_000_000, default: 50, "Between machines: one-way latency in microseconds.")
    countsOnly = line.flag("--count-only", "Run no steps, and predict no times.")
    set = line.set()
    json = line.json()
  }

  /// The keys of the configuration that these options replace.
  package var overrides: [ConfigurationOverride] {
    var overrides = set
    overrides.replace("cluster.workers", "--workers", workers)
    return overrides
  }
}

extension CommandDescription {
  package static let plan = CommandDescription(
    "plan", Command.plan, summary: "predict what a run needs, how long a step takes, and whether it can be placed",
    discussion: """
      Counts the parameters of CONFIG, the memory of each worker, the size of a checkpoint and the bytes that are sent in each step. Runs a few
      short steps on this machine, which should be idle and like the workers' machines, to estimate the time of a step. With --coordinator,
      checks whether the run can be placed on the coordinator's workers; exit code 3 means that it cannot. If the run is submitted from this
      machine afterwards, `ress status RUN` compares the plan with the actual run.
      """,
    examples: [
      CommandExample("ress plan configs/demo.yaml --workers 4", "What would each of four workers need?"),
      CommandExample(
        "ress plan configs/demo.yaml --workers 16 --set cluster.threads=8 --gigabits 25",
        "On sixteen machines, one worker on each."),
      CommandExample("ress plan configs/demo.yaml --coordinator tcp://127.0.0.1:7077", "Can it be placed there now?"),
    ])
}
