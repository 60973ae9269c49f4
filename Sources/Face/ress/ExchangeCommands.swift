// `ress checkpoint export` and `ress checkpoint import`.

import Checkpoint
import Configuration
import Shell
import Trained

func checkpointExport(_ arguments: Arguments) throws -> ExitCode {
  guard let path = arguments.text("--out") else { preconditionFailure("the parser asks for --out") }
  let write = arguments.text("--format") == "hf" ? ModelFolder.write : ModelFile.write(_:to:proofTokens:)
  let export = try write(arguments.words[0], path, arguments.whole("--proof") ?? 256)
  for sentence in export.skipped { Terminal.complain(sentence) }
  if arguments.has("--json") {
    Terminal.print(
      JSONText.object([
        ("path", .text(path)), ("checkpoint", .text(export.checkpoint)), ("tensors", .whole(export.tensors)),
        ("parameters", .whole(export.parameters)),
      ]))
  } else {
    Terminal.print(
      "\(path): \(Format.grouped(export.parameters)) parameters in \(export.tensors) tensors, of \(export.checkpoint)")
  }
  return .done
}

func checkpointImport(_ arguments: Arguments) throws -> ExitCode {
  let configuration = try arguments.text("--config").map { try ConfigurationDecoder.decode(file: $0, overrides: []) }
  let result = try ModelFile.read(
    arguments.words[0], configuration: configuration, run: arguments.text("--run"),
    directory: arguments.text("--directory"),
    tolerance: arguments.real("--tolerance") ?? ModelFile.standardTolerance, program: Version.program)
  if arguments.has("--json") {
    Terminal.print(
      JSONText.object([
        ("path", .text(result.path)), ("parameters", .whole(result.parameters)),
        ("proof_distance", .init(result.proofDistance)),
        ("unused", JSONText.list(result.unused)),
      ]))
  } else {
    Terminal.print("\(result.path): \(Format.grouped(result.parameters)) parameters")
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
