// `ress checkpoint verify`, `diff` and `repair`.

import Checkpoint
import Configuration
import Daemon
import Foundation
import Glibc
import RunFolder
import Shell
import Wire

func checkpointVerify(_ options: CheckpointVerifyOptions) throws -> ExitCode {
  let paths = options.checkpoints.flatMap { word -> [String] in
    let steps = CheckpointFolder.steps(word)
    return steps.isEmpty ? [word] : steps.map { CheckpointFolder.finished(word, step: $0) }
  }
  var damaged = 0
  for path in paths {
    let problems = CheckpointCheck.problems(path)
    damaged += problems.isEmpty ? 0 : 1
    if options.json {
      Terminal.print(
        JSON.object([
          ("path", .text(path)), ("whole", .flag(problems.isEmpty)), ("problems", .list(problems)),
        ]).line)
    } else {
      Terminal.print("\(path): " + (problems.isEmpty ? "whole" : "damaged"))
      for problem in problems { Terminal.print("  " + problem) }
    }
  }
  return damaged == 0 ? .done : .failed
}

func checkpointDiff(_ options: CheckpointDiffOptions) throws -> ExitCode {
  let a = try CheckpointReader(options.a), b = try CheckpointReader(options.b)
  let (differences, tensors) = try CheckpointCheck.differences(a, b)
  let keys = ConfigurationEncoder.differences(a.manifest.configuration, b.manifest.configuration)
  let isJSON = options.json
  if !isJSON {
    Terminal.print("A: \(a.path), step \(a.manifest.step)\nB: \(b.path), step \(b.manifest.step)")
    for (key, x, y) in keys { Terminal.print("  \(key): \(x) and \(y)") }
  }
  for difference in differences {
    if isJSON {
      Terminal.print(
        JSON.object([
          ("tensor", .text(difference.tensor)), ("count", .whole(difference.count)),
          ("differing", .init(difference.differing)),
          ("largest", .real(difference.largest)),
          ("place", .whole(difference.place)), ("problem", .init(difference.problem)),
        ]).line)
    } else {
      let what =
        difference.problem
        ?? "\(Format.grouped(difference.differing ?? 0)) of \(Format.count(difference.count, "value")) "
        + "\(SpokenNumbers.noun(difference.differing ?? 0, "differs", "differ")), by up to \(difference.largest) (at index \(difference.place))"
      Terminal.print("  \(difference.tensor): \(what)")
    }
  }
  if !isJSON {
    Terminal.print(
      differences.isEmpty
        ? "all \(tensors) tensors are equal to the bit"
        : "\(differences.count) of \(tensors) tensors \(SpokenNumbers.noun(differences.count, "differs", "differ"))")
  }
  return differences.isEmpty ? .done : .failed
}

func checkpointRepair(_ options: CheckpointRepairOptions) throws -> ExitCode {
  let word = options.checkpoint
  let path = word.hasPrefix("/") ? word : FileManager.default.currentDirectoryPath + "/" + word
  let (manifest, damaged) = try CheckpointCheck.damagedFiles(path)
  guard !damaged.isEmpty else {
    Terminal.print("\(word) is whole; there is nothing to repair")
    return .done
  }
  // The worker that writes the first shard writes `model.h5` too.
  let shards = Set(
    damaged.map { name in
      name.hasPrefix("shard-") ? Int(name.dropFirst("shard-".count).prefix(4)) ?? 0 : 0
    }
  ).sorted()
  let client = try ConnectionSecurity.client(options.coordinator)
  Terminal.print("damaged: " + damaged.joined(separator: ", "))
  Terminal.print(
    try client.change(
      manifest.runIdentifier, .repair(step: manifest.step, generation: manifest.generation, shards: shards)))
  // If a worker could not write a shard, its log contains the reason.
  for _ in 0..<100 {
    usleep(100_000)
    if try CheckpointCheck.damagedFiles(path).1.isEmpty {
      Terminal.print("\(word) is whole again")
      return .done
    }
  }
  let left = try CheckpointCheck.damagedFiles(path).1
  Terminal.complain(
    "\(left.joined(separator: ", ")) could not be written again within 10 s; the workers' logs contain the reason")
  return .failed
}
