// Reports the connections of a socket that were opened or closed. libzmq sends these events over a socket of its
// own and names a connection by its file descriptor. Which process it belongs to is known from the messages that
// arrive over it (`Socket.lastSource`).

import CZeroMQ
import Wire

package final class ConnectionMonitor {
  /// Events by the connection's descriptor, which a later connection may get again.
  package enum Event: Equatable, Sendable {
    case began(Int32)
    case closed(Int32)
  }

  let handle: UnsafeMutableRawPointer
  private let watched: Socket
  private let context: SocketContext

  package init(_ socket: Socket, _ context: SocketContext) throws(TransportError) {
    watched = socket
    self.context = context
    // The address must be unique per socket; the socket's address in memory is.
    let address = "inproc://monitor-\(UInt(bitPattern: socket.handle))"
    guard zmq_socket_monitor(socket.handle, address, ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED) == 0,
      let handle = zmq_socket(context.handle, ZMQ_PAIR)
    else { throw .system(call: "zmq_socket_monitor", reason: TransportError.lastReason()) }
    self.handle = handle
    var none: Int32 = 0
    zmq_setsockopt(handle, ZMQ_LINGER, &none, 4)
    // No limit on waiting events: at a limit libzmq's own thread would block. An event has some fifty bytes.
    zmq_setsockopt(handle, ZMQ_RCVHWM, &none, 4)
    guard zmq_connect(handle, address) == 0 else {
      throw .cannotConnect(endpoint: address, reason: TransportError.lastReason())
    }
  }

  deinit {
    zmq_socket_monitor(watched.handle, nil, 0)
    zmq_close(handle)
  }

  /// The events since the last call, in order.
  package func events() -> [Event] {
    var events: [Event] = []
    while let event = receive() {
      // Layout: two bytes for the kind of event, four for the descriptor. A second frame has the address and is
      // skipped.
      guard event.count == 6 else { continue }
      let (kind, number) = event.withUnsafeBytes {
        ($0.loadUnaligned(as: UInt16.self), $0.loadUnaligned(fromByteOffset: 2, as: Int32.self))
      }
      events.append(Int32(kind) == ZMQ_EVENT_ACCEPTED ? .began(number) : .closed(number))
    }
    return events
  }

  /// The next frame; nil where none is waiting.
  private func receive() -> [UInt8]? {
    var message = zmq_msg_t()
    zmq_msg_init(&message)
    defer { zmq_msg_close(&message) }
    guard zmq_msg_recv(&message, handle, ZMQ_DONTWAIT) >= 0 else { return nil }
    return Array(UnsafeRawBufferPointer(start: zmq_msg_data(&message), count: zmq_msg_size(&message)))
  }
}
