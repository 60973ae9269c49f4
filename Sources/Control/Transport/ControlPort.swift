// The two ends of the control plane: the coordinator's port (`ControlPort`), to which many processes connect, and a
// process's connection to it (`ControlConnection`). Both exchange typed messages, delivered once and in order.
// Frames, sequence numbers and repeats (`ReliableLink`) do not appear outside this file.
//
// The port defends the coordinator against its clients: the number of processes and of connections, their rate, the
// replies that wait for them, and the memory of unread bytes are all limited, in total and for each key.

import Wire

/// The coordinator's end: one ROUTER socket, and a reliable link for each process that has sent something.
package final class ControlPort {
  private let socket: Socket
  private let incarnation: UInt64
  private var links: [PeerID: ReliableLink<[UInt8]>] = [:]
  private var lastHeard: [PeerID: Instant] = [:]
  private let watch: ConnectionWatch
  /// Number of links made so far. Each link gets an incarnation of its own, so that a process which was forgotten
  /// and sends again sees that its conversation starts anew.
  private var madeLinks: UInt64 = 0
  /// Peers that were forgotten in `send`, to be reported by the next `tick`.
  private var dropped: Set<PeerID> = []
  private var remarks: [String] = []
  /// The connection that each process used last.
  private var connections: [PeerID: Int32] = [:]
  private var strangers: Strangers
  /// Connections that were closed since the last call of `takeDisconnected`.
  private var closed: Set<Int32> = []
  /// The key that each process has authenticated with.
  private var users: [PeerID: PublicKey] = [:]
  private let rate: RateLimit.Rate
  private var limits: [PeerID: RateLimit] = [:]
  /// When a process was last reported for exceeding its rate.
  private var scolded: [PeerID: Instant] = [:]
  package let endpoint: String

  /// A peer that has been silent for this long is forgotten; a live one sends several times a second.
  private static let forgetAfter = Duration.seconds(120)
  /// Most processes at the same time.
  private static let peerLimit = 4096
  /// Most processes of one key, so that no key can use up all places.
  private static let peersAKey = 1024
  /// Most replies, and most bytes of them, that may wait for a peer's acknowledgement. A peer that asks and does
  /// not read its answers is forgotten.
  private static let waitingReplies = 4096
  private static let waitingBytes = 16 << 20

  /// - Parameter connectionLimit: most connections at the same time; nil leaves enough descriptors for the
  ///   process's files.
  package init(
    listen: String, insecure: Bool, door: Door = .open, incarnation: UInt64, rate: RateLimit.Rate = .standard,
    connectionLimit: Int? = nil, _ context: SocketContext
  ) throws(TransportError) {
    self.rate = rate
    strangers = connectionLimit.map { Strangers(limit: $0) } ?? Strangers()
    socket = try Socket(.router, context, watch: .kernel, largestFrame: Socket.largestControlFrame)
    watch = try ConnectionWatch(socket, .control, context)
    endpoint = try socket.bind(listen, insecure: insecure, door: door)
    self.incarnation = incarnation
  }

  /// Processes whose connection was closed since the last call and that have not used another connection since.
  package func takeDisconnected() -> [PeerID] {
    heed()
    for connection in strangers.surplus(known: connections.count) { socket.cut(connection) }
    defer { closed = [] }
    guard !closed.isEmpty else { return [] }
    let gone = connections.filter { closed.contains($0.value) }.keys.sorted()
    for peer in gone { connections[peer] = nil }
    return gone
  }

  /// Processes the events of connections.
  private func heed() {
    for event in watch.takeEvents() {
      switch event {
      case .began(let connection): strangers.began(connection)
      case .closed(let connection):
        strangers.closed(connection)
        closed.insert(connection)
      }
    }
  }

  /// Cuts the connections of all processes whose key is revoked, and forgets the processes.
  package func cut(where isRevoked: (PublicKey) -> Bool) {
    for (peer, user) in users where isRevoked(user) {
      if let connection = connections[peer] { socket.cut(connection) }
      forget(peer)
    }
  }

  /// Sentences for the log: connections that were cut, peers that did not read their answers.
  package func takeRemarks() -> [String] {
    defer { remarks = [] }
    return remarks
  }

  /// Whether a peer has acknowledged all its replies.
  package func hasTakenAll(_ peer: PeerID) -> Bool { links[peer].map { $0.unacknowledgedCount == 0 } ?? false }

  /// The key that a process has authenticated with; nil without encryption.
  package func user(of peer: PeerID) -> PublicKey? { users[peer] }

  private func newLink() -> ReliableLink<[UInt8]> {
    defer { madeLinks += 1 }
    return ReliableLink(incarnation: incarnation &+ 2 &* madeLinks) { $0.count }
  }

  private func forget(_ peer: PeerID) {
    links[peer] = nil
    lastHeard[peer] = nil
    connections[peer] = nil
    users[peer] = nil
    limits[peer] = nil
    scolded[peer] = nil
  }

  /// Whether a process that is not known yet can be accepted.
  private func hasPlace(for user: PublicKey?) -> Bool {
    guard links.count < ControlPort.peerLimit else { return false }
    guard let user else { return true }
    return users.values.count { $0 == user } < ControlPort.peersAKey
  }

  /// Blocks until a message or connection event arrives, the wake-up is signalled, or the timeout has passed.
  package func wait(_ wake: WakeUp?, timeoutMilliseconds: Int) {
    Poller.wait([socket], wake, monitor: watch.monitor, timeoutMilliseconds: timeoutMilliseconds)
  }

  /// Calls `request` for each complete request, in order per process, and `unreadable` for what could not be read.
  package func receive(
    at now: Instant, request: (PeerID, PublicKey?, Request) -> Void, unreadable: (PeerID, WireError) -> Void
  ) {
    // The number of messages per turn is limited, so that a flood cannot delay the coordinator's timers.
    for _ in 0..<1024 {
      guard let frames = socket.receive() else { return }
      watch.delivered(frames)
      guard frames.count >= 2 else { continue }
      let peer = PeerID(frames[0].array)
      do {
        let header = try LinkHeader(frames[1].array)
        guard links[peer] != nil || hasPlace(for: socket.lastUser) else { continue }
        // A process keeps its key: another key cannot send under the identity of a known process.
        guard links[peer] == nil || users[peer] == socket.lastUser else { continue }
        let byteCount = frames.reduce(0) { $0 + $1.bytes.count }
        guard limits[peer, default: RateLimit(rate, at: now)].admits(byteCount: byteCount, at: now) else {
          // The packet proves that the peer is alive, so it does not count as silence, but it is dropped. The link
          // repeats it.
          if links[peer] != nil { lastHeard[peer] = now }
          if scolded[peer].map({ $0 + .seconds(10) < now }) ?? true {
            scolded[peer] = now
            unreadable(peer, .damagedPacket("it sends more than \(Int(rate.packetsPerSecond)) packets a second"))
          }
          continue
        }
        users[peer] = socket.lastUser
        lastHeard[peer] = now
        if connections[peer] != socket.lastSource {
          // The connection's opening may not have been processed yet; processed later, it would count as a
          // stranger.
          heed()
          strangers.spoke(socket.lastSource)
        }
        connections[peer] = socket.lastSource
        var link = links[peer] ?? newLink()
        let (arrival, packets) = link.receive(header, frames.count > 2 ? frames[2].array : nil, at: now)
        links[peer] = link
        transmit(packets, to: peer)
        guard let frame = arrival.delivered else { continue }
        do throws(WireError) { request(peer, users[peer], try ControlCodec.decode(Request.self, from: frame)) } catch {
          unreadable(peer, error)
        }
      } catch {
        unreadable(peer, error)
      }
    }
  }

  /// Sends a reply. It does nothing where the peer has been forgotten, because nothing would ever acknowledge the
  /// reply.
  package func send(_ reply: Reply, to peer: PeerID, at now: Instant) {
    guard var link = links[peer] else { return }
    let packets = link.send(ControlCodec.encode(reply), at: now)
    guard link.unacknowledgedCount <= Self.waitingReplies, link.waitingBytes <= Self.waitingBytes else {
      remarks.append(
        "process \(peer) was dropped: it has not read \(link.unacknowledgedCount) answers of \(link.waitingBytes >> 10) KiB"
      )
      if let connection = connections[peer] { socket.cut(connection) }
      forget(peer)
      dropped.insert(peer)
      return
    }
    links[peer] = link
    transmit(packets, to: peer)
  }

  /// Sends repeats and acknowledgements that are due, and cuts connections with too much backlog. Returns the peers
  /// that were forgotten since the last call.
  @discardableResult
  package func tick(at now: Instant) -> [PeerID] {
    var forgotten = dropped.sorted()
    dropped = []
    remarks += watch.cutOverdrawn(at: now)
    for peer in links.keys.sorted() {
      if let heard = lastHeard[peer], heard + ControlPort.forgetAfter < now {
        forget(peer)
        forgotten.append(peer)
        continue
      }
      let packets = links[peer]!.tick(at: now)
      transmit(packets, to: peer)
    }
    return forgotten
  }

  package var nextTick: Instant? { links.values.compactMap(\.nextTick).min() }

  /// Whether every reply has been acknowledged.
  package var isIdle: Bool { links.values.allSatisfy { $0.unacknowledgedCount == 0 } }

  private func transmit(_ packets: [ReliableLink<[UInt8]>.Packet], to peer: PeerID) {
    for packet in packets {
      var frames: [Frame] = [.bytes(peer.bytes), .bytes(packet.header.encoded())]
      if let message = packet.message { frames.append(.bytes(message)) }
      _ = socket.send(frames)
    }
  }
}

/// A worker's or a command's end: one DEALER socket, connected to the coordinator.
package final class ControlConnection {
  package let socket: Socket
  private var link: ReliableLink<[UInt8]>
  package let endpoint: String

  package init(
    to endpoint: String, door: Door = .open, incarnation: UInt64, _ context: SocketContext
  ) throws(TransportError) {
    guard endpoint.hasPrefix("tcp://") || endpoint.hasPrefix("ipc://") else { throw .badEndpoint(endpoint) }
    // The identity under which the ROUTER knows this process: 0x01 and the incarnation. Identities that begin with
    // 0 belong to libzmq.
    socket = try Socket(
      .dealer, context, identity: [1] + withUnsafeBytes(of: incarnation.littleEndian) { Array($0) }, watch: .kernel,
      largestFrame: Socket.largestControlFrame)
    try socket.connect(endpoint, door: door)
    link = ReliableLink(incarnation: incarnation)
    self.endpoint = endpoint
  }

  /// Sends a request through the reliable link, which repeats it until it is acknowledged.
  package func send(_ request: Request, at now: Instant) {
    transmit(link.send(ControlCodec.encode(request), at: now))
  }

  /// Calls `reply` for each reply, in order. `restarted` is called when the coordinator is another process than
  /// before.
  package func receive(at now: Instant, reply: (Reply) -> Void, restarted: () -> Void, unreadable: (WireError) -> Void)
  {
    while let frames = socket.receive() {
      guard let first = frames.first else { continue }
      do throws(WireError) {
        let header = try LinkHeader(first.array)
        let (arrival, packets) = link.receive(header, frames.count > 1 ? frames[1].array : nil, at: now)
        transmit(packets)
        if arrival.peerRestarted { restarted() }
        if let frame = arrival.delivered { reply(try ControlCodec.decode(Reply.self, from: frame)) }
      } catch {
        unreadable(error)
      }
    }
  }

  /// Repeats and acknowledges what is due. To be called at `nextTick`.
  package func tick(at now: Instant) { transmit(link.tick(at: now)) }
  package var nextTick: Instant? { link.nextTick }
  /// Whether everything that was sent has been acknowledged.
  package var isIdle: Bool { link.unacknowledgedCount == 0 }

  private func transmit(_ packets: [ReliableLink<[UInt8]>.Packet]) {
    for packet in packets {
      var frames: [Frame] = [.bytes(packet.header.encoded())]
      if let message = packet.message { frames.append(.bytes(message)) }
      _ = socket.send(frames)
    }
  }
}
