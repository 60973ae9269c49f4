// The memory of a worker, part by part.

import Configuration
import Exchange
import Kernels
import Model
import RunFolder
import Training
import Wire

/// Bytes of a worker's memory by what they hold.
package struct MemoryParts: Equatable, Sendable {
  /// Dense parameters and the experts here.
  package var weights = 0
  /// The packed copies of weights that products read.
  package var packed = 0
  /// AdamW's moments of what the worker updates.
  package var moments = 0
  /// Gradients and their partial sums, and rows that wait for their gradients.
  package var gradients = 0
  /// What units under way keep between forward and backward.
  package var activations = 0
  /// Copies of the state that are in memory.
  package var copies = 0
  /// What travels, and what shared memory has of it.
  package var messages = 0
  /// What a change of generation takes beyond everything else.
  package var change = 0
  /// The program, its libraries and their buffers, and those of the writer of checkpoints.
  package var program = 0

  package var total: Int { named.reduce(0) { $0 + $1.bytes } }

  /// The names of the parts in `ress plan --json`.
  package var named: [(name: String, bytes: Int)] {
    [
      ("weights", weights), ("packed_weights", packed), ("moments", moments), ("gradients", gradients),
      ("activations", activations), ("copies", copies), ("messages", messages), ("change_of_generation", change),
      ("program", program),
    ]
  }
}

extension RunNeeds {
  /// Resident memory of a worker.
  package var memoryBytes: Int { memory.total }

  package var memory: MemoryParts {
    var parts = MemoryParts()
    parts.weights = weightBytes
    parts.packed = packedBytes
    parts.moments = momentBytes
    parts.gradients = gradientBytes
    parts.activations = activationBytes
    parts.copies = copyBytes
    if workers > 1 {
      parts.messages = messageBytes
      parts.change = max(0, changeBytes - parts.total)
    }
    parts.program = RunNeeds.programBytes + threads * RunNeeds.threadBytes + FilledFile.bufferBytes(largestShard * real)
    return parts
  }

  // Resident memory of a `ress worker` with a minimal model, and what each thread adds; measured on Debian
  // 12, x86-64.
  private static let programBytes = 45 << 20, threadBytes = 2 << 20

  // MARK: model

  /// Parameters and the packed copy that matrix products read, moments, and gradients.
  package var modelBytes: Int { weightBytes + packedBytes + momentBytes + gradientBytes }

  private var heldExperts: Int { mostExperts + copiesHere }
  private var weightBytes: Int { real * (layout.denseCount + heldExperts * layout.expertCount) }
  private var packedBytes: Int {
    real * (layout.denseCount + (HeldModel.packsExperts(configuration, layout) ? heldExperts * layout.expertCount : 0))
  }
  private var momentBytes: Int { real * mostMoments }

  private var gradientBytes: Int {
    let own = GradientMemory(units: unitsAWorker, workers: 1, lanes: places, delay: nil, rowShare: 0)
    // The total of the owner's range, and the sums of others that wait for their siblings in the tree.
    let ownerSums = workers > 1 ? 2 * mostDense : 0
    return real * (Int(own.blocks) * layout.denseCount + ownerSums) + expertGradientBytes
  }

  /// Gradients of the experts here, and the rows that are kept for them.
  private var expertGradientBytes: Int {
    let delay = gradientDelay
    let share = GradientDelay.rowShare(configuration, layout) * BufferPool.meanExcess
    func blocks(units: Int, workers: Int) -> Double {
      GradientMemory(units: units, workers: workers, lanes: places, delay: delay, rowShare: share).blocks
    }
    let block = Double(layout.expertCount * real)
    let copied = Double(copiedExperts.count) / Double(max(1, layout.experts.count))
    // An expert gets the rows of all workers where they travel, and those of this worker's units where it is copied.
    // The owner of a copied expert also has the sum of another worker while it adds, unless it adds in shared memory.
    let travelling =
      Double(mostExperts) * (1 - copied) * blocks(units: configuration.training.unitCount, workers: workers)
    let own = Double(mostExperts) * copied * (blocks(units: unitsAWorker, workers: 1) + (sharesMemory ? 0 : 1))
    let sums = (travelling + own + Double(copiesHere) * blocks(units: unitsAWorker, workers: 1)) * block
    guard let delay else { return RunNeeds.whole(sums) }
    // The parts that each team computes together, and its bands.
    let parts = layout.expertParts, size = parts.map(\.count).max() ?? 0
    let together = min(4 * threads, mostExperts * parts.count) * size
    let bands = threads * delay * max(LocalExperts.bandSize, sizes.width, sizes.expertWidth)
    return RunNeeds.whole(sums + Double((together + bands) * real))
  }

  private var gradientDelay: Int? {
    GradientDelay.level(configuration, layout, workers: workers, lanes: places)
  }

  /// Experts of other workers of which a worker has a copy, at most.
  private var copiesHere: Int { max(0, copiedExperts.count - copiedExperts.count / max(1, workers)) }

  // MARK: activations

  /// Activations that the units under way keep between their forward and their backward pass.
  package var activationBytes: Int {
    let own = SequenceModel.byteCount(
      sizes, shape, maximumTokens: configuration.data.sequenceLength,
      lanes: TeamDivision.sizes(threads: threads, teams: teams).max()!)
    return RunNeeds.whole((Double(own) + Double(expertRowBytes)) * Double(places))
  }

  /// Inputs and gate-up products of the rows that this worker's experts keep: their share of the rows of all
  /// workers' units under way, for each of its own.
  private var expertRowBytes: Int {
    // Where gradients are delayed, the rows are part of their memory.
    guard sizes.experts > 0, gradientDelay == nil else { return 0 }
    let copied = Double(copiedExperts.count) / Double(max(1, layout.experts.count))
    // Of the copied experts the rows of this worker's unit, of the others those of every worker's.
    let own = Double(mostExperts) / Double(max(1, layout.experts.count))
    let share = copied + (1 - copied) * Double(workers) * own
    return RunNeeds.whole(TeamChoice.rowBytes(configuration, sizes, shape) * share)
  }

  // MARK: copies of the state

  /// Copies of the state (`ShardStore`): one of the worker's own, and one of the peer whose mirror it is, with a second
  /// one while that arrives. Without mirrors, one for a checkpoint that is still being written when the next step ends.
  private var copyCount: Int {
    guard mirrors else { return outlivesStep ? 1 : 0 }
    return min(3, 2 * (configuration.training.steps / configuration.cluster.mirrorEvery))
  }

  private var keepsCopiesOnDisk: Bool { configuration.cluster.stateCopies == .disk }

  /// Bytes of the copies that are in memory, and in files.
  package var copyBytes: Int { keepsCopiesOnDisk ? 0 : copyCount * largestShard * real }
  package var copyDiskBytes: Int { keepsCopiesOnDisk ? copyCount * largestShard * real : 0 }

  private var mirrors: Bool { workers > 1 && configuration.cluster.mirrorEvery > 0 }

  /// Whether a checkpoint may take longer to write than a step takes to compute.
  private var outlivesStep: Bool {
    let every = configuration.checkpoint.every
    let isWritten = every > 0 && every < configuration.training.steps || configuration.checkpoint.keepBest > 0
    let writing = Double(largestShard * real * workersAHost) / RunNeeds.slowDisk
    let step = operationsPerToken * Double(stepTokens) / Double(workers * threads) / RunNeeds.fastCore
    return isWritten && writing > step
  }
  /// Bytes a second of a slow disk, and operations a second of a fast core.
  private static let slowDisk = 400e6, fastCore = 100e9

  // MARK: the cluster

  /// What only a run of several workers holds: messages in transit, and what a change of generation takes beyond that.
  package var clusterBytes: Int {
    let parts = memory
    return parts.messages + parts.change
  }

  /// Parameters of others that arrive while this worker updates its own, its own dense ones on their way, and pieces of
  /// sums, copies and rows, two in each direction. Sums and experts are sent from where they are.
  private var messageBytes: Int {
    if let boardBytes {
      return boardBytes + (mirrors ? 4 * min(largestShard * real, DataPiece.largest) : 0)
    }
    let parameters = real * (layout.denseCount + mostDense + copiesHere * layout.expertCount)
    return parameters + 4 * min(max(layout.denseCount, largestShard) * real, DataPiece.largest)
  }

  /// The next generation is loaded while the state of the one before and its copies are still there.
  private var changeBytes: Int {
    2 * (weightBytes + momentBytes) + packedBytes + activationBytes + copyBytes
  }

  // MARK: after the loss of a worker

  /// The same run after the loss of one worker; nil where it has too few workers to continue then.
  package var afterLoss: RunNeeds? {
    guard workers > 1, workers > configuration.cluster.minimumWorkers else { return nil }
    var fewer = configuration
    fewer.cluster.workers = workers - 1
    return RunNeeds(
      fewer, vocabulary: vocabulary, cores: machine.cores, memoryBytes: machine.memoryBytes,
      hosts: min(machine.hosts, workers - 1))
  }

  /// Resident memory of a worker in the generation after a loss. The worker has more units and experts then, and
  /// holds copies of the old generation until those of the new one are complete.
  package var memoryAfterLossBytes: Int {
    let next = afterLoss ?? self
    guard mirrors, !keepsCopiesOnDisk else { return next.memoryBytes }
    let before = copyBytes
    let arriving = next.workers > 1 ? next.largestShard * real : 0
    return next.memoryBytes + max(0, before + arriving - next.copyBytes)
  }
}
