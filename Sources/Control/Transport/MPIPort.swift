// A worker's end of the data plane over MPI. MPI delivers every message once and in order, so no `ReliableLink` is
// used: nothing is acknowledged and nothing is repeated. What remains to be done here is to keep generations apart:
// each message begins with the incarnation of its sender and the generation's number.
//
// Early messages: because nothing is repeated, a message of a generation that has not begun here must not be
// dropped. It is kept until that generation is opened.
//
// A small message travels as one MPI message (`whole`), header and rows copied into one block. A large one travels
// as two (`head`, then `rows`), so that MPI reads the rows from where they are and writes them where they will be
// used, without a copy.
//
// Messages are not encrypted; that is left to MPI's network (docs/mpi.md).

import Wire

package final class MPIPort: DataPlane {
  /// The kind of an MPI message; sent as MPI's tag.
  private enum Kind {
    static let whole: Int32 = 1
    static let head: Int32 = 2
    static let rows: Int32 = 3
  }

  private struct Piece {
    var kind: Int32
    var bytes: Payload
    var ticket: UInt64
  }

  private let world: MPIWorld
  /// MPI ranks of the open generation's peers, by peer index.
  private var ranks: [Int] = []
  private var generation: UInt32 = 0
  private var mine: UInt64 = 0
  private var senders: Set<UInt64> = []
  /// Incarnations of peers of generations that have ended here.
  private var past: Set<UInt64> = []
  /// Messages of generations that have not begun here, in order of arrival.
  private var early: [(generation: UInt32, sender: UInt64, content: Content)] = []
  private var ready: [Content] = []

  private var nextTicket: UInt64 = 1
  /// Payloads being sent by MPI, kept alive until MPI has finished with them.
  private var leaving: [UInt64: Payload] = [:]
  /// Messages being received, by rank, in the order in which they were announced. They are passed on in that order,
  /// whichever is complete first.
  private var arriving: [[Piece]]
  private var complete: Set<UInt64> = []
  private var problem: MPIError?

  /// When a message was last sent or completed.
  package private(set) var movedAt = Instant(nanoseconds: 0)
  package private(set) var isOpen = false

  /// Rows of at most this many bytes are copied into one block with their header, which costs less than a second
  /// message.
  private static let copiedBytes = 16 << 10
  /// Bytes of incarnation and generation, in front of a message's header.
  private static let fenceBytes = 8 + 4
  private static let headBytes = fenceBytes + DataHeader.byteCount

  package init(_ world: MPIWorld) {
    self.world = world
    arriving = Array(repeating: [], count: world.place.size)
  }

  package var sockets: [Socket] { [] }
  package var nextTick: Instant? { nil }
  /// Nothing is due: MPI repeats and acknowledges by itself.
  package func tick(at now: Instant) {}
  package var isIdle: Bool { leaving.isEmpty }

  /// Begins a generation. Its early messages, which were kept, become the first arrivals; those of older
  /// generations are dropped. Throws where a peer belongs to another MPI launch.
  package func open(_ assignment: Assignment) throws(TransportError) {
    close()
    var ranks: [Int] = []
    for peer in assignment.peers {
      guard let place = peer.mpi, place.world == world.place.world else { throw .otherWorld(peer.name) }
      ranks.append(place.rank)
    }
    self.ranks = ranks
    generation = assignment.generation
    mine = assignment.incarnation(assignment.index)
    senders = Set(assignment.peers.indices.filter { $0 != assignment.index }.map(assignment.incarnation))
    isOpen = true
    for message in early where senders.contains(message.sender) { ready.append(message.content) }
    early.removeAll { $0.generation <= generation }
  }

  /// Ends the generation: messages of its peers that still arrive are dropped.
  package func close() {
    past.formUnion(senders)
    senders = []
    ready = []
    isOpen = false
  }

  /// Sends a message to a peer of the open generation. An error of MPI is remembered and reported with the next
  /// arrivals.
  package func send(_ message: DataMessage, to index: Int, at now: Instant) {
    guard isOpen, problem == nil, ranks.indices.contains(index) else { return }
    let rows = message.payload.bytes
    var fence = ByteWriter()
    fence.write(mine)
    fence.write(generation)
    let head = fence.bytes + message.encodedHeader()
    let isWhole = rows.count <= MPIPort.copiedBytes
    let block = Payload(byteCount: head.count + (isWhole ? rows.count : 0))
    block.bytes.copyBytes(from: head)
    if isWhole {
      UnsafeMutableRawBufferPointer(rebasing: block.bytes[head.count...]).copyMemory(from: UnsafeRawBufferPointer(rows))
    }
    do throws(MPIError) {
      try send(block, isWhole ? Kind.whole : Kind.head, to: ranks[index])
      if !isWhole { try send(message.payload, Kind.rows, to: ranks[index]) }
    } catch {
      problem = error
    }
    movedAt = now
  }

  private func send(_ payload: Payload, _ kind: Int32, to rank: Int) throws(MPIError) {
    let ticket = takeTicket()
    leaving[ticket] = payload
    try world.send(payload, kind: kind, to: rank, ticket: ticket)
  }

  private func takeTicket() -> UInt64 {
    defer { nextTicket += 1 }
    return nextTicket
  }

  package func receive(at now: Instant, _ arrived: (DataArrival) -> Void) {
    for content in ready { arrived(MPIPort.read(content)) }
    ready = []
    do throws(MPIError) {
      if let problem { throw problem }
      for content in try progress(at: now) { tell(content, arrived) }
    } catch {
      problem = error
      arrived(.broken(reason: "\(error)"))
    }
  }

  /// Lets MPI make progress, and returns the messages that are complete now.
  private func progress(at now: Instant) throws(MPIError) -> [Content] {
    while let arrival = try world.probe() {
      let piece = Piece(kind: arrival.kind, bytes: Payload(byteCount: arrival.byteCount), ticket: takeTicket())
      arriving[arrival.source].append(piece)
      try world.receive(into: piece.bytes, ticket: piece.ticket)
    }
    let tickets = try world.completed()
    guard !tickets.isEmpty else { return [] }
    movedAt = now
    for ticket in tickets where leaving.removeValue(forKey: ticket) == nil { complete.insert(ticket) }
    guard !complete.isEmpty else { return [] }
    var whole: [Content] = []
    for rank in arriving.indices {
      while let content = takeFirst(from: rank) { whole.append(content) }
    }
    return whole
  }

  /// Removes and returns the oldest message of a rank, if it is complete.
  private func takeFirst(from rank: Int) -> Content? {
    guard let first = arriving[rank].first, complete.contains(first.ticket) else { return nil }
    let pieces = first.kind == Kind.head ? 2 : 1
    guard arriving[rank].count >= pieces, arriving[rank].prefix(pieces).allSatisfy({ complete.contains($0.ticket) })
    else {
      return nil
    }
    for piece in arriving[rank].prefix(pieces) { complete.remove(piece.ticket) }
    defer { arriving[rank].removeFirst(pieces) }
    return Content(first: first.bytes, rows: pieces == 2 ? arriving[rank][1].bytes : nil)
  }

  /// Passes on a message of this generation, keeps one of a later generation, and drops one of an earlier
  /// generation.
  private func tell(_ content: Content, _ arrived: (DataArrival) -> Void) {
    guard let (sender, generation) = content.fence else {
      return arrived(.damaged(reason: "\(content.first.bytes.count) bytes that arrived over MPI are not a message"))
    }
    if senders.contains(sender) {
      arrived(MPIPort.read(content))
    } else if !past.contains(sender) {
      early.append((generation, sender, content))
    }
  }

  private static func read(_ content: Content) -> DataArrival {
    do throws(WireError) { return .message(try content.message()) } catch {
      return .damaged(reason: "data that arrived over MPI is damaged: \(error)")
    }
  }

  /// Ends MPI together with all other ranks, which must be about to end as well. Returns false where they were not
  /// within the time: then MPI must not be called again, and the process should exit immediately.
  package func leave(within duration: Duration) -> Bool {
    close()
    let deadline = MonotonicClock.now + duration
    do throws(MPIError) {
      if let problem { throw problem }
      var isAlone = true
      while isAlone {
        guard MonotonicClock.now < deadline else { return false }
        _ = try progress(at: MonotonicClock.now)
        // A rank enters the meeting only when it has nothing in transit. When all ranks are there, nothing is in
        // transit at all.
        if leaving.isEmpty, arriving.allSatisfy(\.isEmpty) { isAlone = try !world.meet() }
      }
      while !(try progress(at: MonotonicClock.now)).isEmpty {}
      try world.finish()
      return true
    } catch {
      return false
    }
  }

  /// A received message, not yet parsed.
  private struct Content {
    var first: Payload
    /// The rows, where they arrived separately from the header.
    var rows: Payload?

    var fence: (sender: UInt64, generation: UInt32)? {
      var reader = ByteReader(Array(first.bytes.prefix(MPIPort.fenceBytes)))
      guard first.bytes.count >= MPIPort.headBytes, let sender = reader.read(UInt64.self),
        let generation = reader.read(UInt32.self)
      else { return nil }
      return (sender, generation)
    }

    func message() throws(WireError) -> DataMessage {
      let header = Array(first.bytes[MPIPort.fenceBytes..<MPIPort.headBytes])
      if let rows { return try DataMessage(header: header, payload: rows) }
      let copied = Payload(byteCount: first.bytes.count - MPIPort.headBytes)
      copied.bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: first.bytes[MPIPort.headBytes...]))
      return try DataMessage(header: header, payload: copied)
    }
  }
}
