// Delivers messages once and in order, or reports that the peer was replaced. libzmq alone does not promise that:
// when a connection was cut and restored, messages were lost silently (16 of 200 in a test), because a socket that
// reconnects forgets what its peer had not read.
//
// Every packet carries a sequence number and the number of messages that its sender has received in order. The
// receiver accepts only the next message in sequence and drops others (go-back-N): loss is rare, and a healthy
// connection keeps the order. A process that restarts has a new incarnation number, and sequence numbers of
// different incarnations are never compared.
//
// Which messages to repeat, and when. Each transmission has a number too, and the receiver reports the newest
// transmission that it saw. A connection keeps order, so a message that was transmitted before that one and is not
// acknowledged was lost; it is repeated immediately. Where the peer is silent, a timer decides, and then only the
// oldest message is repeated: the answer to it shows which others are missing. The first version repeated the whole
// window instead, and sent ten messages of 40 MB 65 times over a gigabit link.
//
// The link is a value without a clock or socket. Its owner passes it packets and the time, and sends the packets
// that it returns. `send`, `receive` and `tick` are all its operations.
//
// Rejected: selective repeat, which pays off where loss is common; and relying on TCP, whose guarantee ends with
// the connection.

import Checksum

/// The header of every packet.
package struct LinkHeader: Equatable, Sendable {
  /// Incarnation of the sending process (or, between workers, of its part in a generation).
  package var incarnation: UInt64
  /// Incarnation of the receiver, as the sender knows it; 0 while it does not know it.
  package var peer: UInt64
  /// Number of the message in this packet, from 1; 0 where the packet carries only an acknowledgement.
  package var sequence: UInt64
  /// Every message of the receiver up to this number has arrived.
  package var acknowledged: UInt64
  /// How often the sender has restarted its numbering, because its peer was replaced by a new process. A packet of
  /// an older conversation may arrive after the first packet of a newer one and must not be mistaken for part of
  /// it.
  package var conversation: UInt64
  /// The receiver's conversation that `acknowledged` refers to.
  package var acknowledgedConversation: UInt64
  /// Number of this transmission, from 1, restarted with each conversation; 0 where the packet carries no message.
  package var transmission: UInt64
  /// Number of the newest transmission of the receiver that has arrived.
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

  /// Layout: magic, version, the eight fields in the order above, CRC-32C of what precedes it; little-endian.
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

/// The link between this process and one other, in both directions.
package struct ReliableLink<Message> {
  package struct Packet {
    package var header: LinkHeader
    package var message: Message?
  }

  /// The result of a received packet.
  package struct Arrival {
    /// The message, if it is the next one in sequence.
    package var delivered: Message?
    /// The peer is a new process; messages that were sent to the old one and not acknowledged are lost.
    package var peerRestarted = false
  }

  /// The oldest unacknowledged message is repeated after this time, or after twice the last round trip if that is
  /// longer. The interval doubles with every repeat, up to `slowestRepeat`.
  static var firstRepeat: Duration { .milliseconds(300) }
  package static var slowestRepeat: Duration { .seconds(3) }
  /// An arrival is acknowledged after this time at the latest, or with the next message sent.
  static var acknowledgeWithin: Duration { .milliseconds(20) }
  /// Most messages in flight; further ones wait until earlier ones are acknowledged.
  package static var window: Int { 512 }
  /// Most bytes in flight, where the link knows the sizes of its messages; a single larger message is permitted. At
  /// 10 Gbit/s this takes more than twice `acknowledgeWithin`, so waiting for acknowledgements does not slow the
  /// connection.
  package static var windowBytes: Int { 64 << 20 }

  private let incarnation: UInt64
  private var peer: UInt64
  private let peerIsFixed: Bool
  private let byteCount: @Sendable (Message) -> Int
  /// Bytes of messages that are not acknowledged, and of those among them that are in flight.
  package private(set) var waitingBytes = 0
  private var flyingBytes = 0
  private var lastSent: UInt64 = 0
  private var lastReceived: UInt64 = 0
  private struct Unacknowledged {
    var sequence: UInt64
    var message: Message
    /// Number of its last transmission; 0 while it waits for room in the window.
    var transmission: UInt64 = 0
    var sentAt = Instant(nanoseconds: 0)
    /// Whether it was transmitted more than once. Its round trip cannot be measured then, because an
    /// acknowledgement does not tell which transmission it answers (Karn's algorithm, RFC 6298).
    var isRepeated = false
  }
  /// Messages in flight, oldest first, followed by those that wait for room in the window.
  private var unacknowledged: [Unacknowledged] = []
  private var lastTransmission: UInt64 = 0
  /// Newest transmission of the peer that has arrived.
  private var seen: UInt64 = 0
  /// Newest message that was transmitted at least once.
  private var sentUpTo: UInt64 = 0
  private var repeatAt: Instant?
  private var repeatAfter = ReliableLink.firstRepeat
  private var acknowledgeAt: Instant?
  private var conversation: UInt64 = 0
  private var peerConversation: UInt64 = 0
  /// Earlier incarnations of the peer, newest last. Their late packets must not be taken for another restart.
  private var formerPeers: [UInt64] = []
  private static var formerPeerLimit: Int { 16 }

  /// - Parameters:
  ///   - incarnation: a number that no other process uses, never 0.
  ///   - peer: where given, packets of any other incarnation are dropped. This keeps generations of a run apart.
  ///   - byteCount: size of a message, for the limits in bytes; the default disables those limits.
  package init(
    incarnation: UInt64, peer: UInt64? = nil, byteCount: @escaping @Sendable (Message) -> Int = { _ in 0 }
  ) {
    self.byteCount = byteCount
    precondition(incarnation != 0 && peer != 0)
    self.incarnation = incarnation
    self.peer = peer ?? 0
    peerIsFixed = peer != nil
  }

  /// Whether nothing waits for an acknowledgement and no acknowledgement is due.
  package var isIdle: Bool { unacknowledged.isEmpty && acknowledgeAt == nil }
  package var unacknowledgedCount: Int { unacknowledged.count }

  /// Accepts a message and returns the packets to send now; an empty list while the window is full.
  package mutating func send(_ message: Message, at now: Instant) -> [Packet] {
    lastSent += 1
    unacknowledged.append(Unacknowledged(sequence: lastSent, message: message))
    waitingBytes += byteCount(message)
    return release(at: now)
  }

  /// Processes a packet of the peer. Returns the message that it delivered, if any, and the packets to send now.
  package mutating func receive(_ header: LinkHeader, _ message: Message?, at now: Instant) -> (Arrival, [Packet]) {
    var arrival = Arrival()
    // The packet is addressed to an earlier process under this address. Our next packet shows the sender our
    // incarnation.
    guard header.peer == 0 || header.peer == incarnation else {
      acknowledgeAt = acknowledgeAt ?? now
      return (arrival, [])
    }
    if header.incarnation != peer {
      guard !peerIsFixed, !formerPeers.contains(header.incarnation) else { return (arrival, []) }
      // The peer is another process than before. The first one that is ever seen is not a restart.
      arrival.peerRestarted = peer != 0
      if arrival.peerRestarted { beginAnew() }
      peer = header.incarnation
      peerConversation = header.conversation
      lastReceived = 0
      seen = 0
    }
    // The packet was sent before its sender restarted its numbering; its numbers no longer mean anything.
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
        // A repeated message, or one whose predecessor is missing: acknowledge at once, to show the sender what is
        // missing.
        acknowledgeAt = now
      }
    }
    return (arrival, repeats + release(at: now))
  }

  /// Returns the packets that are due at this time: repeats and acknowledgements.
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

  /// The time at which `tick` must be called next, unless a message or packet comes first; nil where nothing is due.
  package var nextTick: Instant? {
    switch (repeatAt, acknowledgeAt) {
    case (let x?, let y?): min(x, y)
    case (let x, let y): x ?? y
    }
  }

  /// The peer was replaced: what was in flight is lost, and the new process expects messages numbered from 1.
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

  /// Removes the messages up to number `upTo` and restarts the timer. Numbers outside the window are ignored: they
  /// are late.
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

  /// Repeats the messages whose last transmission is not newer than the one that the peer reports as seen.
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

  /// Transmits waiting messages while the window has room for them.
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
