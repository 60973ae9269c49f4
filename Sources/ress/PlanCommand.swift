// `ress plan`: what a run would need of each worker, and whether a coordinator's workers would do.

import Configuration
import Daemon
import Data
import Glibc
import Model
import Shell
import Training
import Wire

func plan(_ arguments: Arguments) throws -> ExitCode {
  var overrides = arguments.texts("--set").map(ConfigurationOverride.init(set:))
  if let workers = arguments.text("--workers") {
    overrides.append(ConfigurationOverride(option: "--workers", path: "cluster.workers", value: workers))
  }
  let configuration = try ConfigurationDecoder.decode(file: arguments.words[0], overrides: overrides)
  let vocabulary =
    try arguments.whole("--vocabulary") ?? Corpus.vocabulary(of: configuration)
  let needs = RunNeeds(configuration, vocabulary: vocabulary)
  let placement = try arguments.text("--coordinator").map {
    try RunPlacement(configuration, Doors.client($0).status())
  }
  if arguments.has("--json") {
    Terminal.print(JSONText.object(needs.json + (placement?.json ?? [])))
  } else {
    Terminal.print(needs.text)
    if let placement { Terminal.print("\n" + placement.sentence) }
  }
  return placement?.isPossible == false ? .cannotBePlaced : .done
}

/// Counted from the configuration alone.
struct RunNeeds {
  private let configuration: RunConfiguration
  private let vocabulary: Int
  private let layout: ParameterLayout
  private let workers: Int
  /// Values of the largest shard: what one worker alone holds, moments and all.
  private let largestShard: Int
  private let mostExperts: Int

  init(_ configuration: RunConfiguration, vocabulary: Int) {
    self.configuration = configuration
    self.vocabulary = vocabulary
    workers = configuration.cluster.workers
    let model = configuration.model
    let layout = ParameterLayout(model, vocabulary: vocabulary)
    self.layout = layout
    let units = evenShares(of: configuration.training.unitCount, among: workers)
    var owners = [Int](repeating: 0, count: layout.experts.count)
    let experts = evenShares(of: model.routedExperts, among: workers).map { model.experts(in: $0) }
    for (worker, mine) in experts.enumerated() { for expert in mine { owners[expert] = worker } }
    largestShard = (0..<workers).map { worker in
      ShardLayout(layout, WorkPlan(index: worker, units: units, expertOwners: owners, layout: layout)).count
    }.max()!
    mostExperts = experts.map(\.count).max()!
  }

  /// Floating-point operations of a token.
  private var operations: Double { configuration.operationsPerToken(vocabulary: vocabulary) }

  /// Tokens at most: a task's examples may be shorter.
  private var stepTokens: Int { configuration.training.batchSequences * configuration.data.sequenceLength }

  private var real: Int { MemoryLayout<Float>.size }

  /// Parameters (and the packed copy that products read), moments, and one gradient a level of the tree of units.
  private var modelBytes: Int {
    let mine = layout.denseCount + mostExperts * layout.expertCount
    let levels = Int.bitWidth - (configuration.training.unitCount / workers).leadingZeroBitCount + 1
    return real * (2 * mine + largestShard + levels * mine)
  }

  /// Its own two copies and a third for a moment, and two of the peer whose mirror it is.
  private var mirrorBytes: Int { workers > 1 && configuration.cluster.mirrorEvery > 0 ? 5 * largestShard * real : 0 }

  private var checkpointBytes: Int {
    (layout.dense + layout.experts.flatMap { $0 }).reduce(0) { $0 + $1.count * ($1.isTrained ? 3 : 1) } * real
  }

  /// Bytes that a worker sends in a step: rows to experts elsewhere and back, both ways; gradients to their owners; updated
  /// parameters to all.
  private var exchangeBytes: Int {
    guard workers > 1 else { return 0 }
    let model = configuration.model
    let tokens = configuration.training.batchSequences * configuration.data.sequenceLength / workers
    let rows = model.routedExperts > 0 ? tokens * model.steps * model.activeExperts * (workers - 1) / workers : 0
    // Out and back, forward and backward; as much is answered for others as is asked of them.
    let rowBytes = rows * 4 * model.width * real
    let dense = layout.denseCount * real
    return rowBytes + dense * (workers - 1) / workers + dense * (workers - 1) / workers
  }

  private var mirrorBytesAStep: Int {
    mirrorBytes > 0 ? largestShard * real / configuration.cluster.mirrorEvery : 0
  }

  var text: String {
    let count = "\(workers) worker\(workers == 1 ? "" : "s")"
    return """
      run \(configuration.run), on \(count):
        parameters       \(Format.grouped(layout.totalCount)), \(layout.experts.count) experts, vocabulary \(vocabulary)
        units a step     \(configuration.training.unitCount) of \(configuration.training.unitSequences) \
      sequence\(configuration.training.unitSequences == 1 ? "" : "s")
        work             \(Format.fixed(operations / 1e6, 3)) MFLOP a token, forward and backward; \(Format.fixed(operations * Double(stepTokens) / 1e9, 1)) GFLOP a step
        memory a worker  \(Format.bytes(modelBytes)) for parameters, moments and gradients, \(Format.bytes(mirrorBytes)) for copies of the state,
                         and the activations of \(configuration.model.segment) tokens at a time
        sent a step      \(Format.bytes(exchangeBytes)) by each worker, and \(Format.bytes(mirrorBytesAStep)) of copies
        a checkpoint     \(Format.bytes(checkpointBytes)) in \(workers) shard\(workers == 1 ? "" : "s")
      """
  }

  var json: [(String, JSONText.Value)] {
    [
      ("run", .text(configuration.run)), ("workers", .whole(workers)), ("parameters", .whole(layout.totalCount)),
      ("experts", .whole(layout.experts.count)), ("operations_a_token", .real(operations)),
      ("units", .whole(configuration.training.unitCount)),
      ("model_bytes", .whole(modelBytes)), ("mirror_bytes", .whole(mirrorBytes)),
      ("exchange_bytes", .whole(exchangeBytes)), ("mirror_bytes_a_step", .whole(mirrorBytesAStep)),
      ("checkpoint_bytes", .whole(checkpointBytes)),
    ]
  }
}

/// Whether a coordinator could place the run, now or when others are done.
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
        "it cannot be placed: it needs at least \(minimum) workers of equal arithmetic, and \(largest) of \(status.workers.count) are"
        + "; start more with: ress worker"
    } else if free < minimum {
      sentence = "it would wait: \(free) of \(largest) workers are free, and it needs at least \(minimum)"
    } else if !ahead.isEmpty {
      sentence = "it would wait behind \(ahead.map(\.name).joined(separator: ", "))"
    } else {
      sentence = "it can be placed now, on \(min(free, configuration.cluster.workers)) workers"
    }
  }

  var json: [(String, JSONText.Value)] {
    [("can_be_placed", .flag(isPossible)), ("free_workers", .whole(free)), ("placement", .text(sentence))]
  }
}
