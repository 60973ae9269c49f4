// ress-bench: measures the speed of the training step on this machine, with the same `Trainer` that a worker uses.
//
//   ress-bench step --shape bench-small --threads 1 --seconds 5      one JSON line
//   ress-bench step --precision bf16                                 factors of bf16; --products fused or dots choose how
//   ress-bench step --threads 16 --teams 8 --units 8                 threads in teams, which compute units side by side
//   ress-bench profile --shape bench-small --threads 1               time of each part of a step
//   ress-bench losses --shape tiny --steps 3                         the losses of some steps, to compare processors
//   ress-bench context --threads 2                                   time and memory per token as the context grows
//   ress-bench generate --shape bench-small --texts 1,16             tokens a second of texts written at the same time
//   ress-bench bound --shape bench-small --units 8 --threads 8,16    share of waiting on more cores, counted from tasks
//   ress-bench allocations                                           calls of malloc in a steady step
//   ress-bench coordinator --workers 256,1000                        the coordinator's decisions with many workers
//
// Benchmarks/compare.py runs `step` and the PyTorch programs alternately. Times are for people to read; no test
// depends on them.

import Foundation
import Kernels
import OpenBLAS

OpenBLAS.useOneThread()
let arguments = BenchArguments(CommandLine.arguments.dropFirst())
do {
  switch arguments.command {
  case "step": try StepBench.run(arguments)
  case "profile": try StepBench.profile(arguments)
  case "losses": try StepBench.losses(arguments)
  case "context": try ContextBench.run(arguments)
  case "generate": try GenerationBench.run(arguments)
  case "allocations": try AllocationBench.run(arguments)
  case "bound": try BoundBench.run(arguments)
  case "coordinator": try CoordinatorBench.run(arguments)
  default:
    arguments.fail(
      "unknown command '\(arguments.command)'; use step, profile, losses, context, generate, allocations, bound or "
        + "coordinator")
  }
} catch {
  arguments.fail("\(error)")
}

/// `--name value` pairs after a command.
struct BenchArguments {
  let command: String
  private var values: [String: String] = [:]

  init(_ words: some Collection<String>) {
    var words = Array(words)
    command = words.isEmpty ? "" : words.removeFirst()
    while words.count >= 2 {
      values[words[0]] = words[1]
      words.removeFirst(2)
    }
    if let word = words.first { fail("'\(word)' has no value") }
  }

  func text(_ name: String, _ standard: String) -> String { values[name] ?? standard }

  func number(_ name: String, _ standard: Double) -> Double {
    guard let text = values[name] else { return standard }
    guard let value = Double(text), value > 0 else { fail("\(name) must be a number above 0, not '\(text)'") }
    return value
  }

  func fail(_ message: String) -> Never {
    FileHandle.standardError.write(Data("ress-bench: \(message)\n".utf8))
    exit(2)
  }
}
