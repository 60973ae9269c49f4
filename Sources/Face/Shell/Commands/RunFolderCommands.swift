// The commands that read a run's folder: `ress clinic` and `ress metrics`.

package struct ClinicOptions: CommandOptions {
  package let folder: String
  package let json: Bool

  package init(_ line: inout OptionReader) {
    folder = line.argument("RUN", "A run's folder: checkpoints/RUN.")
    json = line.json()
  }
}

extension CommandDescription {
  package static let clinic = CommandDescription(
    "clinic", Command.clinic, summary: "show the health of a run's router and attention",
    discussion: """
      Reads router.jsonl in a run's folder, to which the run writes every training.clinic_every steps: the load of each expert, the router's \
      entropy and how often top-k cuts sparsemax short, by step of recurrence; and the balancer's bias. Warns if the router has collapsed, \
      if experts are idle, and if model.keys is too small; the same warnings are in the run's log.
      """,
    examples: [
      CommandExample("ress clinic checkpoints/demo", "The last measurement, compared with the first."),
      CommandExample(
        "ress clinic checkpoints/demo --json | tail -1", "All measurements as JSON, one object a line; here the newest."
      ),
    ])
}

package struct MetricsOptions: CommandOptions {
  package let folder: String
  package let tensorboard: String?

  package init(_ line: inout OptionReader) {
    folder = line.argument("FOLDER", "A run's folder: checkpoints/RUN, unless checkpoint.directory is set.")
    tensorboard = line.tensorboard()
  }
}

extension CommandDescription {
  package static let metrics = CommandDescription(
    "metrics", Command.metrics, summary: "print a run's curve as a table",
    discussion: """
      Reads metrics.jsonl in a run's folder, which every run writes, and prints it as CSV: one row for each step, with each evaluation in the
      row of the step that it followed. With --tensorboard it writes an event file instead.
      """,
    examples: [
      CommandExample("ress metrics checkpoints/demo > demo.csv", "For a spreadsheet."),
      CommandExample("ress metrics checkpoints/demo --tensorboard boards/", "For TensorBoard, after the run."),
    ])
}
