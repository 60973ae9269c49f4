// Messages that arrive once, in order, or not at all with notice: what libzmq alone does not promise. A link cut and healed
// was seen to lose messages silently (16 of 200), because a reconnecting socket forgets what its peer never read.
//
// Every packet carries a sequence number and what its sender has received so far. The receiver takes only the packet it
// expects (go-back-N: loss is rare and order is what a healthy connection gives), and the sender repeats what stays
// unacknowledged. A process that restarts has a new incarnation; numbers of different incarnations never mix.
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

  package init(
    incarnation: UInt64, peer: UInt64, sequence: UInt64, acknowledged: UInt64, conversation: UInt64 = 0,
    acknowledgedConversation: UInt64 = 0
  ) {
    self.incarnation = incarnation
    self.peer = peer
    self.sequence = sequence
    self.acknowledged = acknowledged
    self.conversation = conversation
    self.acknowledgedConversation = acknowledgedConversation
  }

  static let magic: UInt32 = 0x5353_4552  // "RESS"
  static let version: UInt16 = 1
  package static let byteCount = 4 + 2 + 6 * 8 + 4

  package func encoded() -> [UInt8] {
    var writer = ByteWriter()
    writer.write(LinkHeader.magic)
    writer.write(LinkHeader.version)
    let numbers = [incarnation, peer, sequence, acknowledged, conversation, acknowledgedConversation]
    for number in numbers { writer.write(number) }
    writer.write(writer.bytes.withUnsafeBytes { crc32c($0) })
    return writer.bytes
  }

  package init(_ bytes: [UInt8]) throws(WireError) {
    guard bytes.count == LinkHeader.byteCount else { throw .malformed("a link header of \(bytes.count) bytes") }
    var reader = ByteReader(bytes)
    guard reader.read(UInt32.self) == LinkHeader.magic else { throw .malformed("no ress message") }
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
    let sum = bytes.dropLast(4).withUnsafeBytes { crc32c($0) }
    guard reader.read(UInt32.self) == sum else { throw .malformed("a link header's CRC-32C") }
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

  /// Unacknowledged messages are repeated after this long, then after twice as long, up to the limit.
  package static var firstRepeat: Duration { .milliseconds(300) }
  package static var slowestRepeat: Duration { .seconds(3) }
  /// An arrival is acknowledged at most this much later, or with the next message out.
  package static var acknowledgeWithin: Duration { .milliseconds(20) }
  /// Messages in flight; more wait here for acknowledgements.
  package static var window: Int { 512 }

  private let incarnation: UInt64
  private var peer: UInt64
  private let peerIsFixed: Bool
  private var lastSent: UInt64 = 0
  private var lastReceived: UInt64 = 0
  /// Sent and not acknowledged, oldest first, then those that wait for room in the window.
  private var unacknowledged: [(sequence: UInt64, message: Message)] = []
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
  package init(incarnation: UInt64, peer: UInt64? = nil) {
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
    unacknowledged.append((lastSent, message))
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
    }
    // A packet from before its sender began anew counts messages that no longer matter.
    guard header.conversation >= peerConversation else { return (arrival, release(at: now)) }
    if header.conversation > peerConversation {
      peerConversation = header.conversation
      lastReceived = 0
    }
    if header.acknowledged > 0 && header.acknowledgedConversation == conversation {
      acknowledge(header.acknowledged, at: now)
    }
    if header.sequence > 0 {
      if header.sequence == lastReceived + 1, let message {
        lastReceived += 1
        arrival.delivered = message
        acknowledgeAt = acknowledgeAt ?? now + ReliableLink.acknowledgeWithin
      } else {
        // A repeat, or one whose predecessor is missing: say at once where we are.
        acknowledgeAt = now
      }
    }
    return (arrival, release(at: now))
  }

  /// What time brings: repeats and acknowledgements that are due.
  package mutating func tick(at now: Instant) -> [Packet] {
    var packets: [Packet] = []
    if let due = repeatAt, due <= now {
      for (sequence, message) in unacknowledged where sequence <= sentUpTo { packets.append(packet(sequence, message)) }
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
    lastSent = 0
    sentUpTo = 0
    repeatAt = nil
    conversation += 1
  }

  private mutating func acknowledge(_ upTo: UInt64, at now: Instant) {
    guard let first = unacknowledged.first?.sequence, upTo >= first, upTo <= lastSent else { return }
    unacknowledged.removeFirst(min(Int(upTo - first) + 1, unacknowledged.count))
    repeatAfter = ReliableLink.firstRepeat
    repeatAt = unacknowledged.isEmpty ? nil : now + repeatAfter
  }

  /// Sends what the window has room for.
  private mutating func release(at now: Instant) -> [Packet] {
    var packets: [Packet] = []
    guard let first = unacknowledged.first?.sequence else { return packets }
    let limit = min(lastSent, first + UInt64(ReliableLink.window) - 1)
    while sentUpTo < limit {
      sentUpTo = max(sentUpTo + 1, first)
      packets.append(packet(sentUpTo, unacknowledged[Int(sentUpTo - first)].message))
    }
    if !packets.isEmpty {
      acknowledgeAt = nil
      if repeatAt == nil { repeatAt = now + repeatAfter }
    }
    return packets
  }

  private func packet(_ sequence: UInt64, _ message: Message?) -> Packet {
    Packet(
      header: LinkHeader(
        incarnation: incarnation, peer: peer, sequence: sequence, acknowledged: lastReceived,
        conversation: conversation,
        acknowledgedConversation: peerConversation), message: message)
  }
}
