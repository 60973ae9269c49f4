// Messages that arrive once, in order, or not at all with notice: what libzmq alone does not promise. A link cut and healed
// was seen to lose messages silently (16 of 200), because a reconnecting socket forgets what its peer never read.
//
// Every packet carries a sequence number and what its sender has received so far. The receiver takes only the packet it
// expects (go-back-N: loss is rare and order is what a healthy connection gives). A process that restarts has a new
// incarnation; numbers of different incarnations never mix.
//
// What to repeat, and when: every transmission has a number too, and the receiver says which it saw last. Connections keep
// order, so what was transmitted before that and is still unacknowledged was lost, and is repeated at once. Where nothing
// is heard at all, time decides, and then the oldest message alone is repeated: its answer tells what else is missing. To
// repeat the whole window instead was seen to send ten messages of 40 MB over a gigabit link 65 times.
//
// The link is a value without clock or socket: whoever owns it hands it packets and the time, and sends what it returns.
//
// Rejected: selective repeat, which pays where loss is common; and TCP's own guarantee, which ends with the connection.

/// The numbers in front of every message.
package struct LinkHeader: Equatable, Sendable {
  /// Of the process (or generation) that sends.
  package var incarnation: UInt64
  /// Of the receiver as the sender knows it; 0 while it does not.
  package var peer: UInt64
  /// Number of the message that follows, from 1; 0 where none does.
  package var sequence: UInt64
  /// Every message up to this one has arrived.
  package var acknowledged: UInt64
  /// How often the sender began to count anew, because the process it spoke to was replaced. A packet of an older
  /// conversation may still be under way when the first of a newer one arrives.
  package var conversation: UInt64
  /// The receiver's conversation that `acknowledged` counts in.
  package var acknowledgedConversation: UInt64
  /// Number of this transmission, from 1, counted anew in each conversation; 0 where no message follows.
  package var transmission: UInt64
  /// The newest transmission of the receiver's that has arrived.
  package var seen: UInt64

  package init(
    incarnation: UInt64, peer: UInt64, sequence: UInt64, acknowledged: UInt64, conversation: UInt64 = 0,
    acknowledgedConversation: UInt64 = 0, transmission: UInt64 = 0, seen: UInt64 = 0
  ) {
    self.incarnation = incarnation
    self.peer = peer
    self.sequence = sequence
    self.acknowledged = acknowledged
    self.conversation = conversation
    self.acknowledgedConversation = acknowledgedConversation
    self.transmission = transmission
    self.seen = seen
  }

  static let magic: UInt32 = 0x5353_4552  // "RESS"
  static let version: UInt16 = 2
  package static let byteCount = 4 + 2 + 8 * 8 + 4

  package func encoded() -> [UInt8] {
    var writer = ByteWriter()
    writer.write(LinkHeader.magic)
    writer.write(LinkHeader.version)
    let numbers = [
      incarnation, peer, sequence, acknowledged, conversation, acknowledgedConversation, transmission, seen,
    ]
    for number in numbers { writer.write(number) }
    writer.write(writer.bytes.withUnsafeBytes { crc32c($0) })
    return writer.bytes
  }

  package init(_ bytes: [UInt8]) throws(WireError) {
    guard bytes.count == LinkHeader.byteCount else { throw .damagedPacket("a link header of \(bytes.count) bytes") }
    var reader = ByteReader(bytes)
    guard reader.read(UInt32.self) == LinkHeader.magic else { throw .damagedPacket("no ress message") }
    let version = reader.read(UInt16.self)!
    guard version == LinkHeader.version else {
      throw .wrongVersion(theirs: Int(version), ours: Int(LinkHeader.version))
    }
    incarnation = reader.read(UInt64.self)!
    peer = reader.read(UInt64.self)!
    sequence = reader.read(UInt64.self)!
    acknowledged = reader.read(UInt64.self)!
    conversation = reader.read(UInt64.self)!
    acknowledgedConversation = reader.read(UInt64.self)!
    transmission = reader.read(UInt64.self)!
    seen = reader.read(UInt64.self)!
    let sum = bytes.dropLast(4).withUnsafeBytes { crc32c($0) }
    guard reader.read(UInt32.self) == sum else { throw .damagedPacket("a link header's CRC-32C") }
  }
}

/// Both directions between this process and one other.
package struct ReliableLink<Message> {
  package struct Packet {
    package var header: LinkHeader
    package var message: Message?
  }

  /// What a received packet leads to.
  package struct Arrival {
    /// The message, if it is the one whose turn it is.
    package var delivered: Message?
    /// The other process is a new one: what was under way to the old one is gone.
    package var peerRestarted = false
  }

  /// The oldest unacknowledged message is repeated after this long, or twice the last round trip where that is longer; then
  /// after twice as long, up to the limit.
  package static var firstRepeat: Duration { .milliseconds(300) }
  package static var slowestRepeat: Duration { .seconds(3) }
  /// An arrival is acknowledged at most this much later, or with the next message out.
  package static var acknowledgeWithin: Duration { .milliseconds(20) }
  /// Messages in flight; more wait here for acknowledgements.
  package static var window: Int { 512 }
  /// Bytes in flight, where the link knows the sizes of its messages; one message may always be. At 10 Gbit/s, the time of ten
  /// acknowledgements.
  package static var windowBytes: Int { 256 << 20 }

  private let incarnation: UInt64
  private var peer: UInt64
  private let peerIsFixed: Bool
  private let byteCount: @Sendable (Message) -> Int
  /// Of messages that were sent and not acknowledged, and of those among them that are in flight.
  package private(set) var waitingBytes = 0
  private var flyingBytes = 0
  private var lastSent: UInt64 = 0
  private var lastReceived: UInt64 = 0
  private struct Unacknowledged {
    var sequence: UInt64
    var message: Message
    /// Its last transmission, 0 while it waits for room in the window.
    var transmission: UInt64 = 0
    var sentAt = Instant(nanoseconds: 0)
    /// More than one transmission: an acknowledgement does not say of which.
    var isRepeated = false
  }
  /// Sent and not acknowledged, oldest first, then those that wait for room in the window.
  private var unacknowledged: [Unacknowledged] = []
  private var lastTransmission: UInt64 = 0
  private var seen: UInt64 = 0
  private var sentUpTo: UInt64 = 0
  private var repeatAt: Instant?
  private var repeatAfter = ReliableLink.firstRepeat
  private var acknowledgeAt: Instant?
  private var conversation: UInt64 = 0
  private var peerConversation: UInt64 = 0
  /// Incarnations that were replaced, newest last: their late packets are not a restart.
  private var formerPeers: [UInt64] = []
  private static var formerPeerLimit: Int { 16 }

  /// `incarnation` is a number that no other process uses, never 0. With `peer`, packets of any other are dropped: the fence
  /// between generations.
  /// - Parameter byteCount: of a message, for the bounds on bytes; 0 where nobody asks.
  package init(
    incarnation: UInt64, peer: UInt64? = nil, byteCount: @escaping @Sendable (Message) -> Int = { _ in 0 }
  ) {
    self.byteCount = byteCount
    precondition(incarnation != 0 && peer != 0)
    self.incarnation = incarnation
    self.peer = peer ?? 0
    peerIsFixed = peer != nil
  }

  /// Nothing is under way and nothing is owed.
  package var isIdle: Bool { unacknowledged.isEmpty && acknowledgeAt == nil }
  package var unacknowledgedCount: Int { unacknowledged.count }

  /// Takes a message and returns the packets to send now.
  package mutating func send(_ message: Message, at now: Instant) -> [Packet] {
    lastSent += 1
    unacknowledged.append(Unacknowledged(sequence: lastSent, message: message))
    waitingBytes += byteCount(message)
    return release(at: now)
  }

  package mutating func receive(_ header: LinkHeader, _ message: Message?, at now: Instant) -> (Arrival, [Packet]) {
    var arrival = Arrival()
    // A packet for the process that was here before: its sender will hear of the change from our next one.
    guard header.peer == 0 || header.peer == incarnation else {
      acknowledgeAt = acknowledgeAt ?? now
      return (arrival, [])
    }
    if header.incarnation != peer {
      guard !peerIsFixed, !formerPeers.contains(header.incarnation) else { return (arrival, []) }
      // Another process at the other end. One heard of for the first time is no restart.
      arrival.peerRestarted = peer != 0
      if arrival.peerRestarted { beginAnew() }
      peer = header.incarnation
      peerConversation = header.conversation
      lastReceived = 0
      seen = 0
    }
    // A packet from before its sender began anew counts messages that no longer matter.
    guard header.conversation >= peerConversation else { return (arrival, release(at: now)) }
    if header.conversation > peerConversation {
      peerConversation = header.conversation
      lastReceived = 0
      seen = 0
    }
    var repeats: [Packet] = []
    if header.peer == incarnation && header.acknowledgedConversation == conversation {
      acknowledge(header.acknowledged, at: now)
      repeats = repeatLost(before: header.seen, at: now)
    }
    if header.sequence > 0 {
      seen = max(seen, header.transmission)
      if header.sequence == lastReceived + 1, let message {
        lastReceived += 1
        arrival.delivered = message
        acknowledgeAt = acknowledgeAt ?? now + ReliableLink.acknowledgeWithin
      } else {
        // A repeat, or one whose predecessor is missing: say at once where we are.
        acknowledgeAt = now
      }
    }
    return (arrival, repeats + release(at: now))
  }

  /// What time brings: repeats and acknowledgements that are due.
  package mutating func tick(at now: Instant) -> [Packet] {
    var packets: [Packet] = []
    if let due = repeatAt, due <= now {
      packets.append(transmit(0, at: now))
      repeatAfter = min(repeatAfter * 2, ReliableLink.slowestRepeat)
      repeatAt = now + repeatAfter
    }
    if packets.isEmpty, let due = acknowledgeAt, due <= now { packets.append(packet(0, nil)) }
    if !packets.isEmpty { acknowledgeAt = nil }
    return packets
  }

  /// When `tick` has something to do, unless something happens before.
  package var nextTick: Instant? {
    switch (repeatAt, acknowledgeAt) {
    case (let x?, let y?): min(x, y)
    case (let x, let y): x ?? y
    }
  }

  /// The peer was replaced: what was under way to it is gone, and its successor counts our messages from 1.
  private mutating func beginAnew() {
    formerPeers.append(peer)
    if formerPeers.count > ReliableLink.formerPeerLimit { formerPeers.removeFirst() }
    unacknowledged = []
    (waitingBytes, flyingBytes) = (0, 0)
    lastSent = 0
    lastTransmission = 0
    sentUpTo = 0
    repeatAt = nil
    conversation += 1
  }

  private mutating func acknowledge(_ upTo: UInt64, at now: Instant) {
    guard let first = unacknowledged.first?.sequence, upTo >= first, upTo <= sentUpTo else { return }
    let newest = unacknowledged[Int(upTo - first)]
    for arrived in unacknowledged.prefix(Int(upTo - first) + 1) {
      waitingBytes -= byteCount(arrived.message)
      flyingBytes -= byteCount(arrived.message)
    }
    unacknowledged.removeFirst(Int(upTo - first) + 1)
    if !newest.isRepeated {
      repeatAfter = min(max((now - newest.sentAt) * 2, ReliableLink.firstRepeat), ReliableLink.slowestRepeat)
    }
    repeatAt = unacknowledged.isEmpty ? nil : now + repeatAfter
  }

  /// Repeats what was under way when the peer saw a later transmission.
  private mutating func repeatLost(before seen: UInt64, at now: Instant) -> [Packet] {
    var packets: [Packet] = []
    for index in unacknowledged.indices {
      guard unacknowledged[index].sequence <= sentUpTo else { break }
      if unacknowledged[index].transmission <= seen { packets.append(transmit(index, at: now)) }
    }
    return packets
  }

  private mutating func transmit(_ index: Int, at now: Instant) -> Packet {
    lastTransmission += 1
    unacknowledged[index].isRepeated = unacknowledged[index].transmission != 0
    unacknowledged[index].transmission = lastTransmission
    unacknowledged[index].sentAt = now
    return packet(unacknowledged[index].sequence, unacknowledged[index].message, transmission: lastTransmission)
  }

  /// Sends what the window has room for.
  private mutating func release(at now: Instant) -> [Packet] {
    var packets: [Packet] = []
    guard let first = unacknowledged.first?.sequence else { return packets }
    let limit = min(lastSent, first + UInt64(ReliableLink.window) - 1)
    while sentUpTo < limit {
      let next = max(sentUpTo + 1, first)
      let size = byteCount(unacknowledged[Int(next - first)].message)
      guard flyingBytes == 0 || flyingBytes + size <= ReliableLink.windowBytes else { break }
      flyingBytes += size
      sentUpTo = next
      packets.append(transmit(Int(sentUpTo - first), at: now))
    }
    if !packets.isEmpty {
      acknowledgeAt = nil
      if repeatAt == nil { repeatAt = now + repeatAfter }
    }
    return packets
  }

  private func packet(_ sequence: UInt64, _ message: Message?, transmission: UInt64 = 0) -> Packet {
    Packet(
      header: LinkHeader(
        incarnation: incarnation, peer: peer, sequence: sequence, acknowledged: lastReceived,
        conversation: conversation,
        acknowledgedConversation: peerConversation, transmission: transmission, seen: seen), message: message)
  }
}
