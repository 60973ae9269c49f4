// `ress train`.

package struct TrainOptions: CommandOptions {
  package let configuration: String
  package let submission: SubmissionOptions
  /// Nil: the run is trained on this machine.
  package let coordinator: String?
  package let tensorboard: String?
  package let json: Bool

  package init(_ line: inout OptionReader) {
    configuration = line.configuration()
    submission = SubmissionOptions(&line)
    coordinator = line.text(
      "--coordinator", "ADDRESS",
      "Submit the run to the coordinator at this address, such as tcp://127.0.0.1:7077.")
    tensorboard = line.tensorboard()
    json = line.json()
  }
}

extension CommandDescription {
  package static let train = CommandDescription(
    "train", Command.train, summary: "train a model and follow its progress",
    discussion: """
      Trains the model that CONFIG describes and shows its progress. Without --coordinator everything runs on this machine: a coordinator
      inside this process, and workers as its children, which end with it. With --coordinator the run is submitted to an existing
      coordinator, and this command only follows it.

      Checkpoints are written to checkpoints/RUN/step-NNNNNNNN and the log of each local worker to checkpoints/RUN/worker-N.log. The first
      Ctrl-C, SIGTERM or SIGHUP saves the run and ends it, with code 130, 143 or 129; --resume then continues after its last step. The second
      one ends it at once. The numbers of workers and threads do not change the result.
      """,
    examples: [
      CommandExample("ress train configs/demo.yaml --workers 2", "Train on this machine, with two worker processes."),
      CommandExample(
        "ress train configs/demo.yaml --profile --set training.steps=30", "Where does the time of a step go?"),
      CommandExample(
        "ress train configs/demo.yaml --resume --set training.steps=2000",
        "Continue from the newest checkpoint, up to a larger number of steps."),
    ])
}
