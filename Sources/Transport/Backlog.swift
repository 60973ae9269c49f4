// Bytes that connections have brought and that make no message yet, or one that nobody has read. libzmq bounds the size of a frame and the
// number of whole messages; a message whose frames never end is neither, and libzmq keeps them all until the last one: a client with any
// key took 3 GB in 25 seconds. It has no option for that, so the system is asked how much each connection has brought, and what was
// delivered of it is subtracted. A connection that holds more than its bound is cut, and libzmq forgets what it held.
//
// What was delivered is overestimated (encryption and framing add some 50 bytes a frame), so the difference sinks as a connection grows old.
// What counts is how far it stands above the lowest it has been: that never grows while messages come through.

import Wire

package struct Backlog {
  package struct Limits: Sendable {
    /// Of a connection over which a message has come, and of one that has brought none: a greeting has less than a thousand bytes, but a
    /// first message may follow before it is read.
    package var known: Int
    package var stranger: Int
    /// Of all connections, and of all that have brought no message.
    package var together: Int
    package var strangers: Int

    package init(known: Int, stranger: Int, together: Int, strangers: Int) {
      (self.known, self.stranger, self.together, self.strangers) = (known, stranger, together, strangers)
    }

    /// A frame has at most 4 MiB, and a process may say 32 MB a second.
    package static let control = Limits(known: 48 << 20, stranger: 16 << 20, together: 512 << 20, strangers: 128 << 20)
    /// A peer has at most a link's window under way.
    package static let data = Limits(
      known: ReliableLink<DataPiece>.windowBytes + (64 << 20), stranger: 64 << 20, together: .max, strangers: 256 << 20)
  }

  private struct Connection {
    var isKnown = false
    var delivered = 0
    var lowest = 0
  }

  private let limits: Limits
  private var connections: [Int32: Connection] = [:]

  /// More than libzmq and the kernel add to a frame.
  private static let frameOverhead = 128

  package init(_ limits: Limits) { self.limits = limits }

  package func knows(_ connection: Int32) -> Bool { connections[connection] != nil }
  package mutating func opened(_ connection: Int32) { connections[connection] = Connection() }
  package mutating func closed(_ connection: Int32) { connections[connection] = nil }

  /// A whole message came over a connection.
  package mutating func delivered(_ connection: Int32, frames: Int, byteCount: Int) {
    connections[connection]?.isKnown = true
    connections[connection]?.delivered += byteCount + frames * Self.frameOverhead
  }

  /// Connections to cut, and what each has brought in vain; they are forgotten.
  /// - Parameter received: bytes that a connection has brought in all; nil where nobody knows.
  package mutating func overdrawn(_ received: (Int32) -> Int?) -> [(connection: Int32, byteCount: Int)] {
    var waiting: [(connection: Int32, byteCount: Int, isKnown: Bool)] = []
    for number in connections.keys.sorted() {
      guard let count = received(number), var connection = connections[number] else { continue }
      let level = count - connection.delivered
      connection.lowest = min(connection.lowest, level)
      connections[number] = connection
      waiting.append((number, level - connection.lowest, connection.isKnown))
    }
    var all = waiting.reduce(0) { $0 + $1.byteCount }
    var strange = waiting.reduce(0) { $0 + ($1.isKnown ? 0 : $1.byteCount) }
    var cut: [(connection: Int32, byteCount: Int)] = []
    // The largest first: whoever holds most gives room to all others.
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

/// The backlog of a socket's connections, with what libzmq and the system say of them.
final class ConnectionWatch {
  private let socket: Socket
  let monitor: ConnectionMonitor
  private var backlog: Backlog
  private var events: [ConnectionMonitor.Event] = []
  private var nextLook = Instant(nanoseconds: 0)
  private static let lookEvery = Duration.milliseconds(50)

  init(_ socket: Socket, _ limits: Backlog.Limits, _ context: SocketContext) throws(TransportError) {
    self.socket = socket
    monitor = try ConnectionMonitor(socket, context)
    backlog = Backlog(limits)
  }

  /// What has happened to connections since the last call, in order.
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

  /// The message that the socket has just given out.
  func delivered(_ frames: [Payload]) {
    // It may have been opened since the last look.
    if !backlog.knows(socket.lastSource) { hear() }
    backlog.delivered(socket.lastSource, frames: frames.count, byteCount: frames.reduce(0) { $0 + $1.bytes.count })
  }

  /// Cuts connections that hold too much, some times a second. Returns sentences about them.
  func cutOverdrawn(at now: Instant) -> [String] {
    guard nextLook <= now else { return [] }
    nextLook = now + Self.lookEvery
    hear()
    return backlog.overdrawn(Socket.receivedBytes).map { connection, byteCount in
      socket.cut(connection)
      return "a connection was cut: it has sent \(byteCount >> 20) MiB that make no message"
    }
  }
}
