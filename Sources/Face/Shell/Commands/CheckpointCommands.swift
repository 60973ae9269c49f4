// The descriptions of `ress checkpoint list | show | verify | diff | repair | export | import`.

extension CommandDescription {
  package static let checkpointList = CommandDescription(
    "checkpoint list", summary: "list the checkpoints of runs",
    discussion:
      "Lists complete checkpoints, oldest first, with step, size, loss and time. Incomplete checkpoints are not listed.",
    arguments: [
      ArgumentDescription("FOLDER", .optional, "A run's folder, or the folder of all runs. Default: checkpoints.")
    ],
    options: [.json],
    examples: [
      CommandExample("ress checkpoint list", "All runs below checkpoints/."),
      CommandExample("ress checkpoint list checkpoints/demo", "One run."),
    ])

  package static let checkpointShow = CommandDescription(
    "checkpoint show", summary: "show what a checkpoint contains, and verify it",
    discussion: """
      Checks every file of a checkpoint against its SHA-256, then prints the run, step, loss, files and tensors. Ends with code 1 if anything
      is damaged. Any HDF5 tool can read the tensors too: h5ls -r CHECKPOINT/model.h5.
      """,
    arguments: [
      ArgumentDescription("CHECKPOINT", "A checkpoint's folder, or a run's folder (then its newest checkpoint).")
    ],
    options: [OptionDescription("--tensors", "List every tensor with its shape."), .json],
    examples: [
      CommandExample("ress checkpoint show checkpoints/demo", "The newest checkpoint of a run."),
      CommandExample(
        "ress checkpoint show checkpoints/demo/step-00000200 --tensors", "A specific checkpoint, with all tensors."),
    ])

  package static let checkpointVerify = CommandDescription(
    "checkpoint verify", summary: "check every file and every tensor of checkpoints",
    discussion: """
      Checks every file of each checkpoint against its SHA-256 and every tensor against its CRC-32C, and prints which files and tensors are
      damaged. Ends with code 1 if anything is damaged. Without ress: sha256sum -c SHA256SUMS in the checkpoint's folder.
      """,
    arguments: [
      ArgumentDescription(
        "CHECKPOINT", .oneOrMore, "Folders of checkpoints, or folders of runs (then all their checkpoints).")
    ],
    options: [.json],
    examples: [
      CommandExample("ress checkpoint verify checkpoints/demo", "All checkpoints of a run."),
      CommandExample("ress checkpoint verify checkpoints/demo/step-00000200 --json", "One checkpoint, as JSON."),
    ])

  package static let checkpointDiff = CommandDescription(
    "checkpoint diff", summary: "compare two checkpoints, number by number",
    discussion: """
      Compares the configurations and tensors of two checkpoints, including AdamW's moments. Two checkpoints of the same step of the same run
      are equal to the bit, whatever workers wrote them. Ends with code 1 if they differ.
      """,
    arguments: [
      ArgumentDescription("A", "A checkpoint's folder, or a run's folder (then its newest checkpoint)."),
      ArgumentDescription("B", "The checkpoint to compare with."),
    ],
    options: [.json],
    examples: [
      CommandExample("ress checkpoint diff checkpoints/demo checkpoints/demo-2", "The newest checkpoints of two runs."),
      CommandExample(
        "ress checkpoint diff checkpoints/a/step-00000100 checkpoints/a/step-00000200", "How far did each tensor move?"),
    ])

  package static let checkpointExport = CommandDescription(
    "checkpoint export", summary: "write a model for other programs",
    discussion: """
      Writes the model's parameters into a safetensors file, under their names in docs/model.md with dots for slashes. The metadata contains
      the configuration. Two additional tensors are a proof of the model: sample tokens, and the logits that the model computes for them.
      With --format hf it writes a folder in the layout of Hugging Face's hub: config.json, model.safetensors, and tokenizer.json.
      The package in python/ loads both into PyTorch; `python3 -m ress.verify FILE` compares the logits.
      """,
    arguments: [
      ArgumentDescription("CHECKPOINT", "A checkpoint's folder, or a run's folder (then its newest checkpoint).")
    ],
    options: [
      OptionDescription("--out", .text("FILE"), isRequired: true, "The file to write, or the folder for --format hf."),
      OptionDescription(
        "--format", .choice(["safetensors", "hf"]), standard: "safetensors",
        "One safetensors file, or a folder in the layout of Hugging Face's hub."),
      OptionDescription(
        "--proof", .whole("N", 0...1_048_576), standard: "256", "Number of tokens in the proof; 0: no proof."),
      .json,
    ],
    examples: [
      CommandExample(
        "ress checkpoint export checkpoints/demo --out demo.safetensors", "The newest checkpoint of a run."),
      CommandExample(
        "ress checkpoint export checkpoints/demo/step-00000200 --out demo.safetensors --proof 0",
        "A specific checkpoint, without proof tensors."
      ),
      CommandExample(
        "ress checkpoint export checkpoints/demo --format hf --out demo-hf",
        "A folder with config.json and the tokenizer; in Python: ress.load(\"demo-hf\")."),
    ])

  package static let checkpointImport = CommandDescription(
    "checkpoint import", summary: "make a checkpoint from a safetensors file",
    discussion: """
      Reads a safetensors file (F32, F64, F16 or BF16) into a checkpoint of step 0, which can be evaluated and sampled, and from which
      `ress train --resume` or `ress submit --resume` trains. If the file contains no configuration, --config must name one. If it contains a
      proof, the model's logits must agree with it to 1e-4 of the largest, or nothing is written; a copy in F16 or BF16 needs a larger
      --tolerance. The run's folder is written below `checkpoints`, --directory, or the directory of --config.
      """,
    arguments: [ArgumentDescription("FILE", "A safetensors file.")],
    options: [
      OptionDescription("--config", .text("CONFIG"), "A run's configuration, instead of the one in the file."),
      OptionDescription("--run", .text("NAME"), "The run's name, instead of the one in the configuration."),
      OptionDescription(
        "--directory", .text("FOLDER"), standard: "checkpoints, or checkpoint.directory of --config",
        "The folder in which the run's folder is written."),
      OptionDescription(
        "--tolerance", .real("SHARE", 0...1), standard: "0.0001",
        "Largest accepted difference from the proof's logits, as a share of the largest logit."),
      .json,
    ],
    examples: [
      CommandExample("ress checkpoint import demo.safetensors --run demo-2", "A file that `export` wrote."),
      CommandExample(
        "ress checkpoint import theirs.safetensors --config configs/demo.yaml", "A file of another program."),
    ])

  package static let checkpointRepair = CommandDescription(
    "checkpoint repair", summary: "restore damaged files of a checkpoint from workers' memory",
    discussion: """
      Finds the damaged shards of a checkpoint and asks the coordinator's workers to write them again from their copies of the state
      (cluster.mirror_every). A file is replaced only if the new one has the SHA-256 of the manifest. Workers hold the last two copies, so this
      works only while the run is near that step. Later, resume from an older checkpoint, which computes the same bits again.
      """,
    arguments: [ArgumentDescription("CHECKPOINT", "A checkpoint's folder.")],
    options: [
      OptionDescription(
        "--coordinator", .text("ADDRESS"), standard: CommandTable.standardAddress, "The coordinator of the run.")
    ],
    examples: [
      CommandExample("ress checkpoint repair checkpoints/demo/step-00000200", "While the run is running."),
      CommandExample(
        "ress checkpoint repair checkpoints/demo/step-00000200 --coordinator tcp://10.0.0.1:7077",
        "With a coordinator elsewhere."),
    ])
}
