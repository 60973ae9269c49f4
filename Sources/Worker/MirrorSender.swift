// Sends copies of this worker's shard to the worker that keeps them (its mirror), so that a lost worker's state
// survives.
//
// A copy is sent in pieces of 4 MiB. Two pieces are on their way at most: the next one is sent when the receipt of
// the one before the last has arrived. Rows that another worker waits for therefore never queue after more than two
// pieces.
//
// Fields of a `mirror` message: `round` is the step of the copy, `unit` the number of the piece, `sequence` the
// number of pieces, `rows` the values in the piece. The receipt (`mirrored`) repeats `round` and `unit`.

import Kernels
import Training
import Wire

struct MirrorSender {
  /// Values of a piece (4 MiB).
  static let pieceSize = 1 << 20
  private static let underWay = 2

  /// A copy that is being sent to peer `peer`: `count` values, of which `sent` pieces were sent and `received`
  /// acknowledged.
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

  /// The next piece to send and its receiver; nil while two pieces are on their way or nothing is left to send.
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

  /// Handles the receipt of a piece. Returns the copy's key when the last piece was received.
  mutating func received(_ header: DataHeader) -> HeldShard? {
    guard let copy = queue.first, UInt64(copy.key.step) == header.round, copy.received < copy.sent,
      Int(header.sender) == copy.peer
    else { return nil }
    // A copy that travels over a slow line counts as progress, so that the worker is not considered stuck.
    Progress.note()
    queue[0].received += 1
    guard queue[0].received == copy.pieces else { return nil }
    queue.removeFirst()
    return copy.key
  }

  /// The mirror's answer to a piece.
  static func receipt(for message: DataMessage, from place: Int) -> DataMessage {
    var header = DataHeader(phase: .mirrored, sender: place)
    header.round = message.header.round
    header.unit = message.header.unit
    return DataMessage(header: header, payload: Payload(byteCount: 0))
  }
}
