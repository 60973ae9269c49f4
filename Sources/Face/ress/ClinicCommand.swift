// `ress clinic`: the health of a run's router and attention, from router.jsonl.

import Configuration
import Coordination
import Foundation
import RunFolder
import Shell
import Wire

func clinic(_ options: ClinicOptions) throws -> ExitCode {
  let folder = options.folder
  let path = MetricsFile(routerIn: folder).path
  guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
    throw FolderError.missing(
      path: path,
      hint: CheckpointFolder.hint(forMissing: folder)
        ?? "a run writes it into its folder, checkpoints/RUN, unless training.clinic_every is 0")
  }
  if options.json {
    Terminal.write(text)
    return .done
  }
  let decoder = JSONDecoder()
  // A crash can leave an incomplete line at the end.
  let looks = text.split(separator: "\n").compactMap { try? decoder.decode(RouterRecord.self, from: Data($0.utf8)) }
  guard !looks.isEmpty else {
    throw FolderError.missing(path: "a measurement in \(path)", hint: "the run's first step writes the first one")
  }
  // The value of model.keys, if there is a checkpoint to read it from.
  let keys = CheckpointFolder.steps(folder).last.flatMap {
    try? CheckpointFolder.readManifest(CheckpointFolder.finished(folder, step: $0)).configuration.model.keys
  }
  var doctor = RouterClinic()
  for look in looks { _ = doctor.look(look, keys: keys) }
  Terminal.print(
    ClinicView.text(
      looks, title: "run \((folder as NSString).lastPathComponent)", complaints: doctor.sentences(keys: keys)))
  return .done
}
