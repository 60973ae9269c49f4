// `ress plan`: what a run needs of each worker, how long a step takes, and whether the run can be placed on a
// coordinator's workers.

import Configuration
import Daemon
import Data
import Foundation
import Model
import Shell
import Trained
import Wire

func plan(_ options: PlanOptions) throws -> ExitCode {
  let configuration = try ConfigurationDecoder.decode(file: options.configuration, overrides: options.overrides)
  let vocabulary =
    try options.vocabulary ?? Corpus.vocabulary(of: configuration)
  let hosts = options.hosts ?? PlanHosts.count(configuration)
  guard hosts <= configuration.cluster.workers else {
    throw UsageError(
      "--hosts \(hosts): \(configuration.cluster.workers) workers cannot be spread over that many machines",
      command: "plan")
  }
  let needs = RunNeeds(onMachinesLikeThis: configuration, vocabulary: vocabulary, hosts: hosts)
  var view = try rehearse(needs, options, hosts: hosts)
  if !options.countsOnly { view.bf16 = ProductSpeed.measure() }
  try? ForecastFile(configuration, vocabulary: vocabulary).write(
    needs.forecast(stepSeconds: view.step?.stepSeconds, waitSeconds: needs.workers > 1 ? view.step?.waitSeconds : nil))
  let placement = try options.coordinator.map {
    try RunPlacement(configuration, ConnectionSecurity.client($0).status())
  }
  if options.json {
    Terminal.print(JSON.object(view.json + (placement?.json ?? [])).line)
  } else {
    Terminal.print(view.text)
    if let placement { Terminal.print("\n" + placement.sentence) }
  }
  return placement?.isPossible == false ? .cannotBePlaced : .done
}

private func rehearse(_ needs: RunNeeds, _ options: PlanOptions, hosts: Int) throws -> PlanView {
  if options.countsOnly { return PlanView(needs: needs, step: nil, untried: "--count-only") }
  var line = StepRehearsal.Line.local
  if hosts > 1 {
    line = StepRehearsal.Line(
      hopSeconds: line.hopSeconds + options.latencyMicroseconds * 1e-6,
      bytesPerSecond: min(line.bytesPerSecond, options.gigabits * 1e9 / 8))
  }
  let rehearsal = StepRehearsal(needs, line: line)
  if rehearsal.memoryBytes > MachineProbe.memory().available / 2 {
    return PlanView(
      needs: needs, step: nil, untried: "that takes \(Format.bytes(rehearsal.memoryBytes)) of this machine's memory")
  }
  guard rehearsal.expectedSeconds < PlanHosts.patienceSeconds else {
    return PlanView(
      needs: needs, step: nil,
      untried:
        "that takes some \(Format.duration(seconds: rehearsal.expectedSeconds)); ress train --set training.steps=5 measures it"
    )
  }
  return PlanView(needs: needs, step: try rehearsal.run(), untried: "")
}

enum PlanHosts {
  /// The longest time for a plan.
  static let patienceSeconds = 120.0

  /// This machine for all workers, if it has a core for each of their threads; otherwise one machine for each.
  static func count(_ configuration: RunConfiguration) -> Int {
    let cluster = configuration.cluster
    return cluster.workers * max(1, cluster.threads) <= MachineProbe.cores() ? 1 : cluster.workers
  }
}

extension RunNeeds {
  /// - Parameter hosts: nil: as many as `PlanHosts` counts.
  init(onMachinesLikeThis configuration: RunConfiguration, vocabulary: Int, hosts: Int? = nil) {
    self.init(
      configuration, vocabulary: vocabulary, cores: MachineProbe.cores(),
      memoryBytes: Int(ProcessInfo.processInfo.physicalMemory), hosts: hosts ?? PlanHosts.count(configuration))
  }
}

/// The output of `ress plan`.
struct PlanView {
  let needs: RunNeeds
  /// Nil where nothing was measured.
  var bf16: BF16Speed?
  /// Nil if no steps were run; `untried` is the reason.
  let step: StepRehearsal.Result?
  let untried: String

  private var configuration: RunConfiguration { needs.configuration }

  var text: String {
    let training = configuration.training
    let operations = needs.operationsPerToken
    let spread =
      Format.count(needs.workers, "worker")
      + (needs.workers == 1
        ? "" : needs.workersAHost == needs.workers ? " on one machine" : ", \(needs.workersAHost) a machine")
    let threads =
      Format.count(needs.threads, "thread") + (needs.teams == 1 ? "" : " in \(needs.teams) teams")
      + (needs.workers == 1 ? "" : " each")
    return """
      run \(configuration.run), on \(spread), \(threads):
        parameters       \(Format.grouped(needs.layout.totalCount)), \(Format.count(needs.layout.experts.count, "expert")), vocabulary \(needs.vocabulary)
        units a step     \(training.unitCount) of \(Format.count(training.unitSequences, "sequence"))\(experts)
        work             \(Format.fixed(operations / 1e6, 3)) MFLOP a token, forward and backward; \(Format.fixed(operations * Double(needs.stepTokens) / 1e9, 1)) GFLOP a step
        precision        \(precision)
        memory a worker  \(Format.bytes(needs.memoryBytes)): \(Format.bytes(needs.modelBytes)) for parameters, moments and gradients, \(Format.bytes(needs.activationBytes)) for activations\(needs.recomputes ? " (computed again segment by segment)" : ""),
                         \(copies), \(Format.bytes(needs.clusterBytes)) for messages and changes of generation, the rest for the program\(afterLoss)
        sent a step      \(Format.bytes(needs.sentBytes)) by each worker\(way), and \(Format.bytes(needs.mirrorBytesAStep)) of copies
        a checkpoint     \(Format.bytes(needs.checkpointBytes)) in \(Format.count(needs.workers, "shard"))
        time             \(time)
      """
  }

  private var copies: String {
    needs.copyDiskBytes > 0
      ? "none for copies of the state, which take \(Format.bytes(needs.copyDiskBytes)) of its disk"
      : "\(Format.bytes(needs.copyBytes)) for copies of the state"
  }

  /// What bf16 costs or gains on this processor, whether the run uses it or not.
  private var precision: String {
    let speed = bf16.map { "the large products run at \($0.text)" }
    return switch configuration.model.precision {
    case .fp32: "fp32" + (speed.map { "; with model.precision: bf16 \($0)" } ?? "")
    case .bf16: "bf16" + (speed.map { ": \($0)" } ?? "")
    }
  }

  /// A memory limit at the need of a worker while all workers are present would make the first loss cause the next one.
  private var afterLoss: String {
    guard needs.workers > 1 else { return "" }
    let bytes = Format.bytes(max(needs.memoryAfterLossBytes, needs.memoryBytes))
    let left = needs.afterLoss.map { Format.count($0.workers, "worker") + " left" }
    return "\n  after a loss     \(bytes), \(left ?? "another worker in its place"): set no memory limit below this"
  }

  /// Where the experts compute in the first generation; with `auto`, the workers measure their connections later.
  private var experts: String {
    guard needs.workers > 1, configuration.model.routedExperts > 0 else { return "" }
    let text =
      configuration.cluster.experts == .auto
      ? needs.copies.forecast(needs.copiedExperts, isMeasured: false) : needs.copies.spoken(needs.copiedExperts)
    return "\n  experts          \(text)"
  }

  private var way: String {
    if needs.sharesMemory { return " in shared memory" }
    return needs.workers > 2 ? ", \(Format.bytes(needs.sentBytes / (needs.workers - 1))) a link" : ""
  }

  private var time: String {
    guard let step else { return "not measured: \(untried)" }
    let steps = configuration.training.steps
    let exchange =
      needs.workers > 1
      ? ", \(Format.fixed(100 * step.exchangeSeconds / step.stepSeconds, 0)) % of it for messages, \(Format.fixed(100 * step.waitSeconds / step.stepSeconds, 0)) % waiting for others"
      : ""
    return "\(Format.seconds(step.stepSeconds)) a step\(exchange); "
      + "\(Format.compact(Double(needs.stepTokens) / step.stepSeconds)) tokens/s; "
      + "\(Format.duration(seconds: step.stepSeconds * Double(steps))) for \(Format.count(steps, "step"))"
  }

  var json: [(String, JSON)] {
    [
      ("run", .text(configuration.run)), ("workers", .whole(needs.workers)), ("threads", .whole(needs.threads)),
      ("teams", .whole(needs.teams)),
      ("workers_a_host", .whole(needs.workersAHost)), ("parameters", .whole(needs.layout.totalCount)),
      ("experts", .whole(needs.layout.experts.count)), ("operations_a_token", .real(needs.operationsPerToken)),
      ("units", .whole(configuration.training.unitCount)),
      ("precision", .text(configuration.model.precision.rawValue)), ("bf16_speed", .init(bf16?.ratio)),
      ("memory_bytes", .whole(needs.memoryBytes)),
      ("memory_after_loss_bytes", .whole(max(needs.memoryAfterLossBytes, needs.memoryBytes))),
      ("model_bytes", .whole(needs.modelBytes)), ("activation_bytes", .whole(needs.activationBytes)),
      ("copy_bytes", .whole(needs.copyBytes)), ("cluster_bytes", .whole(needs.clusterBytes)),
      ("memory_parts", .object(needs.memory.named.map { ($0.name, .whole($0.bytes)) })),
      ("copy_disk_bytes", .whole(needs.copyDiskBytes)),
      ("sent_bytes", .whole(needs.sentBytes)),
      ("shares_memory", .flag(needs.sharesMemory)), ("copied_experts", .whole(needs.copiedExperts.count)),
      ("mirror_bytes_a_step", .whole(needs.mirrorBytesAStep)), ("checkpoint_bytes", .whole(needs.checkpointBytes)),
      ("step_seconds", .init(step?.stepSeconds)),
      ("exchange_seconds", .init(step?.exchangeSeconds)), ("wait_seconds", .init(step?.waitSeconds)),
    ]
  }
}

/// Whether a coordinator can place the run, now or when other runs have ended.
struct RunPlacement {
  let sentence: String
  let isPossible: Bool
  private let free: Int

  init(_ configuration: RunConfiguration, _ status: ClusterStatus) {
    let minimum = configuration.cluster.minimumWorkers
    let groups = Dictionary(grouping: status.workers, by: \.description.fingerprint)
    let largest = groups.values.map(\.count).max() ?? 0
    free = groups.values.map { $0.count { $0.run == nil } }.max() ?? 0
    let ahead = status.runs.filter {
      !$0.state.isAtRest && $0.workers.isEmpty && $0.priority >= configuration.cluster.priority
    }
    isPossible = largest >= minimum
    if !isPossible {
      sentence =
        "it cannot be placed: it needs at least \(minimum) workers with the same numerics fingerprint, and "
        + "\(largest) of \(status.workers.count) have it; start more with: ress worker"
    } else if free < minimum {
      sentence = "it would wait: \(free) of \(largest) workers are free, and it needs at least \(minimum)"
    } else if !ahead.isEmpty {
      sentence = "it would wait for \(ahead.map(\.name).joined(separator: ", "))"
    } else {
      sentence = "it can be placed now, on \(Format.count(min(free, configuration.cluster.workers), "worker"))"
    }
  }

  var json: [(String, JSON)] {
    [("can_be_placed", .flag(isPossible)), ("free_workers", .whole(free)), ("placement", .text(sentence))]
  }
}
