// The descriptions of `ress checkpoint list | show | verify | diff | repair | export | import`.

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

  package static let checkpointVerify = CommandDescription(
    "checkpoint verify", summary: "check every file and every tensor of checkpoints",
    discussion: """
      Reads each checkpoint whole: every file against its SHA-256, every tensor against its CRC-32C. Says which file and which tensors are
      damaged. Ends with code 1 where anything is. Without ress: sha256sum -c SHA256SUMS in the checkpoint's folder.
      """,
    arguments: [
      ArgumentDescription("CHECKPOINT", .oneOrMore, "Checkpoints' folders, or runs' folders: then all that they hold.")
    ],
    options: [.json],
    examples: [
      CommandExample("ress checkpoint verify checkpoints/demo", "All of a run."),
      CommandExample("ress checkpoint verify checkpoints/demo/step-00000200 --json", "One, for a program."),
    ])

  package static let checkpointDiff = CommandDescription(
    "checkpoint diff", summary: "compare two checkpoints, number by number",
    discussion: """
      Compares configuration and tensors, moments too. Two checkpoints of one step of one run are equal to the bit, whatever workers wrote
      them. Ends with code 1 where they differ.
      """,
    arguments: [
      ArgumentDescription("A", "A checkpoint's folder, or a run's, whose newest checkpoint is taken."),
      ArgumentDescription("B", "The other one."),
    ],
    options: [.json],
    examples: [
      CommandExample("ress checkpoint diff checkpoints/demo checkpoints/demo-2", "The newest of two runs."),
      CommandExample(
        "ress checkpoint diff checkpoints/a/step-00000100 checkpoints/a/step-00000200", "How far did each tensor move?"),
    ])

  package static let checkpointExport = CommandDescription(
    "checkpoint export", summary: "write a model for other programs",
    discussion: """
      Writes the model's parameters into a safetensors file, by their names in docs/model.md with dots for slashes. Its metadata tells the
      configuration, and two tensors more prove the model: tokens, and the logits that the model gives them. Benchmarks/pytorch/load_safetensors.py
      loads such a file into PyTorch and compares.
      """,
    arguments: [
      ArgumentDescription("CHECKPOINT", "A checkpoint's folder, or a run's folder, whose newest checkpoint is taken.")
    ],
    options: [
      OptionDescription("--out", .text("FILE"), isRequired: true, "The file to write."),
      OptionDescription("--format", .choice(["safetensors"]), standard: "safetensors", "The file's format."),
      OptionDescription("--proof", .whole("N", 0...1_048_576), standard: "256", "Tokens of the proof; 0: no proof."),
      .json,
    ],
    examples: [
      CommandExample("ress checkpoint export checkpoints/demo --out demo.safetensors", "The newest of a run."),
      CommandExample(
        "ress checkpoint export checkpoints/demo/step-00000200 --out demo.safetensors --proof 0", "A certain one, bare."
      ),
    ])

  package static let checkpointImport = CommandDescription(
    "checkpoint import", summary: "take a model from another program",
    discussion: """
      Reads a safetensors file (F32, F64, F16 or BF16) into a checkpoint of step 0, from which `ress train --resume` or `ress submit --resume`
      trains and which can be measured and sampled. Where the file tells no configuration, --config names one. Where it has a proof, the
      model's logits must agree with it to 1e-4 of the largest, or nothing is kept; a copy in F16 or BF16 needs a larger --tolerance. The file
      does not say where the run's folder is written: that is below `checkpoints`, --directory, or the directory of --config.
      """,
    arguments: [ArgumentDescription("FILE", "A safetensors file.")],
    options: [
      OptionDescription("--config", .text("CONFIG"), "A run's configuration, instead of the one that the file tells."),
      OptionDescription("--run", .text("NAME"), "The run's name, instead of the configuration's."),
      OptionDescription(
        "--directory", .text("FOLDER"), standard: "checkpoints, or checkpoint.directory of --config",
        "Where the run's folder is written."),
      OptionDescription(
        "--tolerance", .real("SHARE", 0...1), standard: "0.0001",
        "What logits may differ from the proof's, as a share of the largest."),
      .json,
    ],
    examples: [
      CommandExample("ress checkpoint import demo.safetensors --run demo-2", "What `export` wrote."),
      CommandExample("ress checkpoint import theirs.safetensors --config configs/demo.yaml", "Of another program."),
    ])

  package static let checkpointRepair = CommandDescription(
    "checkpoint repair", summary: "write damaged files of a checkpoint again, from workers' memory",
    discussion: """
      Finds the damaged shards of a checkpoint and asks the coordinator's workers to write them again from the copies of the state that they
      hold (cluster.mirror_every); a file is put in place only if it has the SHA-256 of the manifest. Workers hold the last two copies, so this
      helps while the run goes on near that step. Later, an older checkpoint, resumed, computes it again.
      """,
    arguments: [ArgumentDescription("CHECKPOINT", "A checkpoint's folder.")],
    options: [
      OptionDescription(
        "--coordinator", .text("ADDRESS"), standard: CommandTable.standardAddress, "The coordinator of the run.")
    ],
    examples: [
      CommandExample("ress checkpoint repair checkpoints/demo/step-00000200", "While the run goes on."),
      CommandExample(
        "ress checkpoint repair checkpoints/demo/step-00000200 --coordinator tcp://10.0.0.1:7077",
        "At a coordinator elsewhere."),
    ])
}
