// What travels between workers: rows of tokens to experts and back, gradients, parameters. A message is a fixed header that
// says where in the run's arithmetic its numbers belong, and the numbers.

/// What a data message is for.
package enum DataPhase: UInt8, Sendable, CaseIterable {
  /// Rows for experts, kept for the backward; rows for experts in an evaluation; what comes out.
  case dispatchForward = 1, dispatchEvaluation, combineForward
  /// Gradients of experts' outputs; the gradients of their inputs.
  case dispatchBackward, combineBackward
  /// A unit is done: its losses and loads.
  case unitFinished
  /// A subtree's sum of gradients; sums of squares; updated parameters.
  case gradient, norms, parameters
  /// A piece of a state, on its way into a new generation.
  case state
  /// A piece of a worker's shard for the peer that keeps a copy; that it has come.
  case mirror, mirrored

  /// As it reads in a sentence about waiting.
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
    }
  }
}

/// Where a message's numbers belong. All fields that a phase does not use are 0.
package struct DataHeader: Equatable, Sendable {
  package var phase: DataPhase
  /// Place in the roster of the worker that sends.
  package var sender: UInt16
  /// Round of units, counted alike by all workers of a generation.
  package var round: UInt64 = 0
  package var unit: UInt32 = 0
  package var sequence: UInt32 = 0
  package var segment: UInt32 = 0
  package var recurrence: UInt16 = 0
  package var rows: UInt32 = 0
  package var columns: UInt32 = 0

  package init(phase: DataPhase, sender: Int) {
    self.phase = phase
    self.sender = UInt16(sender)
  }

  /// Bytes of an encoded header.
  package static let byteCount = 1 + 2 + 8 + 4 + 4 + 4 + 2 + 4 + 4 + 8 + 8 + 8 + 4 + 4
}

package struct DataMessage: Sendable {
  package var header: DataHeader
  package var payload: Payload

  package init(header: DataHeader, payload: Payload) {
    self.header = header
    self.payload = payload
  }

  /// The header's bytes for a message that travels whole.
  package func encodedHeader() -> [UInt8] { DataPiece(self, payload.bytes.indices).encodedHeader() }

  /// Throws where the bytes are not a header, or not of this payload.
  package init(header bytes: [UInt8], payload: Payload) throws(WireError) {
    let piece = try DataPiece(header: bytes, payload: payload)
    guard piece.place == 0, piece.messageByteCount == payload.bytes.count else {
      throw .malformed("a part of a message where a whole one is due")
    }
    self.init(header: piece.header, payload: payload)
  }
}

/// A message, or a part of a large one, as it travels: no frame needs to be larger than `largest`, so that none larger is taken.
package struct DataPiece: Sendable {
  package var header: DataHeader
  /// Where its bytes lie: the whole message's where it is sent, its own where it arrives.
  package var payload: Payload
  package var range: Range<Int>
  /// Where its bytes belong in the message, and the message's length.
  package var place: Int
  package var messageByteCount: Int

  /// Bytes of a piece: a mirror's or a state's piece is one.
  package static let largest = 4 << 20
  /// A worker's part of the dense tensors in one gradient message: half a billion numbers.
  package static let largestMessage = 2 << 30

  fileprivate init(_ message: DataMessage, _ range: Range<Int>) {
    (header, payload, self.range) = (message.header, message.payload, range)
    (place, messageByteCount) = (range.lowerBound, message.payload.bytes.count)
  }

  /// A message in pieces, in order; one of no bytes is one piece.
  package static func pieces(of message: DataMessage) -> [DataPiece] {
    let count = message.payload.bytes.count
    return stride(from: 0, to: max(1, count), by: largest).map {
      DataPiece(message, $0..<min(count, $0 + largest))
    }
  }

  private var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: payload.bytes[range]) }

  /// The header's bytes: its fields, the piece's place, the message's length, the piece's length and CRC-32C, and a CRC-32C of all that.
  package func encodedHeader() -> [UInt8] {
    var writer = ByteWriter()
    writer.write(header.phase.rawValue)
    writer.write(header.sender)
    writer.write(header.round)
    writer.write(header.unit)
    writer.write(header.sequence)
    writer.write(header.segment)
    writer.write(header.recurrence)
    writer.write(header.rows)
    writer.write(header.columns)
    writer.write(UInt64(place))
    writer.write(UInt64(messageByteCount))
    writer.write(UInt64(range.count))
    writer.write(withExtendedLifetime(payload) { crc32c(bytes) })
    writer.write(writer.bytes.withUnsafeBytes { crc32c($0) })
    return writer.bytes
  }

  /// Throws where the bytes are not a header, or not of this payload.
  package init(header bytes: [UInt8], payload: Payload) throws(WireError) {
    guard bytes.count == DataHeader.byteCount else {
      throw .malformed("a data header of \(bytes.count) bytes, not \(DataHeader.byteCount)")
    }
    var reader = ByteReader(bytes)
    let phaseNumber = reader.read(UInt8.self)!
    let sender = reader.read(UInt16.self)!
    guard crc32c(of: bytes.dropLast(4)) == ByteReader.last32(bytes) else { throw .malformed("a data header's CRC-32C") }
    guard let phase = DataPhase(rawValue: phaseNumber) else { throw .malformed("data phase \(phaseNumber)") }
    var header = DataHeader(phase: phase, sender: Int(sender))
    header.round = reader.read(UInt64.self)!
    header.unit = reader.read(UInt32.self)!
    header.sequence = reader.read(UInt32.self)!
    header.segment = reader.read(UInt32.self)!
    header.recurrence = reader.read(UInt16.self)!
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

/// Puts the messages of one sender together again. Pieces come in order, since the link beneath keeps it.
package struct DataAssembly: Sendable {
  /// A message of which the first `byteCount` bytes are there.
  private var begun: (header: DataHeader, payload: Payload, byteCount: Int)?

  package init() {}

  /// The message that the piece completes; nil where more pieces are due. Throws where the piece does not follow the one before; what was
  /// begun is dropped then.
  package mutating func take(_ piece: DataPiece) throws(WireError) -> DataMessage? {
    if begun == nil, piece.place == 0, piece.range.count == piece.messageByteCount {
      return DataMessage(header: piece.header, payload: piece.payload)
    }
    // The system gives the memory when it is written: a sender that says much and sends little takes little.
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

package enum WireError: Error, Equatable, CustomStringConvertible {
  case malformed(String)
  /// A packet whose link header is damaged or no link header at all: nothing is lost, a sender of ours repeats it.
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
