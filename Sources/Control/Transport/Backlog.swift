// Limits the memory that a connection's unread bytes can take.
//
// libzmq limits the size of a frame and the number of complete messages, but not the size of a message of many
// frames: it keeps all frames until the last one has arrived. A client with any permitted key could make a process
// take 3 GB in 25 seconds that way, and libzmq has no option against it. Therefore the kernel is asked how many
// bytes each connection has received in total (`Socket.receivedBytes`), and the bytes of delivered messages are
// subtracted. A connection whose backlog exceeds its limit is cut, and libzmq frees what it held.
//
// The size of what was delivered is overestimated, because encryption and framing add only some 50 bytes per frame
// where 128 are assumed. The difference therefore falls as a connection grows old. What counts is how far it lies
// above the lowest value that it has had, which does not grow while messages are delivered.

import Wire

/// A value without sockets: its owner tells it of connections, deliveries and received bytes.
package struct Backlog {
  /// How many unread bytes are tolerated.
  package struct Limits: Sendable {
    /// Bytes of a connection that has delivered a message, and of one that has not. A handshake takes less than a
    /// thousand bytes, but the first message may follow before it is read.
    package var known: Int
    package var stranger: Int
    /// Bytes of all connections together, and of all that have not delivered a message.
    package var together: Int
    package var strangers: Int

    package init(known: Int, stranger: Int, together: Int, strangers: Int) {
      (self.known, self.stranger, self.together, self.strangers) = (known, stranger, together, strangers)
    }

    /// For control connections: a frame has at most 4 MiB, and a process may send 32 MB a second.
    package static let control = Limits(known: 48 << 20, stranger: 16 << 20, together: 512 << 20, strangers: 128 << 20)
    /// For data connections: a peer has at most one window of its link in flight, and may have sent all of it when its
    /// first message is read.
    package static let data = Limits(
      known: ReliableLink<DataPiece>.windowBytes + (16 << 20),
      stranger: ReliableLink<DataPiece>.windowBytes + (16 << 20),
      together: .max, strangers: 256 << 20)
  }

  private struct Connection {
    var isKnown = false
    /// Whether the kernel counts its bytes; it does not count those of Unix sockets.
    var isCounted = true
    var delivered = 0
    var lowest = 0
  }

  private let limits: Limits
  private var connections: [Int32: Connection] = [:]

  /// Bytes assumed per frame for encryption and framing; more than libzmq and the kernel add.
  private static let frameOverhead = 128

  package init(_ limits: Limits) { self.limits = limits }

  /// Whether the connection is open and counted.
  package func knows(_ connection: Int32) -> Bool { connections[connection] != nil }
  /// Begins to count a connection, by its file descriptor.
  package mutating func opened(_ connection: Int32) { connections[connection] = Connection() }
  /// Ends counting; the descriptor may be used again for another connection.
  package mutating func closed(_ connection: Int32) { connections[connection] = nil }

  /// A complete message arrived over the connection.
  package mutating func delivered(_ connection: Int32, frames: Int, byteCount: Int) {
    connections[connection]?.isKnown = true
    connections[connection]?.delivered += byteCount + frames * Self.frameOverhead
  }

  /// Returns the connections to cut, and the backlog of each; they are forgotten.
  /// - Parameter received: the bytes that a connection has received in total; nil where that is not known.
  package mutating func overdrawn(_ received: (Int32) -> Int?) -> [(connection: Int32, byteCount: Int)] {
    var waiting: [(connection: Int32, byteCount: Int, isKnown: Bool)] = []
    for number in connections.keys.sorted() {
      guard var connection = connections[number], connection.isCounted else { continue }
      guard let count = received(number) else {
        connections[number]!.isCounted = false
        continue
      }
      let level = count - connection.delivered
      connection.lowest = min(connection.lowest, level)
      connections[number] = connection
      waiting.append((number, level - connection.lowest, connection.isKnown))
    }
    var all = waiting.reduce(0) { $0 + $1.byteCount }
    var strange = waiting.reduce(0) { $0 + ($1.isKnown ? 0 : $1.byteCount) }
    var cut: [(connection: Int32, byteCount: Int)] = []
    // The largest backlog first: cutting it frees most memory for the others.
    for one in waiting.sorted(by: { ($1.byteCount, $0.connection) < ($0.byteCount, $1.connection) }) {
      let isTooMuch =
        one.byteCount > (one.isKnown ? limits.known : limits.stranger) || all > limits.together
        || (!one.isKnown && strange > limits.strangers)
      guard isTooMuch else { continue }
      all -= one.byteCount
      strange -= one.isKnown ? 0 : one.byteCount
      connections[one.connection] = nil
      cut.append((one.connection, one.byteCount))
    }
    return cut
  }
}

/// The backlog of a socket's connections, updated by libzmq's events and the kernel's byte counts.
final class ConnectionWatch {
  private let socket: Socket
  /// Whether the kernel counts the bytes of the socket's connections; it does not where they are Unix sockets.
  private let countsBytes: Bool
  let monitor: ConnectionMonitor
  private var backlog: Backlog
  private var events: [ConnectionMonitor.Event] = []
  private var nextLook = Instant(nanoseconds: 0)
  private static let lookEvery = Duration.milliseconds(50)

  init(
    _ socket: Socket, _ limits: Backlog.Limits, _ context: SocketContext, countsBytes: Bool = true
  ) throws(TransportError) {
    self.socket = socket
    self.countsBytes = countsBytes
    monitor = try ConnectionMonitor(socket, context)
    backlog = Backlog(limits)
  }

  /// The events of connections since the last call, in order.
  func takeEvents() -> [ConnectionMonitor.Event] {
    hear()
    defer { events = [] }
    return events
  }

  private func hear() {
    for event in monitor.events() {
      switch event {
      case .began(let connection): backlog.opened(connection)
      case .closed(let connection): backlog.closed(connection)
      }
      events.append(event)
    }
  }

  /// Counts a message that the socket has just returned.
  func delivered(_ frames: [Payload]) {
    // The connection may have been opened since the last look at the events.
    if !backlog.knows(socket.lastSource) { hear() }
    backlog.delivered(socket.lastSource, frames: frames.count, byteCount: frames.reduce(0) { $0 + $1.bytes.count })
  }

  /// Cuts connections with too large a backlog, at most 20 times a second. Returns sentences for the log.
  func cutOverdrawn(at now: Instant) -> [String] {
    guard countsBytes, nextLook <= now else { return [] }
    nextLook = now + Self.lookEvery
    hear()
    return backlog.overdrawn(Socket.receivedBytes).map { connection, byteCount in
      socket.cut(connection)
      return "a connection was cut: it has sent \(byteCount >> 20) MiB without completing a message"
    }
  }
}
