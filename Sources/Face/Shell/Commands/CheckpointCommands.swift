// `ress checkpoint list | show | verify | diff | repair | export | import`.

extension OptionReader {
  fileprivate mutating func checkpoint(_ name: String = "CHECKPOINT") -> String {
    argument(name, "A checkpoint's folder, or a run's folder (then its newest checkpoint).")
  }
}

package struct CheckpointListOptions: CommandOptions {
  package let folder: String
  package let json: Bool

  package init(_ line: inout OptionReader) {
    folder =
      line.optionalArgument("FOLDER", "A run's folder, or the folder of all runs. Default: checkpoints.")
      ?? "checkpoints"
    json = line.json()
  }
}

extension CommandDescription {
  package static let checkpointList = CommandDescription(
    "checkpoint list", Command.checkpointList, summary: "list the checkpoints of runs",
    discussion:
      "Lists complete checkpoints, oldest first, with step, size, loss and time. Incomplete checkpoints are not listed.",
    examples: [
      CommandExample("ress checkpoint list", "All runs below checkpoints/."),
      CommandExample("ress checkpoint list checkpoints/demo", "One run."),
    ])
}

package struct CheckpointShowOptions: CommandOptions {
  package let checkpoint: String
  package let tensors, json: Bool

  package init(_ line: inout OptionReader) {
    checkpoint = line.checkpoint()
    tensors = line.flag("--tensors", "List every tensor with its shape.")
    json = line.json()
  }
}

extension CommandDescription {
  package static let checkpointShow = CommandDescription(
    "checkpoint show", Command.checkpointShow, summary: "show what a checkpoint contains, and verify it",
    discussion: """
      Checks every file of a checkpoint against its SHA-256, then prints the run, step, loss, files and tensors. Ends with code 1 if anything
      is damaged. Any HDF5 tool can read the tensors too: h5ls -r CHECKPOINT/model.h5.
      """,
    examples: [
      CommandExample("ress checkpoint show checkpoints/demo", "The newest checkpoint of a run."),
      CommandExample(
        "ress checkpoint show checkpoints/demo/step-00000200 --tensors", "A specific checkpoint, with all tensors."),
    ])
}

package struct CheckpointVerifyOptions: CommandOptions {
  package let checkpoints: [String]
  package let json: Bool

  package init(_ line: inout OptionReader) {
    checkpoints = line.argumentList(
      "CHECKPOINT", "Folders of checkpoints, or folders of runs (then all their checkpoints).")
    json = line.json()
  }
}

extension CommandDescription {
  package static let checkpointVerify = CommandDescription(
    "checkpoint verify", Command.checkpointVerify, summary: "check every file and every tensor of checkpoints",
    discussion: """
      Checks every file of each checkpoint against its SHA-256 and every tensor against its CRC-32C, and prints which files and tensors are
      damaged. Ends with code 1 if anything is damaged. Without ress: sha256sum -c SHA256SUMS in the checkpoint's folder.
      """,
    examples: [
      CommandExample("ress checkpoint verify checkpoints/demo", "All checkpoints of a run."),
      CommandExample("ress checkpoint verify checkpoints/demo/step-00000200 --json", "One checkpoint, as JSON."),
    ])
}

package struct CheckpointDiffOptions: CommandOptions {
  package let a, b: String
  package let json: Bool

  package init(_ line: inout OptionReader) {
    a = line.checkpoint("A")
    b = line.argument("B", "The checkpoint to compare with.")
    json = line.json()
  }
}

extension CommandDescription {
  package static let checkpointDiff = CommandDescription(
    "checkpoint diff", Command.checkpointDiff, summary: "compare two checkpoints, number by number",
    discussion: """
      Compares the configurations and tensors of two checkpoints, including AdamW's moments. Two checkpoints of the same step of the same run
      are equal to the bit, whatever workers wrote them. Ends with code 1 if they differ.
      """,
    examples: [
      CommandExample("ress checkpoint diff checkpoints/demo checkpoints/demo-2", "The newest checkpoints of two runs."),
      CommandExample(
        "ress checkpoint diff checkpoints/a/step-00000100 checkpoints/a/step-00000200", "How far did each tensor move?"),
    ])
}

package struct CheckpointExportOptions: CommandOptions {
  package enum Format: String, CaseIterable, Sendable { case safetensors, hf }

  package let checkpoint, output: String
  package let format: Format
  package let proofTokens: Int
  package let json: Bool

  package init(_ line: inout OptionReader) {
    checkpoint = line.checkpoint()
    output = line.required("--out", "FILE", "The file to write, or the folder for --format hf.")
    format = line.choice(
      "--format", default: .safetensors, "One safetensors file, or a folder in the layout of Hugging Face's hub.")
    proofTokens = line.whole("--proof", "N", 0...1_048_576, default: 256, "Number of tokens in the proof; 0: no proof.")
    json = line.json()
  }
}

extension CommandDescription {
  package static let checkpointExport = CommandDescription(
    "checkpoint export", Command.checkpointExport, summary: "write a model for other programs",
    discussion: """
      Writes the model's parameters into a safetensors file, under their names in docs/model.md with dots for slashes. The metadata contains
      the configuration. Two additional tensors are a proof of the model: sample tokens, and the logits that the model computes for them.
      With --format hf it writes a folder in the layout of Hugging Face's hub: config.json, model.safetensors, and tokenizer.json.
      The package in python/ loads both into PyTorch; `python3 -m ress.verify FILE` compares the logits.
      """,
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
}

package struct CheckpointImportOptions: CommandOptions {
  package let file: String
  package let configuration, run, directory: String?
  package let tolerance: Double
  package let json: Bool

  package init(_ line: inout OptionReader) {
    file = line.argument("FILE", "A safetensors file.")
    configuration = line.text("--config", "CONFIG", "A run's configuration, instead of the one in the file.")
    run = line.text("--run", "NAME", "The run's name, instead of the one in the configuration.")
    directory = line.text(
      "--directory", "FOLDER", defaultText: "checkpoints, or checkpoint.directory of --config",
      "The folder in which the run's folder is written.")
    tolerance = line.real(
      "--tolerance", "SHARE", 0...1, default: 0.0001,
      "Largest accepted difference from the proof's logits, as a share of the largest logit.")
    json = line.json()
  }
}

extension CommandDescription {
  package static let checkpointImport = CommandDescription(
    "checkpoint import", Command.checkpointImport, summary: "make a checkpoint from a safetensors file",
    discussion: """
      Reads a safetensors file (F32, F64, F16 or BF16) into a checkpoint of step 0, which can be evaluated and sampled, and from which
      `ress train --resume` or `ress submit --resume` trains. If the file contains no configuration, --config must name one. If it contains a
      proof, the model's logits must agree with it to 1e-4 of the largest, or nothing is written; a copy in F16 or BF16 needs a larger
      --tolerance. The run's folder is written below `checkpoints`, --directory, or the directory of --config.
      """,
    examples: [
      CommandExample("ress checkpoint import demo.safetensors --run demo-2", "A file that `export` wrote."),
      CommandExample(
        "ress checkpoint import theirs.safetensors --config configs/demo.yaml", "A file of another program."),
    ])
}

package struct CheckpointRepairOptions: CommandOptions {
  package let checkpoint, coordinator: String

  package init(_ line: inout OptionReader) {
    checkpoint = line.argument("CHECKPOINT", "A checkpoint's folder.")
    coordinator = line.coordinator("The coordinator of the run.")
  }
}

extension CommandDescription {
  package static let checkpointRepair = CommandDescription(
    "checkpoint repair", Command.checkpointRepair,
    summary: "restore damaged files of a checkpoint from workers' memory",
    discussion: """
      Finds the damaged shards of a checkpoint and asks the coordinator's workers to write them again from their copies of the state
      (cluster.mirror_every). A file is replaced only if the new one has the SHA-256 of the manifest. Workers hold the newest copy, so this
      works only while the run is near that step. Later, resume from an older checkpoint, which computes the same bits again.
      """,
    examples: [
      CommandExample("ress checkpoint repair checkpoints/demo/step-00000200", "While the run is running."),
      CommandExample(
        "ress checkpoint repair checkpoints/demo/step-00000200 --coordinator tcp://10.0.0.1:7077",
        "With a coordinator elsewhere."),
    ])
}
