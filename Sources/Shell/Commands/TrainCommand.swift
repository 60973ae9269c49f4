// The description of `ress train`.

extension CommandDescription {
  package static let train = CommandDescription(
    "train", summary: "train a model and follow its progress",
    discussion: """
      Trains the model that CONFIG describes and shows its progress. Without --coordinator everything runs here: a
      coordinator inside this process and the workers as its children, which end with it. With --coordinator
      the run is handed to a coordinator that has workers already, and this command only watches.

      The run writes checkpoints to checkpoints/RUN/step-NNNNNNNN and each local worker's log to checkpoints/RUN/worker-N.log.
      The first Ctrl-C, SIGTERM or SIGHUP saves the run and ends it, with the code 130, 143 or 129; --resume then goes on after its
      last step. A second one ends it at once. Neither workers nor threads change a number of the result.
      """,
    arguments: [ArgumentDescription("CONFIG", "A run's configuration, such as configs/demo.yaml.")],
    options: OptionDescription.run + [
      OptionDescription(
        "--coordinator", .text("ADDRESS"), "Hand the run to the coordinator there, such as tcp://127.0.0.1:7077."),
      .tensorboard, .json,
    ],
    examples: [
      CommandExample("ress train configs/demo.yaml --workers 2", "Train here, with two worker processes."),
      CommandExample(
        "ress train configs/demo.yaml --profile --set training.steps=30", "Where does the time of a step go?"),
      CommandExample(
        "ress train configs/demo.yaml --resume --set training.steps=2000",
        "Go on from the newest checkpoint, for longer."),
    ])
}
