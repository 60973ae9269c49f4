// The state of a run moves from the shards of one generation to the trainers of the next. Every value of a shard is unique, so a value that
// arrives in the wrong place is noticed.

import Configuration
import Exchange
import Kernels
import Model
import TestSupport
import Testing
import Training
import Wire
import Worker

@Suite struct StateTransferTests {
  private static let experts = 4

  private static let configuration: RunConfiguration = {
    var c = RunConfiguration.smallModel
    c.training.batchSequences = 6
    return c
  }()

  /// Units and experts of each worker of a generation.
  private struct Shares {
    let units: [Range<Int>]
    let experts: [[Int]]
    let layout: ParameterLayout

    init(_ layout: ParameterLayout, workers: Int) {
      self.layout = layout
      units = evenShares(of: StateTransferTests.configuration.training.unitCount, among: workers)
      experts = evenShares(of: StateTransferTests.experts, among: workers).map { Array($0) }
    }

    func plan(_ index: Int, copies: [[Int]] = []) -> WorkPlan {
      let owners = WorkPlan.owners(of: experts, experts: StateTransferTests.experts)
      return WorkPlan(index: index, units: units, expertOwners: owners, copies: copies, layout: layout)
    }
  }

  /// The value at a position of a piece. It follows from the position in the tensor; the period is a prime, so that
  /// values which are moved by some chunks are noticed.
  private static func value(_ piece: ShardLayout.Piece, _ position: Int) -> Real {
    Real(3 * piece.tensor + piece.kind.rawValue) + Real((piece.rows.values.lowerBound + position) % 4093) / 8192
  }

  /// The shards of a generation after its step 7, in the memory of the workers of the next one.
  private final class Move {
    let before: Shares, after: Shares
    let copies: [[Int]]
    let helpers: Int
    let vocabulary: Int
    let layout: ParameterLayout
    let state: MemoryState
    let channels: [ListChannel]
    let stores: [ShardStore]

    init(
      from old: Int, to new: Int, holders: [Int], helpers: Int = 0, copies: [[Int]] = [], vocabulary: Int = 11
    ) {
      self.vocabulary = vocabulary
      layout = ParameterLayout(StateTransferTests.configuration, vocabulary: vocabulary)
      (before, after) = (Shares(layout, workers: old), Shares(layout, workers: new))
      (self.copies, self.helpers) = (copies, helpers)
      state = MemoryState(generation: 3, step: 7, units: before.units, experts: before.experts, holders: holders)
      channels = (0..<new + helpers).map { _ in ListChannel() }
      stores = channels.map { _ in ShardStore() }
      for index in channels.indices { channels[index].peers = channels }
      for (index, holder) in holders.enumerated() {
        let layout = ShardLayout(self.layout, before.plan(index))
        let memory = ShardMemory(count: layout.count)
        for piece in layout.pieces {
          for position in 0..<piece.count {
            memory.pointer[piece.offset + position] = StateTransferTests.value(piece, position)
          }
        }
        stores[holder].complete(
          HeldShard(run: RunID(1), generation: 3, index: index, count: old, step: 7),
          LateCopy(Shard(layout, in: memory)), Team(laneCount: 1))
      }
    }

    func assignment(_ index: Int) -> Assignment {
      func worker(_ number: Int) -> WorkerDescription {
        WorkerDescription(
          name: "w\(number)", host: "here", process: number, dataAddress: "", threads: 1, fingerprint: "", program: "")
      }
      let roster = after.units.indices.map {
        RosterEntry(worker: worker($0), units: after.units[$0], experts: after.experts[$0])
      }
      return Assignment(
        run: RunID(1), generation: 4, configuration: StateTransferTests.configuration, roster: roster,
        helpers: (0..<helpers).map { worker(after.units.count + $0) }, index: index, threads: 1, start: .memory(state),
        firstStep: 7, folder: "")
    }

    func transfer(_ index: Int) -> StateTransfer {
      StateTransfer(assignment(index), state, layout, after.plan(index, copies: copies))
    }

    func trainer(_ index: Int) throws -> Trainer {
      let held = HeldModel(
        StateTransferTests.configuration, vocabulary: vocabulary, plan: after.plan(index, copies: copies), threads: 1)
      return try Trainer(
        StateTransferTests.configuration, held, Exchanges(alone: held), source: NoSource(), memoryLimit: .max)
    }

    func link(_ index: Int) -> NetworkLink { NetworkLink(channels[index], assignment(index)) }
  }

  /// Keeps the messages for a worker. Where one is awaited and none is left, it ends the job instead of waiting.
  private final class ListChannel: WorkerChannel {
    var peers: [ListChannel] = []
    var arriving: [DataMessage] = []
    func send(_ message: DataMessage, to index: Int) { peers[index].arriving.append(message) }
    func next(timeout: Duration?) -> WorkerEvent? {
      arriving.isEmpty ? .exit(reason: "no message is left") : .data(arriving.removeFirst())
    }
    func report(_ report: Report, generation: UInt32) {}
    func note(_ heartbeat: Heartbeat) {}
    func pendingStop() -> String? { nil }
    var memory: OfferedMemory? { nil }
    func pendingHalt(_ generation: UInt32) -> HaltWish { .none }
    func mirror(_ key: HeldShard, _ copy: LateCopy, to index: Int) {}
  }

  /// A trainer needs a source; nothing is read from this one.
  private final class NoSource: SequenceSource {
    let sequenceCount = 6, length = 40
    func read(_ sequence: Int, into buffer: inout SequenceBuffer) {}
  }

  @Test(
    arguments: [
      (old: 1, new: 2, holders: [1], helpers: 0, copies: [[], []]),
      (old: 2, new: 3, holders: [2, 0], helpers: 0, copies: [[], [0], []]),
      (old: 3, new: 2, holders: [1, 0, 1], helpers: 0, copies: [[3], [0, 1]]),
      (old: 2, new: 1, holders: [0, 1], helpers: 1, copies: [[]]),
      (old: 2, new: 5, holders: [3, 3], helpers: 0, copies: [[], [], [], [], []]),
      (old: 5, new: 3, holders: [1, 0, 1, 2, 2], helpers: 0, copies: [[], [], []]),
    ], [11, 20_000])
  func `every worker has the values of all that it needs, also of tensors with several owners`(
    change: (old: Int, new: Int, holders: [Int], helpers: Int, copies: [[Int]]), vocabulary: Int
  ) throws {
    let (old, new, holders, helpers, copies) = change
    let move = Move(
      from: old, to: new, holders: holders, helpers: helpers, copies: copies, vocabulary: vocabulary)
    if vocabulary > 11 {
      let owners = [move.before, move.after].map { shares in
        shares.units.indices.count { shares.plan($0).myRows(of: move.layout.dense[0]) != nil }
      }
      #expect(owners == [old, new], "the embedding has an owner of each generation's workers")
    }
    let trainers = try (0..<new).map { try move.trainer($0) }
    for index in 0..<new + helpers {
      try move.transfer(index).send(
        from: move.stores[index], into: index < new ? trainers[index] : nil, by: move.channels[index])
    }
    for index in 0..<new {
      try move.transfer(index).receive(into: trainers[index], from: move.link(index))
      #expect(move.channels[index].arriving.isEmpty, "nothing is sent that a worker does not need")
      var compared = 0
      for shard in move.before.units.indices {
        let pieces = ShardLayout(move.layout, move.before.plan(shard)).pieces.flatMap {
          $0.divided(by: trainers[index].plan)
        }
        for piece in pieces where trainers[index].plan.needs(piece, worker: index) {
          let place = try #require(trainers[index].place(of: piece))
          let wrong = (0..<piece.count).first { place[$0] != Self.value(piece, $0) }
          #expect(wrong == nil, "\(piece.name) of worker \(index)")
          compared += piece.kind == .values ? piece.count : 0
        }
      }
      #expect(compared == trainers[index].parameters.layout.denseCount + trainers[index].heldCount)
    }
  }

  @Test func `a message of the first step that arrives before the state is complete is kept for the step`() throws {
    let move = Move(from: 1, to: 2, holders: [1])
    let trainer = try move.trainer(0)
    let early = DataMessage(header: DataHeader(phase: .norms, sender: 1, .step), payload: Payload(byteCount: 8))
    move.channels[0].arriving = [early]
    try move.transfer(1).send(from: move.stores[1], into: nil, by: move.channels[1])
    let link = move.link(0)
    try move.transfer(0).receive(into: trainer, from: link)
    #expect(try link.receive(awaited: [1], in: .norms).header.phase == .norms)
  }

  @Test
  func `a tensor from another worker than its holder, one that is not needed and one that is too long are refused`()
    throws
  {
    let move = Move(from: 2, to: 3, holders: [2, 0])
    let needed = try #require(ShardLayout(move.layout, move.before.plan(0)).pieces.first { $0.kind == .values })
    func refusal(sender: Int, tensor: Int, chunk: Int = 0, count: Int = 1) throws -> String {
      var header = DataHeader(phase: .state, sender: sender, .tensor(number: tensor, kind: 0, chunk: chunk))
      header.rows = UInt32(count)
      move.channels[1].arriving = [DataMessage(header: header, payload: Payload(byteCount: 4 * count))]
      do {
        try move.transfer(1).receive(into: move.trainer(1), from: move.link(1))
      } catch let error as ExchangeError { return error.description } catch let stopped as Stopped {
        return stopped.reason
      }
      return "everything arrived"
    }
    #expect(try refusal(sender: 2, tensor: needed.tensor, count: needed.count) == "no message is left", "accepted")
    for (sender, tensor, chunk, count) in [
      (0, needed.tensor, 0, needed.count), (2, 10_000, 0, 1), (2, needed.tensor, 0, needed.count + 1),
      (2, needed.tensor, 1, 1),
    ] {
      let text = try refusal(sender: sender, tensor: tensor, chunk: chunk, count: count)
      #expect(text.contains("worker \(sender) of the roster sent"), "\(text)")
      #expect(text.contains("tensor \(tensor) is not needed"), "\(text)")
    }
  }

  @Test func `a shard that the coordinator counts on and the worker no longer has is an error with its step`() throws {
    let move = Move(from: 1, to: 2, holders: [1])
    let empty = ShardStore()
    #expect {
      try move.transfer(1).send(from: empty, into: nil, by: move.channels[1])
    } throws: { error in
      "\(error)".contains("shard 0 of step 7")
    }
    #expect(move.channels[0].arriving.isEmpty)
  }

  @Test func `workers that wait for the state of one that cannot load are stopped, and the error is the first one`()
    throws
  {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateEvery) = (4, 0)
    let first = OneProcessCluster(c, workers: 2, threads: 1, folder: scratch.path)
    for channel in first.channels { channel.mailbox.put(.halt(generation: 1, saving: false)) }
    #expect(try first.run().endings == [.halted, .halted])
    // Worker 0 has its own shard of step 1 and not that of worker 1, which waits for both.
    let next = OneProcessCluster(
      c, workers: 2, threads: 1, folder: scratch.path, firstStep: 1, after: first, holders: [0, 0])
    #expect {
      try next.run()
    } throws: { error in
      "\(error)".contains("shard 1 of step 1")
    }
  }
}

extension Trainer {
  /// Parameters of the experts whose weights this worker has.
  fileprivate var heldCount: Int { plan.heldExperts.count * parameters.layout.expertCount }
}
