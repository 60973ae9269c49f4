// Helpers for tests with real processes: they are started, watched, killed, and never left running.

import Foundation
import Synchronization
import TestSupport

#if canImport(Glibc)
  import Glibc
#endif

/// A running `ress`. Its output goes to files, so that no pipe can fill up.
final class Running {
  let process = Process()
  let outputPath: String
  /// Nil where the process ended at once.
  private var identity: ObservedProcess?

  /// The program is in the folder of the test bundle. With a `host` it runs in that network namespace, preceded by
  /// the launcher's words.
  init(
    _ words: [String], folder: String, environment: [String: String] = [:], host: String? = nil,
    launcher: [String] = []
  ) throws {
    let bundle = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    outputPath = folder + "/output-" + UUID().uuidString
    _ = FileManager.default.createFile(atPath: outputPath, contents: nil)
    let program = URL(filePath: bundle).deletingLastPathComponent().appending(path: "ress")
    let starter = (host.map { ["ip", "netns", "exec", $0] } ?? []) + launcher
    process.executableURL = starter.isEmpty ? program : URL(filePath: "/usr/bin/env")
    process.arguments = (starter.isEmpty ? [] : starter + [program.path]) + words
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.currentDirectoryURL = URL(filePath: folder)
    process.standardInput = FileHandle.nullDevice
    let output = FileHandle(forWritingAtPath: outputPath)!
    process.standardOutput = output
    process.standardError = output
    // A child inherits the blocked signals of the thread that starts it, and pool threads block all; a launcher
    // would not react to any.
    var none = sigset_t(), before = sigset_t()
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    try process.run()
    identity = ObservedProcess(process.processIdentifier)
  }

  deinit { killAll() }

  /// All of its output so far, including errors.
  var output: String { (try? String(contentsOfFile: outputPath, encoding: .utf8)) ?? "" }

  /// Its process and all its descendants; empty where the process has ended.
  var family: [ObservedProcess] { identity?.family ?? [] }

  /// Sends SIGKILL to all of them at once.
  func killAll() {
    for member in family { member.send(SIGKILL) }
  }

  /// Waits for its end. Returns nil after `seconds`, and kills it.
  func exitCode(within seconds: Double) -> Int32? {
    guard waitUntil(seconds, { !process.isRunning }) else {
      killAll()
      return nil
    }
    return process.terminationStatus
  }
}

/// The helpers of `TestSupport`, for all files of this target.
func waitUntil(_ seconds: Double = 30, _ condition: () throws -> Bool) rethrows -> Bool {
  try TestSupport.waitUntil(seconds, condition)
}

/// A folder with a dataset and a configuration for runs that take some seconds.
final class Workplace {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "ress-e2e-" + UUID().uuidString.prefix(8)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    var state: UInt64 = 7
    let words = ["sea", "ship", "wind", "shore", "gull", "tide", "mast", "rope", "light", "storm"]
    let text = (0..<6000).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return words[Int(state >> 40) % words.count]
    }.joined(separator: " ")
    try text.write(toFile: path + "/text.txt", atomically: true, encoding: .utf8)
    try """
    run: first
    data: {path: text.h5, sequence_length: 64}
    model: {width: 32, heads: 2, steps: 2, segment: 32, memory_slots: 4, cache: 16, window: 4, structure_rank: 4,
            graph_degree: 4, keys: 6, recency_taps: 3, experts: 4, active_experts: 2, expert_width: 32}
    training: {seed: 3, steps: 40, batch_sequences: 6, evaluate_every: 20, evaluate_sequences: 4}
    optimizer: {learning_rate: 0.01, warmup_steps: 5}
    checkpoint: {every: 10}
    cluster: {patience_seconds: 3}

    """.write(toFile: path + "/run.yaml", atomically: true, encoding: .utf8)
    let prepared = try ress(["data", "prepare", "text.txt", "--out", "text.h5"], folder: URL(filePath: path))
    guard prepared.code == 0 else { throw Unprepared(errors: prepared.errors) }
  }

  struct Unprepared: Error { var errors: String }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func start(
    _ words: [String], environment: [String: String] = [:], host: String? = nil, launcher: [String] = []
  ) throws -> Running {
    try Running(
      words, folder: path, environment: environment.merging(["RESS_HOLD": holdFile]) { given, _ in given }, host: host,
      launcher: launcher)
  }

  private var holdFile: String { path + "/hold" }

  /// From now on no run goes beyond `step` steps until `release`, or until it is held at a later step. So a test can
  /// act in the middle of a run, however fast the machine is. It concerns all workers that `start` has started.
  func hold(at step: Int) throws { try "\(step)".write(toFile: holdFile, atomically: true, encoding: .utf8) }
  func release() throws { try FileManager.default.removeItem(atPath: holdFile) }

  func run(_ words: [String]) throws -> Finished { try ress(words, folder: URL(filePath: path)) }

  /// A run's `metrics.jsonl` without durations and times, which differ between equal runs.
  func curve(_ run: String) -> [String] {
    let text = (try? String(contentsOfFile: "\(path)/checkpoints/\(run)/metrics.jsonl", encoding: .utf8)) ?? ""
    return text.split(separator: "\n").map { String($0).replacing(/,"(?:seconds|time)":[^,}]*/, with: "") }
  }

  /// Number of steps that a run has recorded.
  func steps(_ run: String) -> Int { curve(run).count { !$0.contains("validation") } }

  func reaches(_ run: String, _ step: Int, within seconds: Double = 60) -> Bool {
    waitUntil(seconds) { steps(run) >= step }
  }

  /// The bytes of every file below a folder, to check that nothing was changed.
  func contents(_ folder: String) -> [String: Data] {
    var contents: [String: Data] = [:]
    for case let name as String in FileManager.default.enumerator(atPath: path + "/" + folder) ?? .init() {
      contents[name] = FileManager.default.contents(atPath: "\(path)/\(folder)/\(name)")
    }
    return contents
  }

  /// The tensors of a run's checkpoint, read by ress: weights and moments, as bits.
  func files(_ run: String, step: Int) -> String { "\(path)/checkpoints/\(run)/step-" + String(format: "%08d", step) }
}
