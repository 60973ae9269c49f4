// What a run needs of each worker, computed from its configuration alone: memory, network traffic, and the size of
// a checkpoint. `ress plan` shows these numbers, and `ress status` compares them with the measured ones.
//
// Every term mirrors an allocation or a message of the real code, which the comments name. RunNeedsTests compares
// the plan with measured processes. RunNeeds+Memory.swift counts the memory.

import Configuration
import Exchange
import Foundation
import Kernels
import Model
import Training
import Wire

/// The needs of a run on `configuration.cluster.workers` workers. Bytes are those of the worker that needs most.
package struct RunNeeds {
  package let configuration: RunConfiguration
  package let vocabulary: Int
  package let layout: ParameterLayout
  package let workers: Int
  /// Threads of each worker, and workers on one machine.
  package let threads: Int
  package let workersAHost: Int
  let sizes: Sizes
  /// The teams of a worker, and what each unit under way keeps.
  let choice: TeamChoice
  /// Values of the largest shard: the tensors that one worker updates, and their moments.
  let largestShard: Int
  /// Moments of the worker that has most.
  let mostMoments: Int
  let mostExperts: Int
  let mostDense: Int
  /// Datasets of a checkpoint: one for each tensor and moment, and one for each owner's rows where it is divided.
  private let datasetCount: Int
  /// The experts that are copied to every worker, and what they cost in a step.
  package let copiedExperts: [Int]
  package let copies: ExpertCopies
  /// Whether the workers exchange gradients and parameters in shared memory, and how much of it a worker uses.
  package var sharesMemory: Bool { boardBytes != nil }
  let boardBytes: Int?
  let machine: (cores: Int, memoryBytes: Int, hosts: Int)

  /// - Parameters:
  ///   - cores, memoryBytes: of one machine.
  ///   - hosts: number of machines that the workers are spread over.
  package init(_ configuration: RunConfiguration, vocabulary: Int, cores: Int, memoryBytes: Int, hosts: Int) {
    self.configuration = configuration
    self.vocabulary = vocabulary
    machine = (cores, memoryBytes, hosts)
    let count = configuration.cluster.workers
    workers = count
    workersAHost = (count + hosts - 1) / hosts
    threads =
      configuration.cluster.threads > 0 ? configuration.cluster.threads : max(1, cores / workersAHost)
    let model = configuration.model
    sizes = Sizes(model, vocabulary: vocabulary)
    let layout = ParameterLayout(configuration, vocabulary: vocabulary)
    self.layout = layout
    let canShareMemory = count > 1 && workersAHost == count && configuration.cluster.sameMachine == .memory
    copies = ExpertCopies(configuration, workers: count, line: .assumed(hosts: hosts), canShareMemory: canShareMemory)
    copiedExperts = copies.choose(
      memoryBytes: ExpertCopies.memoryBytes(ofMachine: memoryBytes, workersOnIt: workersAHost))
    let plans = RunNeeds.plans(configuration, layout, workers: count, copied: copiedExperts)
    let shards = plans.map { ShardLayout(layout, $0) }
    datasetCount = shards.reduce(0) { $0 + $1.pieces.count }
    largestShard = shards.map(\.count).max()!
    mostMoments = shards.map { $0.pieces.reduce(0) { $1.kind == .values ? $0 : $0 + $1.count } }.max()!
    mostExperts = plans.map(\.myExperts.count).max()!
    mostDense = plans.map(\.myDense.count).max()!
    boardBytes =
      canShareMemory && copiedExperts.count == layout.experts.count
      ? RunNeeds.boardBytes(plans, layout, sizes, ofMachine: memoryBytes) : nil
    choice = TeamChoice(
      configuration, sizes, layout, threads: threads, units: (configuration.training.unitCount + count - 1) / count,
      heldExperts: plans.map(\.heldExperts.count).max()!,
      rowsTravel: count > 1 && copiedExperts.count < layout.experts.count, memoryLimit: memoryBytes / 2 / workersAHost)
  }

  /// What a worker uses of the board at most: its own part, what the others have written for it, and their parameters.
  /// Nil where the machine has too little memory for a board.
  private static func boardBytes(
    _ plans: [WorkPlan], _ layout: ParameterLayout, _ sizes: Sizes, ofMachine memoryBytes: Int
  ) -> Int? {
    let norms = Optimizer.chunkCount(layout)
    let parts = plans.map { BoardLayout($0, worker: $0.index, layout, sizes: sizes, norms: norms) }
    guard parts.reduce(0, { $0 + $1.byteCount }) <= Board.mostBytes(ofMachine: memoryBytes) else { return nil }
    let nodes = parts.reduce(0) { $0 + $1.nodes.count }
    let used = plans.map { plan in
      let owned = plan.myDense.count + plan.myExperts.count * layout.expertCount
      let others = nodes - parts[plan.index].nodes.count
      return parts[plan.index].byteCount + MemoryLayout<Real>.stride * (others * owned + layout.totalCount - owned)
    }
    return used.max()!
  }

  /// The work plans of the first generation, by worker.
  static func plans(
    _ configuration: RunConfiguration, _ layout: ParameterLayout, workers: Int, copied: [Int]
  ) -> [WorkPlan] {
    let model = configuration.model
    let units = evenShares(of: configuration.training.unitCount, among: workers)
    let experts = evenShares(of: model.routedExperts, among: workers).map { model.experts(in: $0) }
    let owners = WorkPlan.owners(of: experts, experts: layout.experts.count)
    let copies = (0..<workers).map { _ in copied }
    return (0..<workers).map {
      WorkPlan(index: $0, units: units, expertOwners: owners, copies: copies, layout: layout)
    }
  }

  /// Units of the worker that has most.
  package var unitsAWorker: Int { (configuration.training.unitCount + workers - 1) / workers }
  package var recomputes: Bool { shape.recomputes }
  /// Teams of a worker.
  package var teams: Int { choice.teams }
  var shape: SequenceModel.Shape { choice.shape }
  /// Units of a worker that are under way at once.
  var places: Int { choice.places }
  /// Segments of one sequence.
  package var segments: Int { shape.segments }
  /// Most tokens of a step; examples of a task may be shorter.
  package var stepTokens: Int { configuration.training.batchSequences * configuration.data.sequenceLength }
  /// Floating-point operations per token, forward and backward.
  package var operationsPerToken: Double { configuration.operationsPerToken(vocabulary: vocabulary) }

  var real: Int { MemoryLayout<Float>.size }

  /// Limits a number of bytes, which may be larger than any machine has, so that it fits an Int.
  static func whole(_ bytes: Double) -> Int { Int(min(bytes, Double(Arena.most))) }

  /// Bytes of all files of a checkpoint: the tensors and HDF5's structures.
  package var checkpointBytes: Int {
    let tensors = layout.dense + layout.experts.flatMap { $0 }
    let values = tensors.reduce(0) { $0 + $1.count * ($1.isTrained ? 3 : 1) }
    return values * real + datasetCount * RunNeeds.datasetBytes + (workers + 1) * RunNeeds.fileBytes
  }
  /// Header, checksum attribute and group entry of a dataset, and overhead of a file, in the file format of HDF5
  /// 1.10.
  private static let datasetBytes = 600, fileBytes = 4_096

  /// How often rows go to their experts and back in a step: forward, backward, and forward again where segments are
  /// recomputed.
  package var passes: Double { shape.recomputes ? 3 - 1 / Double(shape.segments) : 2 }

  /// Calls of the expert layer for a worker's units in a forward pass that wait for experts on other workers.
  package var sites: Double {
    guard copiedExperts.count < layout.experts.count else { return 0 }
    let sequences = unitsAWorker * configuration.training.unitSequences
    return configuration.model.routedExperts > 0 ? Double(sequences * shape.segments * sizes.steps) : 0
  }

  /// Bytes that a worker sends in a step, averaged over workers.
  package var sentBytes: Int {
    guard workers > 1 else { return 0 }
    let model = configuration.model
    var sent = 0
    if model.routedExperts > 0 {
      let travelling = 1 - Double(copiedExperts.count) / Double(layout.experts.count)
      // Rows to experts on other workers and back, in each pass. A worker answers as many rows of others as it
      // sends, on average.
      let share = Double(workers - 1) / Double(workers) / Double(workers)
      let rows = Double(stepTokens) * Double(model.steps * model.activeExperts) * share * travelling
      sent += RunNeeds.whole(rows * Double(model.width * (model.sentValueBytes + model.returnedValueBytes)) * passes)
      // The row counts of all experts, which precede the rows.
      if travelling > 0 {
        sent += RunNeeds.whole(sites * passes * Double((workers - 1) * layout.experts.count * real))
      }
    }
    // Gradients to their owners, one per subtree; new parameters to all workers; reports and norms.
    let subtrees = RunNeeds.subtrees(configuration.training.unitCount, workers)
    let dense = layout.denseCount * real
    sent += Int(Double(dense) * Double(workers - 1) / Double(workers) * subtrees)
    sent += dense * (workers - 1) / workers
    // The same for the experts that are copied.
    let experts = copiedExperts.count * layout.expertCount * real
    sent += Int(Double(experts) * Double(workers - 1) / Double(workers) * (1 + subtrees))
    let numbers = 32 + model.steps * (model.routedExperts + 2)
    sent += (unitsAWorker * numbers + Optimizer.chunkCount(layout) + 8) * 8 * (workers - 1)
    return sent
  }

  /// Number of gradient sums that a worker sends, on average: the largest subtrees of the units' tree inside its
  /// range of units.
  private static func subtrees(_ units: Int, _ workers: Int) -> Double {
    let shares = evenShares(of: units, among: workers)
    let count = shares.reduce(0) { sum, share in
      var tree = UnitTree<Int>(unitCount: units)
      for unit in share { tree.insert(1, at: UnitNode(level: 0, index: unit), add: +) }
      return sum + tree.pending.count
    }
    return Double(count) / Double(workers)
  }

  /// Bytes of copies sent per step, on average.
  package var mirrorBytesAStep: Int {
    let every = configuration.cluster.mirrorEvery
    return workers > 1 && every > 0 ? largestShard * real / every : 0
  }

  package func forecast(stepSeconds: Double?, waitSeconds: Double? = nil) -> Forecast {
    Forecast(
      stepSeconds: stepSeconds, waitSeconds: waitSeconds, memoryBytes: memoryBytes, sentBytes: sentBytes,
      checkpointBytes: checkpointBytes)
  }
}
