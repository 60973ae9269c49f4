// A worker of the exchange benchmark: it exchanges data as a real worker does, and computes nothing except the
// sums.

import Configuration
import Exchange
import Foundation
import Kernels
import Model
import Training
import Transport
import Wire
import Worker

final class BenchRank {
  private let network: WorkerNetwork
  private var index = 0
  private var count = 0
  private let exchange: String

  init(_ arguments: BenchArguments) throws {
    exchange = arguments.text("--exchange")
    let name = arguments.text("--name", "rank-\(getpid())")
    let description = WorkerDescription(
      name: name, host: "here", process: Int(getpid()), dataAddress: "", threads: 1, fingerprint: "bench",
      program: "ress-exchange", incarnation: UInt64.random(in: 1...UInt64.max))
    var options = WorkerNetwork.Options(
      coordinator: arguments.text("--address"), listen: "\(arguments.text("--address"))-\(name)",
      description: description)
    if exchange == Exchange.mpi.rawValue {
      let folder = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().path
      options.world = try MPIWorld(
        plugin: MPIPlugin.path(environment: ProcessInfo.processInfo.environment, programFolder: folder))
    }
    options.log = { FileHandle.standardError.write(Data("\(name): \($0)\n".utf8)) }
    network = try WorkerNetwork(options)
  }

  func run() throws {
    network.start()
    var link: NetworkLink!
    var assigned: Assignment!
    begin: while let event = network.next() {
      switch event {
      case .assigned(let assignment):
        (index, count) = (assignment.index, assignment.roster.count)
        link = NetworkLink(network, assignment)
        assigned = assignment
        network.report(.ready, generation: assignment.generation)
      case .begin: break begin
      case .exit(let reason): throw BenchError(reason: reason)
      // A peer may have begun before this worker.
      case .data(let message): link.accept(early: message)
      case .halt, .stop: continue
      }
    }
    for bytes in [4 << 10, 64 << 10, 4 << 20] { try measure(AllToAll(link, index, count, bytes: bytes)) }
    for bytes in [4 << 20, 64 << 20] {
      try measure(AllReduce(link, assigned, network.memory, bytes: bytes))
    }
    network.close(reason: "done")
    if !network.hasLeftWorld { throw BenchError(reason: "the MPI world did not end in order") }
  }

  /// Measures an operation for about three seconds, and prints the median without the first five rounds. All ranks
  /// do the same number of rounds, which rank 0 decides by its clock.
  private func measure(_ operation: some Exchanging) throws {
    var seconds: [Double] = []
    let warm = 5, begun = ContinuousClock.now
    var isLast = false
    while !isLast {
      let start = ContinuousClock.now
      try operation.round()
      seconds.append(start.duration(to: .now).inSeconds)
      if seconds.count.isMultiple(of: 10) {
        isLast = try operation.agree(isOver: begun.duration(to: .now).inSeconds > 3)
      }
    }
    let sorted = seconds.dropFirst(warm).sorted()
    guard index == 0 else { return }
    let median = sorted[sorted.count / 2], best = sorted[0]
    let line =
      "{\"exchange\": \"\(exchange)\", \"operation\": \"\(operation.name)\", \"ranks\": \(count), \"bytes\": \(operation.bytes), "
      + "\"median_us\": \(Int(median * 1e6)), \"best_us\": \(Int(best * 1e6)), \"rounds\": \(sorted.count)}\n"
    FileHandle.standardOutput.write(Data(line.utf8))
  }
}

/// An operation to measure.
protocol Exchanging: AnyObject {
  var name: String { get }
  /// Bytes per rank.
  var bytes: Int { get }
  func round() throws
  /// Whether the first rank says that time is over; the same answer on every rank.
  func agree(isOver: Bool) throws -> Bool
}

/// Exchange of rows with experts: each rank sends an equal part of its rows to every other rank, and receives
/// theirs.
final class AllToAll: Exchanging {
  let name = "all-to-all"
  let bytes: Int
  private let link: NetworkLink
  private let index: Int
  private let count: Int
  private var number: UInt64 = 0
  /// Messages of the next round, from peers that are ahead.
  private var early: [DataMessage] = []

  init(_ link: NetworkLink, _ index: Int, _ count: Int, bytes: Int) {
    (self.link, self.index, self.count, self.bytes) = (link, index, count, bytes)
  }

  func round() throws { _ = try exchange(bytes / count, first: 0) }

  func agree(isOver: Bool) throws -> Bool { try exchange(4, first: isOver ? 1 : 0) == 1 }

  /// One round. Returns the first word that the first rank sent.
  private func exchange(_ byteCount: Int, first: Int32) throws -> Int32 {
    number += 1
    var said = first
    let values = [Float](repeating: 0, count: byteCount / 4)
    for peer in 0..<count where peer != index {
      // Copied into a new payload, as `PeerExchange` does.
      let payload = values.withUnsafeBufferPointer { Payload(copying: $0.baseAddress!, count: $0.count) }
      payload.words[0] = first
      var header = DataHeader(
        phase: .dispatchForward, sender: index, .site(unit: 0, sequence: 0, segment: 0, recurrence: 0))
      header.round = number
      link.send(DataMessage(header: header, payload: payload), to: peer)
    }
    var waiting = count - 1
    while waiting > 0 {
      let message: DataMessage
      if let place = early.firstIndex(where: { $0.header.round == number }) {
        message = early.remove(at: place)
      } else {
        message = try link.receive(awaited: [], in: .dispatchForward)
        guard message.header.round == number else {
          early.append(message)
          continue
        }
      }
      waiting -= 1
      if message.header.sender == 0 { said = withExtendedLifetime(message.payload) { message.payload.words[0] } }
    }
    return said
  }
}

/// Exchange of gradients and parameters: gradients go to their owners, which add them, and the owners' new values
/// go to all. It uses `PeerExchange` itself.
final class AllReduce: Exchanging {
  let name = "all-reduce"
  let bytes: Int
  private let exchange: PeerExchange
  private let parameters: ParameterBuffer
  private let gradient: PooledBuffer
  private let held: HeldModel
  private let own: Range<Int>
  private var norms: [Double]
  private let index: Int
  private let count: Int
  private var number = 0

  init(
    _ link: NetworkLink, _ assignment: Assignment, _ memory: OfferedMemory?, bytes: Int
  ) throws {
    (index, count) = (assignment.index, assignment.roster.count)
    let (index, count) = (index, count)
    // A model of many equal tensors, so that the owners' shares are equal: blocks of a dense transformer.
    var configuration = RunConfiguration()
    var model = configuration.model
    model.architecture = .transformer
    model.feedForward = .dense
    model.separateBlocks = true
    model.width = 64
    model.heads = 1
    model.expertWidth = 64
    model.activeExperts = 1
    model.experts = 1
    model.steps = 1
    func layout(_ steps: Int) -> ParameterLayout {
      model.steps = steps
      return ParameterLayout(model, vocabulary: 64)
    }
    let one = layout(1).denseCount, block = layout(2).denseCount - one
    let steps = 1 + (bytes / 4 - one) / block
    let chosen = layout(steps)
    self.bytes = 4 * chosen.denseCount
    let plan = WorkPlan(
      index: index, units: (0..<count).map { $0..<$0 + 1 },
      expertOwners: chosen.experts.indices.map { $0 % count }, layout: chosen)
    configuration.model = model
    held = HeldModel(configuration, vocabulary: 64, plan: plan, threads: 1)
    parameters = held.parameters
    own = plan.myDense
    let memoryBytes = Int(ProcessInfo.processInfo.physicalMemory)
    exchange = PeerExchange(held, link, sharing: BoardOffer(assignment, plan, memory, ofMachine: memoryBytes))
    norms = Array(repeating: 0, count: Optimizer.chunkCount(chosen))
    gradient = BufferPool().take(chosen.denseCount)
    gradient.pointer.update(repeating: 1, count: chosen.denseCount)
    // All ranks have offered their parts of the board when the norms of this round have arrived.
    number += 1
    try exchange.begin(Round(number: number, step: 0, purpose: .probe, unitCount: 1))
    _ = try exchange.gather(norms, StepNote())
    number += 1
    try exchange.prepare(number)
  }

  func round() throws {
    number += 1
    try exchange.begin(Round(number: number, step: number, purpose: .training, unitCount: count))
    // The exchange adds sums where they are.
    (gradient.pointer + own.lowerBound).update(repeating: 1, count: own.count)
    let sums = [(node: UnitNode(level: 0, index: index), value: Optional(gradient))]
    held.expertGradients.begin(unitCount: count)
    try exchange.finish(unit: index, UnitReport(held.sizes), UnitEnd(team: held.team))
    try exchange.publish(sums)
    _ = try exchange.reports()
    let sum = try exchange.reduce(sums)
    guard sum[0] == Real(count) else { throw BenchError(reason: "a sum is \(sum[0]), not \(count)") }
    // Parameters are accepted after the norms of their sender, as in a step.
    _ = try exchange.gather(norms, StepNote())
    try exchange.share(parameters)
  }

  func agree(isOver: Bool) throws -> Bool {
    number += 1
    try exchange.begin(Round(number: number, step: number, purpose: .probe, unitCount: count))
    // `gather` adds over the ranks, and only the first rank contributes.
    norms[0] = index == 0 && isOver ? 1 : 0
    defer { norms[0] = 0 }
    return try exchange.gather(norms, StepNote())[0] > 0
  }
}

struct BenchError: Error, CustomStringConvertible {
  var reason: String
  var description: String { reason }
}
