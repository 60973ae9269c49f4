// Which experts of a run are copied to all workers, and which stay with their owner (`cluster.experts`).
//
// The rows of a copied expert stay on the worker whose unit they belong to. Instead, once a step, the sums of the
// expert's gradient travel to its owner and its new parameters to all others. For an expert with R rows a step, width d
// and expert width f, rows cost 16·d·R bytes (12·d·R with bf16) over all workers and copies 24·d·f a worker
// (docs/performance.md), so hot experts are the first that are worth a copy. While any expert stays with its owner,
// every call of the expert layer waits for other workers, so the last few rows to travel cost more than their bytes.
// Where all workers are on one machine and no rows travel, gradients and parameters are exchanged in shared memory, and
// not in messages.
//
// Results do not depend on the choice. Rejected: a decision for each expert by its bytes alone, which leaves the waits
// out and copied no cold expert.

/// Where experts compute: `auto` decides by the connections, the loads and the memory; with `travel` rows travel to the
/// owner of an expert; with `copy` every worker has the weights of all experts.
package enum ExpertChoice: String, Equatable, Sendable, Codable, CaseIterable { case auto, travel, copy }

package struct ExpertCopies: Equatable, Sendable {
  /// The connection between two workers: seconds that a message is under way, and bytes a second.
  package struct Line: Codable, Equatable, Sendable {
    package var latencySeconds: Double
    package var bytesPerSecond: Double

    /// What is assumed until the workers have measured their connections: a gigabit, or between processes of one
    /// machine what was measured there over a libzmq socket, including checksums, copies and thread wake-ups.
    package static func assumed(hosts: Int) -> Line {
      hosts > 1
        ? Line(latencySeconds: 200e-6, bytesPerSecond: 117e6) : Line(latencySeconds: 150e-6, bytesPerSecond: 1.2e9)
    }

    package init(latencySeconds: Double, bytesPerSecond: Double) {
      self.latencySeconds = latencySeconds
      self.bytesPerSecond = bytesPerSecond
    }
  }

  private let configuration: RunConfiguration
  private let workers: Int
  private let line: Line
  private let canShareMemory: Bool
  /// Rows of each expert in a step, over all workers.
  private let loads: [Double]

  /// - Parameters:
  ///   - loads: measured rows of each expert; equal ones where it is nil or has another length.
  ///   - line: by default that between the processes of one machine.
  ///   - canShareMemory: whether the workers exchange in shared memory where no rows travel.
  package init(
    _ configuration: RunConfiguration, workers: Int, loads: [Double]? = nil, line: Line = .assumed(hosts: 1),
    canShareMemory: Bool = false
  ) {
    self.configuration = configuration
    self.workers = workers
    self.line = line
    self.canShareMemory = canShareMemory
    let count = configuration.model.expertCount
    if let loads, loads.count == count {
      self.loads = loads
    } else {
      let tokens = Double(configuration.training.batchSequences) * Double(configuration.data.sequenceLength)
      let rows = tokens * Double(configuration.model.steps) * Double(configuration.model.activeExperts)
      self.loads = Array(repeating: count > 0 ? rows / Double(count) : 0, count: count)
    }
  }

  /// Parameters of an expert.
  private var expertSize: Double { Double(3 * configuration.model.width * configuration.model.expertWidth) }
  /// How often rows travel to their experts and back in a step: more than twice where segments are computed again.
  private var passes: Double { configuration.training.recompute == .always ? 3 : 2 }

  /// Bytes that a worker sends in a step for its experts, on average, where those are copied.
  package func bytes(_ copied: [Int]) -> Double {
    let chosen = Set(copied)
    return bytes(copies: chosen.count, rows: loads.indices.reduce(0) { chosen.contains($1) ? $0 : $0 + loads[$1] })
  }

  /// - Parameter rows: those that travel.
  private func bytes(copies: Int, rows: Double) -> Double {
    guard workers > 1 else { return 0 }
    let others = Double(workers - 1) / Double(workers)
    let model = configuration.model
    let rowBytes = Double(model.width * (model.sentValueBytes + model.returnedValueBytes))
    let travelling = rows * others / Double(workers) * rowBytes * passes
    return travelling + Double(copies) * expertSize * 4 * others * (1 + subtrees)
  }

  /// Sums that a worker sends for an expert: 1 where its units form one subtree, otherwise 2 or 3.
  private var subtrees: Double {
    let units = configuration.training.unitCount
    guard workers > 0, units % workers == 0 else { return 2 }
    let share = units / workers
    return share & (share - 1) == 0 ? 1 : 2
  }

  /// Seconds of a step in which a worker exchanges for its experts.
  package func seconds(_ copied: [Int]) -> Double {
    seconds(bytes(copied), copies: copied.count)
  }

  private func seconds(_ bytes: Double, copies: Int) -> Double {
    guard workers > 1, !loads.isEmpty else { return 0 }
    if sharesMemory(copies) { return bytes / Self.memoryBytesPerSecond }
    // In each call a worker asks all others and answers all others. The answers of the first one are waited for; the
    // messages of each further one take processor time.
    let further = Double(workers - 2) * min(line.latencySeconds, Self.mostMessageSeconds)
    return bytes / line.bytesPerSecond + waits(copies) * (2 * line.latencySeconds + further)
  }

  private func sharesMemory(_ copies: Int) -> Bool { canShareMemory && copies == loads.count }

  /// Bytes a second of gradients and parameters in shared memory, as measured for 64 MiB on two ranks
  /// (Benchmarks/README.md).
  private static let memoryBytesPerSecond = 2.4e9
  /// Processor time of a request and its answer, with acknowledgements and the threads that they wake: 80 µs each, as
  /// measured with 64 workers (Benchmarks/README.md).
  private static let mostMessageSeconds = 160e-6

  /// Calls of the expert layer in a step that wait for other workers.
  private func waits(_ copies: Int) -> Double {
    guard copies < loads.count else { return 0 }
    let data = configuration.data, model = configuration.model
    let segments = (data.sequenceLength + model.segment - 1) / model.segment
    let sequences = Double(configuration.training.batchSequences) / Double(workers)
    return sequences * Double(segments * model.steps) * passes
  }

  /// `3 of 8 experts are copied to every worker`
  package func spoken(_ copied: [Int]) -> String {
    switch copied.count {
    case 0: "rows travel to the owners of all experts"
    case loads.count: "every worker has a copy of all experts"
    default:
      "\(copied.count) of \(loads.count) experts \(SpokenNumbers.noun(copied.count, "is", "are")) copied to every worker"
    }
  }

  /// The choice, with what it and the alternatives are expected to cost.
  package func forecast(_ copied: [Int], isMeasured: Bool) -> String {
    func cost(_ copied: [Int]) -> String {
      "\(rounded(1e3 * seconds(copied))) ms and \(rounded(bytes(copied) / 1e6)) MB"
    }
    let alternatives = [("travelling rows", []), ("copies of all", Array(loads.indices))].filter { $0.1 != copied }
    let way = sharesMemory(copied.count) ? "in shared memory" : "for messages"
    return "\(spoken(copied)): \(cost(copied)) a step and worker are expected \(way); "
      + alternatives.map { "\($0.0): \(cost($0.1))" }.joined(separator: ", ")
      + " (\(isMeasured ? "measured" : "assumed") connection: \(rounded(1e3 * line.latencySeconds)) ms, "
      + "\(rounded(line.bytesPerSecond / 1e6)) MB/s)"
  }

  private func rounded(_ value: Double) -> String {
    value < 10 ? "\((value * 100).rounded() / 100)" : "\(Int(min(value, 1e15)))"
  }

  /// Bytes of memory that a copy needs on a worker: the weights, their packed form, and gradients: those of the current
  /// unit and the sums of subtrees.
  package var bytesOfACopy: Double {
    let units = max(1, (configuration.training.unitCount + workers - 1) / workers)
    let levels = Int.bitWidth - units.leadingZeroBitCount
    return expertSize * 4 * Double(2 + 1 + levels)
  }

  /// Bytes that a worker may use for copies: a quarter of its share of its machine's memory. The rest holds the model,
  /// the activations and the copies of the state.
  package static func memoryBytes(ofMachine bytes: Int, workersOnIt workers: Int) -> Double {
    Double(bytes) / Double(4 * workers)
  }

  /// The experts that every worker should have a copy of, ascending.
  /// - Parameter memoryBytes: what a worker may use for copies; nil where it is not known.
  package func choose(memoryBytes: Double? = nil) -> [Int] {
    guard workers > 1, !loads.isEmpty else { return [] }
    switch configuration.cluster.experts {
    case .travel: return []
    case .copy: return Array(loads.indices)
    case .auto:
      // An owner's own experts need no copy, so this counts a little too much.
      let most = memoryBytes.map { min(loads.count, Int(max(0, $0 / bytesOfACopy))) } ?? loads.count
      let hottest = loads.indices.sorted { (-loads[$0], $0) < (-loads[$1], $1) }
      var rows = loads.reduce(0, +)
      var best = (copies: 0, seconds: seconds(bytes(copies: 0, rows: rows), copies: 0))
      for copies in stride(from: 1, through: most, by: 1) {
        rows -= loads[hottest[copies - 1]]
        let seconds = seconds(bytes(copies: copies, rows: max(0, rows)), copies: copies)
        if seconds < best.seconds { best = (copies, seconds) }
      }
      return hottest[..<best.copies].sorted()
    }
  }
}
