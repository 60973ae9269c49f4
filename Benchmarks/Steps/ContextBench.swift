// Time and memory per token as the context grows. Both should be constant, because a segment costs the same at any
// position.

import Configuration
import Foundation
import Kernels
import Model
import Training

enum ContextBench {
  static let contexts = [2_048, 16_384, 65_536, 262_144]

  /// Measures each context in a process of its own, because the peak memory of a process never decreases.
  static func run(_ arguments: BenchArguments) throws {
    if arguments.text("--context", "") != "" { return try measure(arguments) }
    let threads = arguments.text("--threads", "2")
    print("context    tokens/s   µs a token          MiB of anonymous memory")
    var first: (time: Double, memory: Double)?
    for context in contexts {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
      process.arguments = [
        "context", "--context", String(context), "--threads", threads, "--shape",
        arguments.text("--shape", "bench-small"),
        "--shapes", arguments.text("--shapes", Shape.standardFile),
      ]
      let pipe = Pipe()
      process.standardOutput = pipe
      try process.run()
      let output = pipe.fileHandleForReading.readDataToEndOfFile()
      process.waitUntilExit()
      let numbers = String(decoding: output, as: UTF8.self).split(whereSeparator: \.isWhitespace).compactMap {
        Double($0)
      }
      guard process.terminationStatus == 0, numbers.count == 2 else {
        arguments.fail("context \(context) ended with \(process.terminationStatus)")
      }
      let (time, memory) = (numbers[0], numbers[1])
      let base = first ?? (time, memory)
      first = base
      print(
        String(
          format: "%7d %11.0f %8.1f (%+5.1f %%) %8.1f MiB (%+5.1f %%)", context, 1e6 / time, time,
          100 * (time / base.time - 1), memory, 100 * (memory / base.memory - 1)))
    }
  }

  /// Prints microseconds per token, and the largest anonymous memory in MiB. That is the memory which a machine
  /// must have. It does not include the file that stores a recomputed sequence's keys and values, whose pages the
  /// kernel may write back and drop.
  private static func measure(_ arguments: BenchArguments) throws {
    var shape = try Shape(
      arguments.text("--shape", "bench-small"), file: arguments.text("--shapes", Shape.standardFile))
    let context = Int(arguments.number("--context", 2_048))
    shape.configuration.data.sequenceLength = context
    shape.configuration.training.recompute = .always
    let trainer = try StepBench.makeTrainer(shape, threads: Int(arguments.number("--threads", 2)))
    // About 30,000 tokens of warm-up and 60,000 that are measured, or a single step where the context is longer.
    var best = Double.infinity
    for seconds in StepBench.times(trainer, warmup: min(4, 32_768 / context), steps: max(1, min(8, 65_536 / context))) {
      best = min(best, seconds)
    }
    print("\(best / Double(context) * 1e6) \(anonymousMebibytes())")
  }

  /// RssAnon of /proc/self/status.
  private static func anonymousMebibytes() -> Double {
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    for line in status.split(separator: "\n") where line.hasPrefix("RssAnon:") {
      return (line.split(whereSeparator: { $0 == " " || $0 == "\t" }).compactMap { Double($0) }.first ?? 0) / 1024
    }
    return 0
  }
}
