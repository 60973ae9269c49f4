// Copies of this worker's shard on their way to its mirror, a piece after the other, each after the receipt of the one before
// the last: rows that somebody waits for never stand behind more than two pieces.

import Kernels
import Training
import Wire

struct MirrorSender {
  /// Values a piece: 4 MiB.
  static let pieceSize = 1 << 20
  private static let underWay = 2

  private struct Copy {
    let key: HeldShard
    let memory: ShardMemory
    let count: Int
    let peer: Int
    var sent = 0
    var received = 0
    var pieces: Int { (count + MirrorSender.pieceSize - 1) / MirrorSender.pieceSize }
  }

  private var queue: [Copy] = []

  mutating func start(_ key: HeldShard, _ memory: ShardMemory, count: Int, to peer: Int) {
    queue.append(Copy(key: key, memory: memory, count: count, peer: peer))
  }

  mutating func clear() { queue = [] }

  /// What to send now.
  mutating func next() -> (message: DataMessage, peer: Int)? {
    guard let copy = queue.first, copy.sent < copy.pieces, copy.sent - copy.received < MirrorSender.underWay else {
      return nil
    }
    let start = copy.sent * MirrorSender.pieceSize
    let count = min(MirrorSender.pieceSize, copy.count - start)
    var header = DataHeader(phase: .mirror, sender: copy.key.index)
    header.round = UInt64(copy.key.step)
    header.unit = UInt32(copy.sent)
    header.sequence = UInt32(copy.pieces)
    header.rows = UInt32(count)
    queue[0].sent += 1
    return (
      DataMessage(header: header, payload: Payload(copying: copy.memory.pointer + start, count: count)), copy.peer
    )
  }

  /// The receipt of a piece. Returns the copy that is whole now.
  mutating func received(_ header: DataHeader) -> HeldShard? {
    guard let copy = queue.first, UInt64(copy.key.step) == header.round, copy.received < copy.sent,
      Int(header.sender) == copy.peer
    else { return nil }
    // A copy under way to a slow disk or over a slow line is progress.
    Progress.note()
    queue[0].received += 1
    guard queue[0].received == copy.pieces else { return nil }
    queue.removeFirst()
    return copy.key
  }

  /// What the mirror answers.
  static func receipt(for message: DataMessage, from place: Int) -> DataMessage {
    var header = DataHeader(phase: .mirrored, sender: place)
    header.round = message.header.round
    header.unit = message.header.unit
    return DataMessage(header: header, payload: Payload(byteCount: 0))
  }
}
