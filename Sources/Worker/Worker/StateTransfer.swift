// Moves a run's state from the memory of one generation's workers to the workers of the next.
//
// Every holder of a shard knows the new roster, so it can compute which worker needs which tensors and sends them
// without being asked. Receivers compute the same and wait until they have everything. The rows of a large tensor that
// had one owner before may have several now; they are sent to each of them.

import Exchange
import Kernels
import Model
import Training
import Wire

package struct StateTransfer {
  private let assignment: Assignment
  private let state: MemoryState
  private let layout: ParameterLayout
  /// The work of the generation that begins.
  private let plan: WorkPlan
  /// The shards of the generation before, by roster index.
  private let shards: [ShardLayout]

  /// Values of a message (4 MiB).
  private static let pieceSize = ShardLayout.messageSize

  package init(_ assignment: Assignment, _ state: MemoryState, _ layout: ParameterLayout, _ plan: WorkPlan) {
    self.assignment = assignment
    self.state = state
    self.layout = layout
    self.plan = plan
    let owners = WorkPlan.owners(of: state.experts, experts: layout.experts.count)
    shards = state.units.indices.map { index in
      ShardLayout(layout, WorkPlan(index: index, units: state.units, expertOwners: owners, layout: layout))
    }
  }

  /// Sends the shards of this worker to the workers that need their tensors, and copies what it needs itself into
  /// `trainer`, which is nil for a helper.
  package func send(from store: ShardStore, into trainer: Trainer?, by channel: any WorkerChannel) throws {
    for (index, shardLayout) in shards.enumerated() where state.holders[index] == assignment.index {
      let key = HeldShard(
        run: assignment.run, generation: state.generation, index: index, count: shards.count, step: state.step)
      guard let shard = store.shard(key, shardLayout) else { throw JobError.shardGone(step: state.step, index: index) }
      for (number, whole) in shardLayout.pieces.enumerated() {
        for piece in whole.divided(by: plan) {
          send(piece, from: shard.values(number) + piece.offset - whole.offset, into: trainer, by: channel)
        }
        shard.settle(number)
      }
    }
  }

  /// Sends a piece, which has one owner in the generation that begins, to the workers that need it.
  private func send(
    _ piece: ShardLayout.Piece, from values: RealPointer, into trainer: Trainer?, by channel: any WorkerChannel
  ) {
    let receivers = assignment.roster.indices.filter { plan.needs(piece, worker: $0) }
    if receivers.contains(assignment.index), let trainer { trainer.take(piece, from: values) }
    for start in stride(from: 0, to: piece.count, by: StateTransfer.pieceSize) {
      let count = min(StateTransfer.pieceSize, piece.count - start)
      var payload: Payload?
      for receiver in receivers where receiver != assignment.index {
        let part = payload ?? Payload(copying: values + start, count: count)
        payload = part
        let chunk = (piece.rows.values.lowerBound + start) / Optimizer.chunkSize
        var header = DataHeader(
          phase: .state, sender: assignment.index,
          .tensor(number: piece.tensor, kind: piece.kind.rawValue, chunk: chunk))
        header.rows = UInt32(count)
        channel.send(DataMessage(header: header, payload: part), to: receiver)
      }
    }
  }

  /// A tensor of the model, or one of its moments.
  private struct Place: Hashable {
    var tensor: Int
    var kind: Int
  }

  /// Receives tensors from others until this worker has all it needs.
  package func receive(into trainer: Trainer, from link: NetworkLink) throws {
    var pieces: [Place: [(piece: ShardLayout.Piece, holder: Int)]] = [:]
    var missing: [Int: Int] = [:]
    for (index, shardLayout) in shards.enumerated() where state.holders[index] != assignment.index {
      for piece in shardLayout.pieces.flatMap({ $0.divided(by: plan) })
      where plan.needs(piece, worker: assignment.index) {
        pieces[Place(tensor: piece.tensor, kind: piece.kind.rawValue), default: []].append(
          (piece, state.holders[index]))
        missing[state.holders[index], default: 0] += piece.count
      }
    }
    while missing.contains(where: { $0.value > 0 }) {
      let message = try link.receive(awaited: missing.filter { $0.value > 0 }.keys.sorted(), in: .state)
      // A peer that has everything may already have begun its first step; its messages are kept.
      guard case .tensor(let tensor, let kind, let chunk) = message.header.subject else {
        link.accept(early: message)
        continue
      }
      let header = message.header
      let first = chunk * Optimizer.chunkSize, end = first + message.payload.bytes.count / 4
      guard
        let (piece, holder) = pieces[Place(tensor: tensor, kind: kind)]?.first(where: {
          $0.piece.rows.values.contains(first)
        }), holder == Int(header.sender), end <= piece.rows.values.upperBound
      else {
        throw ExchangeError.unexpectedMessage(
          phase: header.phase.description, sender: Int(header.sender), detail: "tensor \(tensor) is not needed")
      }
      withExtendedLifetime(message) {
        (trainer.place(of: piece)! + first - piece.rows.values.lowerBound).update(
          from: message.payload.reals, count: end - first)
      }
      Progress.note()
      missing[Int(header.sender), default: 0] -= end - first
    }
  }
}

extension Trainer {
  fileprivate func take(_ piece: ShardLayout.Piece, from values: RealPointer) {
    place(of: piece)!.update(from: values, count: piece.count)
  }
}
