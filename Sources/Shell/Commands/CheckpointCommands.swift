// The descriptions of `ress checkpoint list` and `ress checkpoint show`.

extension CommandDescription {
  package static let checkpointList = CommandDescription(
    "checkpoint list", summary: "list the checkpoints of runs",
    discussion:
      "Lists complete checkpoints, oldest first, with step, size, loss and time. What was interrupted is not listed.",
    arguments: [
      ArgumentDescription("FOLDER", .optional, "A run's folder, or the folder of all runs. Default: checkpoints.")
    ],
    options: [.json],
    examples: [
      CommandExample("ress checkpoint list", "All runs below checkpoints/."),
      CommandExample("ress checkpoint list checkpoints/demo", "One run."),
    ])

  package static let checkpointShow = CommandDescription(
    "checkpoint show", summary: "say what a checkpoint holds, and verify it",
    discussion: """
      Prints a checkpoint's run, step, loss, files and tensors, after checking every file against its SHA-256. Ends with code 1 where something
      is damaged. Any HDF5 tool reads the tensors too: h5ls -r CHECKPOINT/model.h5.
      """,
    arguments: [
      ArgumentDescription("CHECKPOINT", "A checkpoint's folder, or a run's folder, whose newest checkpoint is taken.")
    ],
    options: [OptionDescription("--tensors", "List every tensor with its shape."), .json],
    examples: [
      CommandExample("ress checkpoint show checkpoints/demo", "The newest of a run."),
      CommandExample("ress checkpoint show checkpoints/demo/step-00000200 --tensors", "A certain one, in full."),
    ])
}
