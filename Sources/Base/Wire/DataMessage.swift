// The messages between workers (the data plane): rows of tokens to experts and back, sums of gradients, updated
// parameters, and pieces of a worker's state. A message is a header of fixed size, which tells the receiver where
// in the run's arithmetic the numbers belong (`DataSubject`), and a block of numbers. PeerExchange, StateTransfer and
// MirrorSender send and receive them.
//
// A message of more than `DataPiece.largest` bytes travels in several pieces, which `DataAssembly` puts together.
// Header and numbers have a CRC-32C each, because TCP's 16-bit checksum misses about one damaged packet in 65,536.

import Checksum
import Configuration

/// The purpose of a data message.
package enum DataPhase: UInt8, Sendable, CaseIterable {
  /// Rows for experts in training, whose inputs are kept for the backward pass; rows for experts in an evaluation;
  /// experts' outputs.
  case dispatchForward = 1, dispatchEvaluation, combineForward
  /// Gradients of experts' outputs; gradients of their inputs.
  case dispatchBackward, combineBackward
  /// One unit is done; the payload holds its losses and expert loads.
  case unitFinished
  /// The sum of gradients of a subtree of units; sums of squares of gradients, for the norm; updated parameters.
  case gradient, norms, parameters
  /// A piece of a shard that moves to its owner in a new generation.
  case state
  /// A piece of a worker's shard, for the peer that keeps a copy; the receipt of the whole copy.
  case mirror, mirrored
  /// The sum of the gradients of a part of an expert over a subtree of units, from a worker with a copy of the expert,
  /// one empty message where no token reached it; a part of an expert's updated parameters, for those workers.
  case expertGradient, expertParameters
  /// A message that measures the connection to a peer, and its answer.
  case probe, echo

  /// The phase as a noun, for sentences such as "waits for gradient sums from worker-2".
  package var description: String {
    switch self {
    case .dispatchForward: "rows for experts"
    case .dispatchEvaluation: "rows for experts (evaluation)"
    case .combineForward: "expert outputs"
    case .dispatchBackward: "gradients for experts"
    case .combineBackward: "gradients from experts"
    case .unitFinished: "unit reports"
    case .gradient: "gradient sums"
    case .norms: "gradient norms"
    case .parameters: "updated parameters"
    case .state: "the state of the generation before"
    case .mirror: "a copy of a shard"
    case .mirrored: "the receipt of a copy"
    case .expertGradient: "gradient sums of experts"
    case .expertParameters: "updated parameters of experts"
    case .probe: "a measurement of the connection"
    case .echo: "the answer to a measurement"
    }
  }
}

/// Where a message's numbers belong.
package struct DataHeader: Equatable, Sendable {
  package var phase: DataPhase
  /// Roster index of the worker that sends.
  package var sender: UInt16
  /// Number of the exchange round; all workers of a generation count the same rounds. 0 in messages that belong to
  /// no round: states, copies and their receipts.
  package var round: UInt64 = 0
  package var subject: DataSubject
  /// Rows of a matrix, or values of a piece.
  package var rows: UInt32 = 0
  package var columns: UInt32 = 0

  /// - Precondition: the subject is one of the phase's.
  package init(phase: DataPhase, sender: Int, _ subject: DataSubject) {
    precondition(DataSubject(phase, subject.words) == subject, "\(subject) in a message with \(phase.description)")
    self.phase = phase
    self.sender = UInt16(sender)
    self.subject = subject
  }

  /// Bytes of an encoded header.
  package static let byteCount = 1 + 2 + 8 + 4 + 4 + 4 + 2 + 4 + 4 + 8 + 8 + 8 + 4 + 4
}

/// One message: a header and a payload of `rows` × `columns` numbers.
package struct DataMessage: Sendable {
  package var header: DataHeader
  package var payload: Payload

  package init(header: DataHeader, payload: Payload) {
    self.header = header
    self.payload = payload
  }

  /// The encoded header of a message that travels in one piece.
  package func encodedHeader() -> [UInt8] { DataPiece(self, payload.bytes.indices).encodedHeader() }

  /// Throws where the bytes are not a valid header, or do not describe this payload.
  package init(header bytes: [UInt8], payload: Payload) throws(WireError) {
    let piece = try DataPiece(header: bytes, payload: payload)
    guard piece.place == 0, piece.messageByteCount == payload.bytes.count else {
      throw .malformed("a part of a message where a whole one is due")
    }
    self.init(header: piece.header, payload: payload)
  }
}

/// A message, or a part of a large one, as it travels. A receiver can refuse any frame larger than `largest`.
package struct DataPiece: Sendable {
  package var header: DataHeader
  /// The memory that `range` refers to: the whole message's when it is sent, the piece's own when it arrives.
  package var payload: Payload
  package var range: Range<Int>
  /// Offset of the piece in the message, and the message's length, in bytes.
  package var place: Int
  package var messageByteCount: Int

  /// Largest piece, in bytes. Sums, parameters, copies and states are cut into messages of this size by their senders,
  /// so only the rows of one call, and norms, can be larger messages.
  package static let largest = 4 << 20
  /// Largest message of any run, in bytes; see `largestMessage(_:)`.
  package static let largestMessage = 2 << 30

  /// Largest message of a run, in bytes: a multiple of a piece, the rows of one call of the expert layer with the row
  /// counts of all experts, or the norms.
  package static func largestMessage(of configuration: RunConfiguration) -> Int {
    let model = configuration.model
    func bytes(_ factors: Int...) -> Int { factors.reduce(4) { min(largestMessage, $0 * $1) } }
    let tokens = min(model.segment, max(1, configuration.data.sequenceLength))
    let rows = bytes(tokens, model.activeExperts, model.width) + bytes(model.expertCount)
    return min(largestMessage, max(4 * largest, rows))
  }

  fileprivate init(_ message: DataMessage, _ range: Range<Int>) {
    (header, payload, self.range) = (message.header, message.payload, range)
    (place, messageByteCount) = (range.lowerBound, message.payload.bytes.count)
  }

  /// The pieces of a message, in order; an empty message is one empty piece.
  package static func pieces(of message: DataMessage) -> [DataPiece] {
    let count = message.payload.bytes.count
    return stride(from: 0, to: max(1, count), by: largest).map {
      DataPiece(message, $0..<min(count, $0 + largest))
    }
  }

  private var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: payload.bytes[range]) }

  /// Layout: the header's fields, the piece's offset, the message's length, the piece's length, the CRC-32C of the
  /// piece, and a CRC-32C of all of that.
  package func encodedHeader() -> [UInt8] {
    var writer = ByteWriter()
    writer.write(header.phase.rawValue)
    writer.write(header.sender)
    writer.write(header.round)
    let words = header.subject.words
    writer.write(words.first)
    writer.write(words.second)
    writer.write(words.third)
    writer.write(words.fourth)
    writer.write(header.rows)
    writer.write(header.columns)
    writer.write(UInt64(place))
    writer.write(UInt64(messageByteCount))
    writer.write(UInt64(range.count))
    writer.write(withExtendedLifetime(payload) { crc32c(bytes) })
    writer.write(writer.bytes.withUnsafeBytes { crc32c($0) })
    return writer.bytes
  }

  /// Throws where the bytes are not a valid header, or do not describe this payload.
  package init(header bytes: [UInt8], payload: Payload) throws(WireError) {
    guard bytes.count == DataHeader.byteCount else {
      throw .malformed("a data header of \(bytes.count) bytes, not \(DataHeader.byteCount)")
    }
    var reader = ByteReader(bytes)
    let phaseNumber = reader.read(UInt8.self)!
    let sender = reader.read(UInt16.self)!
    guard crc32c(of: bytes.dropLast(4)) == ByteReader.last32(bytes) else { throw .malformed("a data header's CRC-32C") }
    guard let phase = DataPhase(rawValue: phaseNumber) else { throw .malformed("data phase \(phaseNumber)") }
    let round = reader.read(UInt64.self)!
    var words = DataSubject.Words()
    words.first = reader.read(UInt32.self)!
    words.second = reader.read(UInt32.self)!
    words.third = reader.read(UInt32.self)!
    words.fourth = reader.read(UInt16.self)!
    var header = DataHeader(phase: phase, sender: Int(sender), DataSubject(phase, words))
    header.round = round
    header.rows = reader.read(UInt32.self)!
    header.columns = reader.read(UInt32.self)!
    let place = reader.read(UInt64.self)!
    let messageByteCount = reader.read(UInt64.self)!
    let byteCount = reader.read(UInt64.self)!
    let checksum = reader.read(UInt32.self)!
    guard byteCount == UInt64(payload.bytes.count) else {
      throw .malformed("\(payload.bytes.count) bytes of rows where the header says \(byteCount)")
    }
    guard messageByteCount <= UInt64(Self.largestMessage), place <= messageByteCount,
      byteCount <= messageByteCount - place
    else { throw .malformed("\(byteCount) bytes at \(place) of a message of \(messageByteCount)") }
    guard checksum == crc32c(UnsafeRawBufferPointer(payload.bytes)) else { throw .malformed("the CRC-32C of rows") }
    (self.header, self.payload, range) = (header, payload, payload.bytes.indices)
    (self.place, self.messageByteCount) = (Int(place), Int(messageByteCount))
  }
}

/// Puts the messages of one sender together. Pieces arrive in order, because the link below keeps the order.
package struct DataAssembly: Sendable {
  /// An incomplete message, of which the first `byteCount` bytes have arrived.
  private var begun: (header: DataHeader, payload: Payload, byteCount: Int)?
  /// Largest message that is accepted, in bytes.
  private let largest: Int

  package init(largest: Int = DataPiece.largestMessage) { self.largest = largest }

  /// Adds a piece and returns the message that it completes; nil where more pieces must follow. Throws where the
  /// piece does not continue the piece before it, and then drops the incomplete message.
  package mutating func take(_ piece: DataPiece) throws(WireError) -> DataMessage? {
    guard piece.messageByteCount <= largest else {
      begun = nil
      throw .malformed("a message of \(piece.messageByteCount) bytes, where the run has none above \(largest)")
    }
    if begun == nil, piece.place == 0, piece.range.count == piece.messageByteCount {
      return DataMessage(header: piece.header, payload: piece.payload)
    }
    // The operating system provides memory page by page as it is written. A peer that announces a large message and
    // sends little of it therefore costs little memory.
    var message = begun ?? (piece.header, Payload(byteCount: piece.messageByteCount), 0)
    begun = nil
    guard message.header == piece.header, message.payload.bytes.count == piece.messageByteCount,
      message.byteCount == piece.place, !piece.range.isEmpty
    else { throw .malformed("a piece of a message that does not follow the one before") }
    withExtendedLifetime(piece.payload) {
      UnsafeMutableRawBufferPointer(rebasing: message.payload.bytes[piece.place...]).copyMemory(
        from: UnsafeRawBufferPointer(rebasing: piece.payload.bytes[piece.range]))
    }
    message.byteCount += piece.range.count
    guard message.byteCount < piece.messageByteCount else {
      return DataMessage(header: message.header, payload: message.payload)
    }
    begun = message
    return nil
  }
}

extension ByteReader {
  fileprivate static func last32(_ bytes: [UInt8]) -> UInt32 {
    var reader = ByteReader(Array(bytes.suffix(4)))
    return reader.read(UInt32.self) ?? 0
  }
}

private func crc32c(of bytes: ArraySlice<UInt8>) -> UInt32 { bytes.withUnsafeBytes { crc32c($0) } }

/// A message that cannot be read.
package enum WireError: Error, Equatable, CustomStringConvertible {
  case malformed(String)
  /// The packet's link header is damaged or is not one. The packet is dropped; a ress process that sent it will
  /// repeat it.
  case damagedPacket(String)
  case wrongVersion(theirs: Int, ours: Int)

  package var description: String {
    switch self {
    case .malformed(let what): "a message cannot be read: \(what)"
    case .damagedPacket(let what): "a packet was dropped: \(what)"
    case .wrongVersion(let theirs, let ours):
      "a message of protocol version \(theirs) where this program speaks \(ours); use one version of ress everywhere"
    }
  }
}
