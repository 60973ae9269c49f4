// `ress drill`: trains a copy of a user's run under every fault, and compares it with the same copy undisturbed.

import Checkpoint
import Configuration
import Foundation
import Glibc
import RunFolder
import Shell
import Wire

func drill(_ options: DrillOptions) throws -> ExitCode {
  let faults = try DrillFault.chosen(options.faults)
  Interrupt.install()
  var drill = try Drill(options)
  let isJSON = options.json
  func say(_ text: String) { if !isJSON { Terminal.print(text) } }

  say("drill of \(drill.request.configuration.run): \(Format.count(drill.workers, "worker")), in \(drill.folder)")
  let peace = try drill.inPeace(atLeast: options.steps)
  say(
    "undisturbed: \(Format.count(drill.steps, "step")), \(Format.fixed(peace.stepSeconds * Double(drill.steps), 1)) s of them"
      + "; each fault takes about as long, plus the time to recover")
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
  if isPassed && options.folder == nil {
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

  /// Shorter runs end before the fault is injected.
  private static let shortestSeconds = 6.0

  init(_ options: DrillOptions) throws {
    workers = options.workers
    patienceSeconds = options.patienceSeconds
    request =
      RunRequest(
        try ConfigurationDecoder.decode(file: options.configuration, overrides: options.overrides)
      ).anywhere
    threads = options.threads ?? max(1, MachineProbe.cores() / workers)
    let configuration = request.configuration
    folder =
      options.folder.map { $0.hasPrefix("/") ? $0 : FileManager.default.currentDirectoryPath + "/" + $0 }
      ?? "\(configuration.checkpoint.directory)/\(configuration.run)-drill"
    if let names = try? FileManager.default.contentsOfDirectory(atPath: folder), !names.isEmpty {
      throw ProcessError(
        description: "\(folder) contains files of an earlier drill; remove it, or choose another folder with --out")
    }
  }

  /// Trains the undisturbed copy: as many steps as requested, or enough that faults fall into the middle of it.
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
        description: "the undisturbed copy does not finish: \(run.gaveUp ?? run.reason); its logs are in \(place)")
    }
    // The first steps of a process are slower than later ones.
    let seconds = run.stepSeconds.sorted()[run.stepSeconds.count / 2]
    return DrillPeace(
      curve: run.curve, stepSeconds: max(seconds, 1e-4),
      checkpoint: CheckpointFolder.finished(place + "/drill", step: steps))
  }

  func result(of fault: DrillFault, against peace: DrillPeace) throws -> DrillResult {
    if fault == .flippedBit && workers < 3 {
      return DrillResult(
        fault: fault.rawValue, verdict: .skipped("two workers cannot tell which of them is wrong; use --workers 3"))
    }
    let place = folder + "/" + fault.rawValue
    let run = try play(fault, place, stepSeconds: peace.stepSeconds, fileLimit: Self.halfShard(of: peace.checkpoint))
    let problem = try Self.problem(of: run, fault, peace, CheckpointFolder.finished(place + "/drill", step: steps))
    // The files of a passed fault are not needed any more, and a model may be large.
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
    configuration.checkpoint.keepBest = 0
    configuration.training.stopAfter = 0
    configuration.cluster.onEnd = ""
    configuration.cluster.profileSteps = 0
    // A drill cuts connections, and it cannot cut those of MPI.
    configuration.cluster.exchange = .zeromq
    // The workers stand for those of several machines, and their connections are cut.
    configuration.cluster.sameMachine = .messages
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

  /// Why the run did not pass the fault; nil if it did.
  private static func problem(
    of run: DrillRun, _ fault: DrillFault, _ peace: DrillPeace, _ checkpoint: String
  ) throws -> String? {
    if let gaveUp = run.gaveUp { return gaveUp }
    guard run.state == .finished else { return "it ended as \(run.state.rawValue): \(run.reason)" }
    guard run.isStruck else { return "the run ended before the fault was injected; use more --steps" }
    if let problem = firstDifference(run.curve, peace.curve) { return problem }
    let (differences, _) = try CheckpointCheck.differences(
      CheckpointReader(checkpoint), CheckpointReader(peace.checkpoint))
    if let first = differences.first {
      return "its last checkpoint differs in \(Format.count(differences.count, "tensor")), such as \(first.tensor)"
    }
    if let evidence = fault.evidence(victim: run.victim) {
      return run.words.contains { $0.contains(evidence) }
        ? nil : "it did not report '\(evidence)…': the fault did not reach it, or was not noticed"
    }
    // A new generation is no failure, because experts may move.
    let lost = run.words.first { $0.contains("is lost") || $0.contains("did not return") }
    return lost.map { "workers should have kept training: \($0)" }
  }

  private static func firstDifference(_ curve: [RunEvent], _ peace: [RunEvent]) -> String? {
    for (mine, theirs) in zip(curve, peace) where mine != theirs {
      switch (mine, theirs) {
      case (.stepped(let a), .stepped(let b)) where a.step == b.step:
        return "step \(a.step) has loss \(a.loss), but \(b.loss) undisturbed"
      case (.evaluated(let a), .evaluated(let b)):
        return "the evaluation at step \(a.step) gave \(a.loss), but \(b.loss) at step \(b.step) undisturbed"
      default: return "its curve has other records than the undisturbed one: \(mine) and \(theirs)"
      }
    }
    return curve.count == peace.count
      ? nil : "its curve has \(Format.count(curve.count, "record")), but \(peace.count) undisturbed"
  }

  private static func halfShard(of checkpoint: String) -> Int {
    let manifest = try? CheckpointFolder.readManifest(checkpoint)
    return (manifest?.files.filter { $0.name.hasPrefix("shard-") }.map(\.byteCount).min() ?? 0) / 2
  }
}
