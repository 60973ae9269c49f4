// Sends copies of this worker's shard to the worker that keeps them (its mirror), so that a lost worker's state
// survives.
//
// A copy is sent in pieces of 4 MiB. Two pieces are on their way at most: the next one is sent when the receipt of
// the one before the last has arrived. Rows that another worker waits for therefore never queue after more than two
// pieces.
//
// The receipt of a piece (`mirrored`) has the piece's subject.

import Kernels
import Training
import Wire

package struct MirrorSender {
  /// Values of a piece (4 MiB).
  package static let pieceSize = ShardLayout.messageSize
  private static let underWay = 2

  /// A copy that is being sent to peer `peer`, of which `sent` pieces were sent and `received` acknowledged.
  private struct Copy {
    let key: HeldShard
    let copy: LateCopy
    let peer: Int
    var count: Int { copy.layout.count }
    var sent = 0
    var received = 0
    var pieces: Int { (count + MirrorSender.pieceSize - 1) / MirrorSender.pieceSize }
  }

  private var queue: [Copy] = []

  package init() {}

  package mutating func start(_ key: HeldShard, _ copy: LateCopy, to peer: Int) {
    queue.append(Copy(key: key, copy: copy, peer: peer))
  }

  package mutating func clear() { queue = [] }

  /// The next piece to send and its receiver; nil while two pieces are on their way or nothing is left to send.
  package mutating func next() -> (message: DataMessage, peer: Int)? {
    guard let copy = queue.first, copy.sent < copy.pieces, copy.sent - copy.received < MirrorSender.underWay else {
      return nil
    }
    let start = copy.sent * MirrorSender.pieceSize
    let count = min(MirrorSender.pieceSize, copy.count - start)
    var header = DataHeader(
      phase: .mirror, sender: copy.key.index, .copy(step: copy.key.step, piece: copy.sent, count: copy.pieces))
    header.rows = UInt32(count)
    queue[0].sent += 1
    return (DataMessage(header: header, payload: copy.copy.payload(start..<start + count)), copy.peer)
  }

  /// Handles the receipt of a piece. Returns the copy's key when the last piece was received.
  package mutating func received(_ header: DataHeader) -> HeldShard? {
    guard case .copy(let step, _, _) = header.subject, let copy = queue.first, copy.key.step == step,
      copy.received < copy.sent, Int(header.sender) == copy.peer
    else { return nil }
    // A copy that travels over a slow line counts as progress, so that the worker is not considered stuck.
    Progress.note()
    queue[0].received += 1
    guard queue[0].received == copy.pieces else { return nil }
    queue.removeFirst()
    return copy.key
  }

  /// The mirror's answer to a piece.
  package static func receipt(for message: DataMessage, from place: Int) -> DataMessage {
    DataMessage(
      header: DataHeader(phase: .mirrored, sender: place, message.header.subject), payload: Payload(byteCount: 0))
  }
}
