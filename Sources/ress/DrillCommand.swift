// `ress drill`: a copy of a user's run under every fault, held against the same copy in peace.

import Checkpoint
import Configuration
import Foundation
import Glibc
import RunFolder
import Shell
import Wire

func drill(_ arguments: Arguments) throws -> ExitCode {
  let faults = try DrillFault.chosen(arguments.text("--faults"))
  Interrupt.install()
  var drill = try Drill(arguments)
  let isJSON = arguments.has("--json")
  func say(_ text: String) { if !isJSON { Terminal.print(text) } }

  say("drill of \(drill.request.configuration.run): \(drill.workers) workers, in \(drill.folder)")
  let peace = try drill.inPeace(atLeast: arguments.whole("--steps"))
  say(
    "in peace: \(drill.steps) steps, \(Format.fixed(peace.stepSeconds * Double(drill.steps), 1)) s of them"
      + "; each fault takes about as long, and a checkpoint's way back")
  var results: [DrillResult] = []
  for fault in faults where !Interrupt.isRequested {
    let result = try drill.result(of: fault, against: peace)
    results.append(result)
    if isJSON { Terminal.print(result.json) }
    say("\n\(fault.rawValue)\n\(result.details)")
  }
  let sheet = DrillSheet(results)
  say("\n" + sheet.text)
  let isPassed = sheet.isPassed && !Interrupt.isRequested
  if isPassed && arguments.text("--out") == nil {
    try Durable.removeFolder(drill.folder)
  } else {
    say("logs, stores and checkpoints: \(drill.folder)")
  }
  return isPassed ? .done : .failed
}

/// The undisturbed copy.
struct DrillPeace {
  var curve: [RunEvent]
  var stepSeconds: Double
  /// Its last checkpoint.
  var checkpoint: String
}

struct Drill {
  let request: RunRequest
  let workers: Int
  let folder: String
  private(set) var steps = 40
  private let threads: Int
  private let patienceSeconds: Double

  /// Shorter runs are over before a fault has come to them.
  private static let shortestSeconds = 6.0

  init(_ arguments: Arguments) throws {
    workers = arguments.whole("--workers") ?? 3
    patienceSeconds = arguments.real("--patience") ?? 3
    // The rules between keys hold for the copy, so they are checked with its numbers.
    let overrides =
      arguments.texts("--set").map(ConfigurationOverride.init(set:)) + [
        ConfigurationOverride(option: "--workers", path: "cluster.workers", value: String(workers)),
        ConfigurationOverride(option: "--workers", path: "cluster.minimum_workers", value: "1"),
        ConfigurationOverride(option: "--patience", path: "cluster.patience_seconds", value: String(patienceSeconds)),
      ]
    request = RunRequest(try ConfigurationDecoder.decode(file: arguments.words[0], overrides: overrides)).anywhere
    threads = arguments.whole("--threads") ?? max(1, MachineProbe.cores() / workers)
    let configuration = request.configuration
    folder =
      arguments.text("--out").map { $0.hasPrefix("/") ? $0 : FileManager.default.currentDirectoryPath + "/" + $0 }
      ?? "\(configuration.checkpoint.directory)/\(configuration.run)-drill"
    if let names = try? FileManager.default.contentsOfDirectory(atPath: folder), !names.isEmpty {
      throw ProcessError(
        description: "\(folder) has files of an earlier drill; remove it, or name another folder with --out")
    }
  }

  /// Runs the copy in peace: as many steps as were asked for, or enough that faults fall into the middle of it.
  mutating func inPeace(atLeast asked: Int?) throws -> DrillPeace {
    steps = asked ?? steps
    let first = try playInPeace()
    let shortest = Int(Self.shortestSeconds / first.stepSeconds)
    guard asked == nil, steps < shortest else { return first }
    steps = shortest
    try Durable.removeFolder(folder + "/peace")
    return try playInPeace()
  }

  private func playInPeace() throws -> DrillPeace {
    let place = folder + "/peace"
    let run = try play(nil, place, stepSeconds: 1, fileLimit: 0)
    guard run.state == .finished else {
      throw ProcessError(
        description: "the copy does not even run in peace: \(run.gaveUp ?? run.reason); its logs are in \(place)")
    }
    // The first steps of a process are slower.
    let seconds = run.stepSeconds.sorted()[run.stepSeconds.count / 2]
    return DrillPeace(
      curve: run.curve, stepSeconds: max(seconds, 1e-4),
      checkpoint: CheckpointFolder.finished(place + "/drill", step: steps))
  }

  func result(of fault: DrillFault, against peace: DrillPeace) throws -> DrillResult {
    if fault == .flippedBit && workers < 3 {
      return DrillResult(
        fault: fault.rawValue, verdict: .skipped("two workers cannot tell which of them is wrong; take --workers 3"))
    }
    let place = folder + "/" + fault.rawValue
    let run = try play(fault, place, stepSeconds: peace.stepSeconds, fileLimit: Self.halfShard(of: peace.checkpoint))
    let problem = try Self.problem(of: run, fault, peace, CheckpointFolder.finished(place + "/drill", step: steps))
    // What passed is not looked at again, and a model may be large.
    if problem == nil { try Durable.removeFolder(place + "/drill") }
    return DrillResult(
      fault: fault.rawValue, verdict: problem.map { .failed($0) } ?? .passed, noticedSeconds: run.noticedSeconds,
      againSeconds: run.againSeconds, story: run.story)
  }

  private func play(
    _ fault: DrillFault?, _ place: String, stepSeconds: Double, fileLimit: Int
  ) throws -> DrillRun {
    var configuration = request.configuration
    configuration.run = "drill"
    configuration.training.steps = steps
    configuration.training.evaluateEvery = steps / 2
    configuration.training.evaluateSequences = min(4, configuration.training.evaluateSequences)
    configuration.optimizer.warmupSteps = min(configuration.optimizer.warmupSteps, steps / 2)
    configuration.checkpoint.directory = place
    configuration.checkpoint.every = steps / 5
    configuration.checkpoint.keep = 0
    configuration.cluster.profileSteps = 0
    // A drill pulls cables, and MPI has none that it could reach.
    configuration.cluster.exchange = .zeromq
    if fault == .flippedBit { configuration.cluster.audit = 1 }

    let cluster = try DrillCluster(
      folder: place, workers: workers - 1, threads: threads, patienceSeconds: patienceSeconds)
    defer { cluster.end() }
    let victim = cluster.nextName
    try cluster.startWorker(
      environment: fault == .flippedBit ? ["RESS_FLIP_BIT": "\(victim)@\(steps / 3)"] : [:])
    let run = DrillRun(
      fault, configuration, cluster, victim: victim, stepSeconds: stepSeconds, fileLimit: fileLimit)
    try run.play()
    return run
  }

  /// Why the fault is not survived; nil where it is.
  private static func problem(
    of run: DrillRun, _ fault: DrillFault, _ peace: DrillPeace, _ checkpoint: String
  ) throws -> String? {
    if let gaveUp = run.gaveUp { return gaveUp }
    guard run.state == .finished else { return "it ended as \(run.state.rawValue): \(run.reason)" }
    guard run.isStruck else { return "the run was over before the fault came; take more --steps" }
    if let problem = firstDifference(run.curve, peace.curve) { return problem }
    let (differences, _) = try CheckpointCheck.differences(
      CheckpointReader(checkpoint), CheckpointReader(peace.checkpoint))
    if let first = differences.first {
      return "\(differences.count) tensors of its last checkpoint differ, \(first.tensor) is one"
    }
    if let evidence = fault.evidence(victim: run.victim) {
      return run.words.contains { $0.contains(evidence) }
        ? nil : "it never said '\(evidence)…': the fault did not reach it, or was not noticed"
    }
    // A generation may begin all the same, because experts move.
    let lost = run.words.first { $0.contains("is lost") || $0.contains("did not come back") }
    return lost.map { "workers should have trained on: \($0)" }
  }

  private static func firstDifference(_ curve: [RunEvent], _ peace: [RunEvent]) -> String? {
    for (mine, theirs) in zip(curve, peace) where mine != theirs {
      switch (mine, theirs) {
      case (.stepped(let a), .stepped(let b)) where a.step == b.step:
        return "step \(a.step) has loss \(a.loss), and \(b.loss) in peace"
      case (.evaluated(let a), .evaluated(let b)):
        return "the evaluation at step \(a.step) gave \(a.loss), and \(b.loss) at step \(b.step) in peace"
      default: return "its curve has other records than in peace: \(mine) and \(theirs)"
      }
    }
    return curve.count == peace.count
      ? nil : "its curve has \(curve.count) records, and \(peace.count) in peace"
  }

  private static func halfShard(of checkpoint: String) -> Int {
    let manifest = try? CheckpointFolder.readManifest(checkpoint)
    return (manifest?.files.filter { $0.name.hasPrefix("shard-") }.map(\.byteCount).min() ?? 0) / 2
  }
}
