// `ress checkpoint export` and `ress checkpoint import`.

import Checkpoint
import Configuration
import Shell
import Trained

func checkpointExport(_ options: CheckpointExportOptions) throws -> ExitCode {
  let path = options.output
  let export =
    switch options.format {
    case .safetensors: try ModelFile.write(options.checkpoint, to: path, proofTokens: options.proofTokens)
    case .hf: try ModelFolder.write(options.checkpoint, to: path, proofTokens: options.proofTokens)
    }
  for sentence in export.skipped { Terminal.complain(sentence) }
  if options.json {
    Terminal.print(
      JSON.object([
        ("path", .text(path)), ("checkpoint", .text(export.checkpoint)), ("tensors", .whole(export.tensors)),
        ("parameters", .whole(export.parameters)),
      ]).line)
  } else {
    Terminal.print(
      "\(path): \(Format.count(export.parameters, "parameter")) in \(Format.count(export.tensors, "tensor")), of \(export.checkpoint)"
    )
  }
  return .done
}

func checkpointImport(_ options: CheckpointImportOptions) throws -> ExitCode {
  let configuration = try options.configuration.map { try ConfigurationDecoder.decode(file: $0, overrides: []) }
  let result = try ModelFile.read(
    options.file, configuration: configuration, run: options.run, directory: options.directory,
    tolerance: options.tolerance, program: Version.program)
  if options.json {
    Terminal.print(
      JSON.object([
        ("path", .text(result.path)), ("parameters", .whole(result.parameters)),
        ("proof_distance", .init(result.proofDistance)),
        ("unused", .list(result.unused)),
      ]).line)
  } else {
    Terminal.print("\(result.path): \(Format.count(result.parameters, "parameter"))")
    if !result.unused.isEmpty {
      Terminal.complain("tensors that this model does not have were left out: \(result.unused.joined(separator: ", "))")
    }
    switch result.proofDistance {
    case nil: Terminal.print("the file has no proof, so nothing was compared")
    case let distance?:
      Terminal.print("its logits agree with the file's proof: largest difference \(distance) of the largest logit")
    }
  }
  return .done
}
