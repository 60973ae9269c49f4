// `ress compare`.

package struct CompareOptions: CommandOptions {
  package let runs: [String]
  /// Nil: names are looked up here first.
  package let coordinator: String?
  package let target: Double?
  package let plot: String?
  package let axis: CurvePlot.Axis
  package let smooth: Int?
  package let json: Bool

  package init(_ line: inout OptionReader) {
    runs = line.argumentList("RUN", "Runs, such as checkpoints/first, or first.")
    coordinator = line.text(
      "--coordinator", "ADDRESS", defaultText: "\(CommandTable.standardAddress), if a name is not found here",
      "The coordinator whose runs are named.")
    target = line.real(
      "--to", "LOSS", 0...1_000_000, defaultText: "the largest of the runs' best losses",
      "The validation loss up to which tokens and time are counted.")
    plot = line.text("--plot", "FILE", "Write the curves as a picture (SVG) to this file.")
    axis = line.choice("--x", default: .step, "The picture's axis.")
    smooth = line.whole(
      "--smooth", "STEPS", 1...1_000_000, defaultText: "a fiftieth of the steps",
      "Steps over which a line of the picture is the mean.")
    json = line.json()
  }
}

extension CommandDescription {
  package static let compare = CommandDescription(
    "compare", Command.compare, summary: "compare runs: configuration, losses, and what a loss cost",
    discussion: """
      Prints a table of the runs: loss, best validation loss, and the tokens and the time that each took to reach a loss; then the keys of
      their configurations that differ, and the losses at steps that all of them have. Time is the time of training, without waiting,
      loading and evaluations. A training loss is the mean of the last \(RunCurve.window) steps.

      A RUN is a run's folder, a metrics.jsonl, a folder of runs, the name of a run in checkpoints/, or the name or identifier of a run
      of the coordinator. With --coordinator, names are looked up there first.
      """,
    examples: [
      CommandExample("ress compare first second", "Two runs in checkpoints/."),
      CommandExample(
        "ress compare checkpoints/first checkpoints/second --plot curves.svg --x tokens",
        "And a picture of their curves."),
      CommandExample(
        "ress compare checkpoints/demo-sweep --to 1.5", "All runs of a sweep: which one reaches 1.5 first?"),
    ])
}
