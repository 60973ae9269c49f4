// A worker's end of the data plane over ZeroMQ: one ROUTER socket that peers connect to, a DEALER socket to each
// peer, and a reliable link with each. Links belong to one generation. Packets of any other generation are dropped,
// so that a worker which was declared lost but is still running cannot disturb its successors. Large messages
// travel in pieces (`DataPiece`).

import Wire

package final class DataPort: DataPlane {
  private let context: SocketContext
  private let router: Socket
  private let watch: ConnectionWatch
  package let endpoint: String
  /// A Unix socket, where the endpoint is not one: for peers on the same machine. Its name is abstract (unix(7)), so
  /// that no file is left and no path can be too long. Keys are checked as at the endpoint.
  package private(set) var localEndpoint: String?
  private var dealers: [Int: Socket] = [:]
  private var links: [Int: ReliableLink<DataPiece>] = [:]
  private var assemblies: [Int: DataAssembly] = [:]
  /// Reports about connections that were cut, passed on with the next arrivals.
  private var remarks: [String] = []
  /// Peer index by the incarnation in its packets.
  private var senders: [UInt64: Int] = [:]

  private let keys: KeyPair?
  private let gatekeeper: Gatekeeper?
  /// The public keys of this generation's peers.
  private let allowed = AllowedKeys()

  /// - Parameter keys: this worker's keys; nil sends data without encryption.
  package init(listen: String, insecure: Bool, keys: KeyPair? = nil, _ context: SocketContext) throws(TransportError) {
    self.context = context
    self.keys = keys
    router = try Socket(.router, context, watch: Socket.watch(listen, peers: 1))
    watch = try ConnectionWatch(router, .data, context, countsBytes: !listen.hasPrefix("ipc://"))
    let allowed = allowed
    gatekeeper = try keys.map { _ throws(TransportError) in
      try Gatekeeper(context, hold: .seconds(2)) { allowed.contains($0) }
    }
    endpoint = try router.bind(listen, insecure: insecure, door: keys.map { .guarded($0) } ?? .open)
    guard endpoint.hasPrefix("tcp://") else { return }
    var random = SystemRandomNumberGenerator()
    let name = LocalSocket.prefix + String(random.next() as UInt64, radix: 16)
    // Without it, peers of this machine use the endpoint.
    localEndpoint = try? router.bind(name, door: keys.map { .guarded($0) } ?? .open)
  }

  deinit { gatekeeper?.close() }

  /// Connects to the peers of a generation. Messages of the generation before are dropped.
  package func open(_ assignment: Assignment) throws(TransportError) {
    close()
    let mine = assignment.incarnation(assignment.index)
    let largest = DataPiece.largestMessage(of: assignment.configuration)
    allowed.replace(Set(assignment.peers.compactMap(\.publicKey)))
    for (index, peer) in assignment.peers.enumerated() where index != assignment.index {
      let address = LocalSocket.address(
        of: peer, from: assignment.peers[assignment.index], assignment.configuration.cluster.sameMachine)
      let dealer = try Socket(
        .dealer, context, watch: Socket.watch(address, peers: assignment.peers.count))
      try dealer.connect(address, door: try door(to: peer))
      dealers[index] = dealer
      let theirs = assignment.incarnation(index)
      links[index] = ReliableLink(incarnation: mine, peer: theirs) { $0.range.count }
      senders[theirs] = index
      assemblies[index] = DataAssembly(largest: largest)
    }
  }

  private func door(to peer: WorkerDescription) throws(TransportError) -> Door {
    guard let keys else { return .open }
    guard let server = peer.publicKey else { throw .peerWithoutKey(peer.name) }
    return .known(keys, server: server)
  }

  /// Ends the generation: connections to its peers are closed, and packets that still arrive from them are dropped.
  package func close() {
    dealers = [:]
    links = [:]
    assemblies = [:]
    senders = [:]
  }

  package var sockets: [Socket] { [router] }

  /// Sends a message to a peer of the open generation; without one, the message is dropped.
  package func send(_ message: DataMessage, to index: Int, at now: Instant) {
    for piece in DataPiece.pieces(of: message) {
      guard let packets = links[index]?.send(piece, at: now) else { return }
      transmit(packets, to: index)
    }
  }

  /// Passes on everything that has arrived from this generation's peers. A packet whose checksum is wrong is
  /// dropped; its sender repeats it.
  package func receive(at now: Instant, _ arrived: (DataArrival) -> Void) {
    for remark in remarks { arrived(.repeated(reason: remark)) }
    remarks = []
    while let frames = router.receive() {
      watch.delivered(frames)
      guard frames.count == 2 || frames.count == 4 else { continue }
      do throws(WireError) {
        let header = try LinkHeader(frames[1].array)
        guard let sender = senders[header.incarnation] else { continue }
        let content = frames.count == 4 ? try DataPiece(header: frames[2].array, payload: frames[3]) : nil
        if let content, Int(content.header.sender) != sender {
          throw .malformed("worker \(sender) of the roster sent a message as worker \(content.header.sender)")
        }
        let (arrival, packets) = links[sender]!.receive(header, content, at: now)
        transmit(packets, to: sender)
        guard let delivered = arrival.delivered else { continue }
        do throws(WireError) {
          if let message = try assemblies[sender]!.take(delivered) {
            arrived(.message(message))
          }
        } catch {
          // The piece was acknowledged, so it will not be repeated.
          arrived(.damaged(reason: "data of worker \(sender) of the roster cannot be put together: \(error)"))
        }
      } catch {
        arrived(.repeated(reason: "data from a peer was dropped and will be repeated: \(error)"))
      }
    }
  }

  /// Repeats and acknowledges what is due on every link, and cuts connections with too many unread bytes.
  package func tick(at now: Instant) {
    remarks += watch.cutOverdrawn(at: now)
    _ = watch.takeEvents()
    for index in links.keys.sorted() { transmit(links[index]!.tick(at: now), to: index) }
  }

  package var nextTick: Instant? { links.values.compactMap(\.nextTick).min() }
  package var isIdle: Bool { links.values.allSatisfy { $0.unacknowledgedCount == 0 } }

  private func transmit(_ packets: [ReliableLink<DataPiece>.Packet], to index: Int) {
    for packet in packets {
      var frames: [Frame] = [.bytes(packet.header.encoded())]
      if let message = packet.message {
        frames.append(.bytes(message.encodedHeader()))
        frames.append(.payload(message.payload, message.range))
      }
      _ = dealers[index]?.send(frames)
    }
  }
}
