// `ress drill`.

import Configuration

package struct DrillOptions: CommandOptions {
  package let configuration: String
  package let workers: Int
  package let threads, steps: Int?
  package let faults: String?
  package let patienceSeconds: Double
  package let folder: String?
  package let set: [ConfigurationOverride]
  package let json: Bool

  package init(_ line: inout OptionReader) {
    configuration = line.argument("CONFIG", "The run's configuration.")
    workers = line.whole("--workers", "N", 2...64, default: 3, "Workers of the copy.")
    threads = line.whole(
      "--threads", "N", 1...4_096, defaultText: "an equal share of the cores", "Threads of each worker.")
    steps = line.whole(
      "--steps", "N", 20...1_000_000, defaultText: "40, or more where steps are short",
      "Steps of the copy; the fault is injected after a third of them.")
    faults = line.text(
      "--faults", "A,B", defaultText: "all",
      "The faults to inject, of: " + DrillFault.allCases.map(\.rawValue).joined(separator: ", ") + ".")
    patienceSeconds = line.real(
      "--patience", "SECONDS", 0.5...3_600, default: 3, "The copy's cluster.patience_seconds.")
    folder = line.text(
      "--out", "FOLDER", defaultText: "DIRECTORY/RUN-drill of CONFIG, removed if all faults pass",
      "Keep the logs, stores and checkpoints of every fault in this folder.")
    set = line.set()
    json = line.json()
  }

  /// The keys of the configuration that differ in the copy. The rules between keys are checked with these values.
  package var overrides: [ConfigurationOverride] {
    var overrides = set
    overrides.replace("cluster.workers", "--workers", workers)
    overrides.replace("cluster.minimum_workers", "--workers", 1)
    overrides.replace("cluster.patience_seconds", "--patience", patienceSeconds)
    return overrides
  }
}

extension CommandDescription {
  package static let drill = CommandDescription(
    "drill", Command.drill, summary: "test a copy of your run against kills, cut connections and a full disk",
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
    examples: [
      CommandExample("ress drill configs/demo.yaml", "Every fault, three workers."),
      CommandExample(
        "ress drill configs/demo.yaml --workers 2 --faults kill-worker,cut-worker --steps 100",
        "Two faults, longer runs."),
    ])
}
