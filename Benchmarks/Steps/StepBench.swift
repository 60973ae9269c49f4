// Measures whole training steps of a shape, and the speed of sgemm for comparison.

import Configuration
import Foundation
import Kernels
import OpenBLAS
import Model
import Training

enum StepBench {
  static func run(_ arguments: BenchArguments) throws {
    let shape = try Shape(
      arguments.text("--shape", "bench-small"), file: arguments.text("--shapes", Shape.standardFile))
    let threads = Int(arguments.number("--threads", 1))
    let peak = SgemmPeak.measure(threads: threads)
    let trainer = try makeTrainer(shape, arguments)
    let seconds = times(
      trainer, warmup: Int(arguments.number("--warmup", 3)), steps: Int(arguments.number("--steps", 5)),
      atLeast: arguments.number("--seconds", 5)
    ).sorted()
    let units = max(1, Int(arguments.number("--units", 1)))
    let tokens = Double(shape.configuration.data.sequenceLength * units)
    let rate = tokens / seconds[seconds.count / 2]
    let flops = shape.gigaflopsPerToken
    print(
      JSONLine([
        ("program", "\"ress\""), ("shape", "\"\(shape.name)\""), ("threads", "\(threads)"),
        ("teams", "\(trainer.held.division.teams.count)"), ("units", "\(units)"),
        ("precision", "\"\(trainer.configuration.model.precision)\""),
        ("products", "\"\(RoundedProducts.implementation)\""),
        ("tokens_per_second", JSONLine.number(rate)), ("steps", "\(seconds.count)"),
        ("step_seconds_best", JSONLine.number(seconds[0])),
        ("step_seconds_median", JSONLine.number(seconds[seconds.count / 2])),
        ("sgemm_gflops", JSONLine.number(peak)), ("gflop_per_token", JSONLine.number(flops)),
        ("share_of_sgemm", JSONLine.number(rate * flops / peak)), ("memory_mib", "\(trainer.byteCount >> 20)"),
        ("kernels", "\"\(Fingerprint.kernelClone)\""), ("openblas_core", "\"\(OpenBLAS.coreName)\""),
      ]).text)
  }

  /// Prints the milliseconds of each part of a step, over ten steps after three of warm-up.
  static func profile(_ arguments: BenchArguments) throws {
    let shape = try Shape(
      arguments.text("--shape", "bench-small"), file: arguments.text("--shapes", Shape.standardFile))
    let threads = Int(arguments.number("--threads", 1))
    let trainer = try makeTrainer(shape, arguments)
    let (warmup, steps) = (3, 10)
    for step in 0..<warmup { _ = try trainer.step(step) }
    let profile = Profile(laneCount: threads, teamCount: trainer.held.division.teams.count)
    trainer.held.division.profile = profile
    for step in warmup..<warmup + steps { _ = try trainer.step(step) }
    let report = ProfileReport(
      profile, worker: shape.name, laneCount: threads, firstStep: warmup + 1, stepCount: steps)
    print(report.text, terminator: "")
  }

  /// Prints one line of losses per step; they are the same on all processors.
  static func losses(_ arguments: BenchArguments) throws {
    let shape = try Shape(arguments.text("--shape", "tiny"), file: arguments.text("--shapes", Shape.standardFile))
    let trainer = try makeTrainer(shape, arguments)
    print("\(Fingerprint.measure()) \(Fingerprint.kernelClone)")
    for step in 0..<Int(arguments.number("--steps", 3)) {
      let result = try trainer.step(step)
      // The bits as well: processors are compared by them.
      let bits = [result.losses.total, result.gradientNorm].map { String($0.bitPattern, radix: 16) }
      print(
        JSONLine.number(result.losses.total), JSONLine.number(result.gradientNorm), bits.joined(separator: " "))
    }
  }

  /// With `--threads`, `--teams` and `--units`, all of them 1 where they are left out; with `--precision fp32` or
  /// `bf16`, and `--products` for the implementation of bf16.
  static func makeTrainer(_ shape: Shape, _ arguments: BenchArguments) throws -> Trainer {
    var shape = shape
    shape.configuration.training.batchSequences = max(1, Int(arguments.number("--units", 1)))
    let name = arguments.text("--precision", "fp32")
    guard let precision = Precision(rawValue: name) else {
      arguments.fail("--precision is fp32 or bf16, not '\(name)'")
    }
    shape.configuration.model.precision = precision
    let products = arguments.text("--products", "fastest")
    let implementation = RoundedProducts.Implementation.allCases.first { "\($0)" == products }
    guard let implementation, RoundedProducts.use(implementation) else {
      arguments.fail("--products \(products): this processor has fastest, exact and perhaps fused or dots")
    }
    return try makeTrainer(
      shape, threads: Int(arguments.number("--threads", 1)), teams: max(1, Int(arguments.number("--teams", 1))))
  }

  static func makeTrainer(_ shape: Shape, threads: Int, teams: Int = 1) throws -> Trainer {
    let configuration = shape.configuration
    return try Trainer(
      alone: configuration, vocabulary: shape.vocabulary,
      source: RandomTokens(length: configuration.data.sequenceLength, vocabulary: shape.vocabulary), threads: threads,
      teams: teams)
  }

  /// Seconds of each step after the warm-up: a given number of steps, or as many as take a given time and at least
  /// five.
  static func times(_ trainer: Trainer, warmup: Int, steps: Int = 5, atLeast limit: Double = 0) -> [Double] {
    var seconds: [Double] = []
    seconds.reserveCapacity(1_000)
    var step = 0
    func once() -> Double {
      let begun = ContinuousClock.now
      do { _ = try trainer.step(step) } catch { fatalError("step \(step): \(error)") }
      step += 1
      let (whole, fraction) = begun.duration(to: .now).components
      return Double(whole) + Double(fraction) * 1e-18
    }
    for _ in 0..<warmup { _ = once() }
    while seconds.count < steps || seconds.reduce(0, +) < limit { seconds.append(once()) }
    return seconds
  }
}

/// The best speed of OpenBLAS's sgemm at a size that suits it, with matrices of its own for each thread.
///
/// Threads that have just begun may share a core for a while, so this takes half a second: with a tenth, two threads
/// were seen to have half of their speed.
enum SgemmPeak {
  static func measure(threads: Int) -> Double {
    let n = 768
    let team = Team(laneCount: threads)
    let (arena, matrices) = Arena.build { arena in
      (0..<threads).map { _ in (arena.matrix(n, n), arena.matrix(n, n), arena.matrix(n, n)) }
    }
    return withExtendedLifetime(arena) {
      for (a, b, _) in matrices {
        Philox(seed: 1, stream: 1).fillNormal(a.pointer, count: a.count, deviation: 1)
        Philox(seed: 1, stream: 2).fillNormal(b.pointer, count: b.count, deviation: 1)
      }
      var best = 0.0
      let deadline = ContinuousClock.now + .milliseconds(500)
      while ContinuousClock.now < deadline {
        let begun = ContinuousClock.now
        team.run(threads) { task, _ in
          let (a, b, c) = matrices[task]
          OpenBLAS.multiplyTransposed(a, b, into: c)
        }
        let (whole, fraction) = begun.duration(to: .now).components
        let seconds = Double(whole) + Double(fraction) * 1e-18
        best = max(best, Double(threads) * 2 * Double(n * n * n) / seconds / 1e9)
      }
      return best
    }
  }
}

/// A line of JSON: fields in order, with values that are encoded already.
struct JSONLine {
  let text: String

  init(_ fields: [(String, String)]) {
    text = "{" + fields.map { "\"\($0.0)\": \($0.1)" }.joined(separator: ", ") + "}"
  }

  static func number(_ value: Double) -> String { String(format: "%.6g", value) }
}
