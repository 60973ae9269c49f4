// Owners of libzmq's handles, and what threads wait with. A socket is used by one thread; a context may be shared.

import CLinux
import CZeroMQ
import Wire

#if canImport(Glibc)
  import Glibc
#endif

/// libzmq's context: its I/O threads and buffers. Sockets keep their context alive.
package final class SocketContext: @unchecked Sendable {
  let handle: UnsafeMutableRawPointer

  package init() throws(TransportError) {
    guard let handle = zmq_ctx_new() else { throw .system(call: "zmq_ctx_new", reason: TransportError.lastReason()) }
    self.handle = handle
  }

  deinit {
    while zmq_ctx_term(handle) != 0 && zmq_errno() == EINTR {}
  }
}

/// One frame of a message to send.
package enum Frame {
  case bytes([UInt8])
  /// A range of a payload, sent from its memory without a copy.
  case payload(Payload, Range<Int>)

  package var byteCount: Int {
    switch self {
    case .bytes(let bytes): bytes.count
    case .payload(_, let range): range.count
    }
  }
}

/// A ROUTER or DEALER socket.
package final class Socket {
  package enum Kind { case router, dealer }

  /// How the end of a connection is noticed between workers: where only this machine can reach the address, by the
  /// kernel. Elsewhere by pings, which are sent to every peer, so that their number grows with the square of the
  /// workers: with many of them they come less often.
  package static func watch(_ endpoint: String, peers: Int) -> Watch {
    endpoint.hasPrefix("ipc://") ? .kernel : .heartbeats(milliseconds: Int32(max(500, 32 * min(peers, 256))))
  }

  /// Which side notices that the other end is gone.
  package enum Watch {
    /// libzmq: a DEALER sends a ping after `milliseconds`, and both ends give the connection up after four times as
    /// long without an answer or a ping. A process that is stopped (SIGSTOP) looks like one that is dead.
    case heartbeats(milliseconds: Int32)
    /// The kernel alone. A process that ends closes its connection, a cut line stops acknowledging, and a stopped
    /// process does neither, so the three can be distinguished.
    case kernel
  }

  let handle: UnsafeMutableRawPointer
  private let context: SocketContext

  /// Messages that may wait in libzmq for one peer. Further ones wait in a `ReliableLink`, whose window is smaller.
  private static let highWaterMark: Int32 = 4096
  /// More than encryption adds to a frame.
  private static let frameOverhead = 64 << 10
  /// Largest data frame in bytes. libzmq closes a connection that announces a larger one, even before its key is
  /// known. Larger messages travel in pieces.
  static let largestDataFrame = Int64(DataPiece.largest + frameOverhead)
  /// Largest control frame in bytes; a page of events or a roster of thousands is smaller.
  static let largestControlFrame = Int64(ControlCodec.largestFrame + frameOverhead)
  /// The kernel closes a connection whose data is not acknowledged for this long, where `watch` is `.kernel`.
  private static let unacknowledgedMilliseconds: Int32 = 1200

  /// - Parameter identity: the name under which ROUTER sockets know this one; 5 to 255 bytes, the first not 0.
  package init(
    _ kind: Kind, _ context: SocketContext, identity: [UInt8]? = nil, watch: Watch = .heartbeats(milliseconds: 500),
    largestFrame: Int64 = Socket.largestDataFrame
  ) throws(TransportError) {
    self.context = context
    guard let handle = zmq_socket(context.handle, kind == .router ? ZMQ_ROUTER : ZMQ_DEALER) else {
      throw .system(call: "zmq_socket", reason: TransportError.lastReason())
    }
    self.handle = handle
    set(ZMQ_LINGER, Int32(0))
    set(ZMQ_SNDHWM, Socket.highWaterMark)
    set(ZMQ_RCVHWM, Socket.highWaterMark)
    set(ZMQ_MAXMSGSIZE, largestFrame)
    // Close connections that do not finish the handshake in time. A client that was refused retries after the same
    // interval, so clients use a shorter one.
    set(ZMQ_HANDSHAKE_IVL, Int32(kind == .router ? 5000 : 2000))
    switch watch {
    case .heartbeats(let milliseconds):
      // A ROUTER only answers: it learns from the pings how long it may wait for the next one.
      guard kind == .dealer else { break }
      set(ZMQ_HEARTBEAT_IVL, milliseconds)
      set(ZMQ_HEARTBEAT_TIMEOUT, 4 * milliseconds)
      set(ZMQ_HEARTBEAT_TTL, 4 * milliseconds)
    case .kernel: set(ZMQ_TCP_MAXRT, Socket.unacknowledgedMilliseconds)
    }
    set(ZMQ_RECONNECT_IVL, Int32(50))
    set(ZMQ_RECONNECT_IVL_MAX, Int32(1000))
    if kind == .router {
      // A process that reconnects under its old identity takes it over from the old connection.
      set(ZMQ_ROUTER_HANDOVER, Int32(1))
    }
    if let identity {
      _ = identity.withUnsafeBytes { zmq_setsockopt(handle, ZMQ_ROUTING_ID, $0.baseAddress, $0.count) }
    }
  }

  deinit { zmq_close(handle) }

  /// Shuts a connection down, by the descriptor that its messages came with; libzmq then closes it. Should the
  /// descriptor belong to another connection by now, that one merely has to reconnect.
  package func cut(_ source: Int32) { shutdown(source, Int32(SHUT_RDWR)) }

  /// Bytes that the kernel has received over a connection since it was opened; nil where it does not count them
  /// (`ipc://`).
  static func receivedBytes(_ source: Int32) -> Int? {
    let count = ress_received_bytes(source)
    return count < 0 ? nil : count
  }

  private func set<Value>(_ option: Int32, _ value: Value) {
    let status = withUnsafeBytes(of: value) { zmq_setsockopt(handle, option, $0.baseAddress, $0.count) }
    precondition(status == 0, "zmq_setsockopt \(option): \(TransportError.lastReason())")
  }

  /// Listens at an endpoint, and returns its address with the actual port.
  @discardableResult
  package func bind(_ endpoint: String, insecure: Bool = false, door: Door = .open) throws(TransportError) -> String {
    let endpoint = try EndpointPolicy.resolved(listening: endpoint)
    try EndpointPolicy.check(listening: endpoint, insecure: insecure || !door.isOpen)
    close(door)
    try IPCPath.checkFree(endpoint)
    allowIPv6(for: endpoint)
    guard zmq_bind(handle, endpoint) == 0 else {
      throw .cannotBind(endpoint: endpoint, reason: TransportError.lastReason())
    }
    var text = [CChar](repeating: 0, count: 512)
    var size = text.count
    guard zmq_getsockopt(handle, ZMQ_LAST_ENDPOINT, &text, &size) == 0 else { return endpoint }
    return String(decoding: text.prefix(while: { $0 != 0 }).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// IPv6 is enabled only for IPv6 addresses; otherwise libzmq would report IPv4 addresses in IPv6 notation.
  private func allowIPv6(for endpoint: String) { set(ZMQ_IPV6, Int32(endpoint.contains("[") ? 1 : 0)) }

  /// Configures authentication; must be called before the socket binds or connects.
  private func close(_ door: Door) {
    func set(_ option: Int32, _ text: String) {
      let status = zmq_setsockopt(handle, option, text, text.utf8.count)
      precondition(status == 0, "zmq_setsockopt \(option): \(TransportError.lastReason())")
    }
    switch door {
    case .open: return
    case .guarded(let keys):
      self.set(ZMQ_CURVE_SERVER, Int32(1))
      set(ZMQ_CURVE_SECRETKEY, keys.secret)
      set(ZMQ_ZAP_DOMAIN, "ress")
    case .known(let keys, let server):
      set(ZMQ_CURVE_SERVERKEY, server.text)
      set(ZMQ_CURVE_PUBLICKEY, keys.publicKey.text)
      set(ZMQ_CURVE_SECRETKEY, keys.secret)
    }
  }

  package func connect(_ endpoint: String, door: Door = .open) throws(TransportError) {
    close(door)
    allowIPv6(for: endpoint)
    guard zmq_connect(handle, endpoint) == 0 else {
      throw .cannotConnect(endpoint: endpoint, reason: TransportError.lastReason())
    }
  }

  /// Sends all frames or none, without blocking. Returns false where the message cannot be taken now (no
  /// connection, or too much waits); the reliable link repeats it later.
  package func send(_ frames: [Frame]) -> Bool {
    for (index, frame) in frames.enumerated() {
      let flags = ZMQ_DONTWAIT | (index + 1 < frames.count ? ZMQ_SNDMORE : 0)
      guard send(frame, flags) else {
        // Only the first frame can be refused; libzmq accepts the rest of a message that it has begun.
        precondition(index == 0, "libzmq took half a message")
        return false
      }
    }
    return true
  }

  private func send(_ frame: Frame, _ flags: Int32) -> Bool {
    var message = zmq_msg_t()
    switch frame {
    case .bytes(let bytes):
      guard zmq_msg_init_size(&message, bytes.count) == 0 else { return false }
      bytes.withUnsafeBytes { source in
        if source.count > 0 { zmq_msg_data(&message).copyMemory(from: source.baseAddress!, byteCount: source.count) }
      }
    case .payload(let payload, let range):
      let retained = Unmanaged.passRetained(payload)
      let status = zmq_msg_init_data(
        &message, payload.bytes.baseAddress! + range.lowerBound, range.count,
        { _, hint in Unmanaged<Payload>.fromOpaque(hint!).release() }, retained.toOpaque())
      guard status == 0 else {
        retained.release()
        return false
      }
    }
    while true {
      if zmq_msg_send(&message, handle, flags) >= 0 { return true }
      if zmq_errno() == EINTR { continue }
      zmq_msg_close(&message)
      return false
    }
  }

  /// Descriptor of the connection that the last message arrived over; -1 where it is not known. It may be reused
  /// later.
  private(set) var lastSource: Int32 = -1
  /// The key that authenticated the last message's connection; nil without encryption.
  package private(set) var lastUser: PublicKey?

  /// The frames of the next message; nil where none is waiting. A message with more than `frameLimit` frames is
  /// dropped.
  package func receive(frameLimit: Int = 8) -> [Payload]? {
    var frames: [Payload] = []
    var frameCount = 0
    while true {
      var message = zmq_msg_t()
      zmq_msg_init(&message)
      defer { zmq_msg_close(&message) }
      let status = zmq_msg_recv(&message, handle, ZMQ_DONTWAIT)
      if status < 0 {
        if zmq_errno() == EINTR { continue }
        return nil
      }
      lastSource = zmq_msg_get(&message, ZMQ_SRCFD)
      // The first frame of a ROUTER's message is the peer's identity, made by libzmq, which does not always carry
      // the property.
      if frameCount == 0 { lastUser = nil }
      if let user = zmq_msg_gets(&message, "User-Id") { lastUser = PublicKey(text: String(cString: user)) }
      let size = zmq_msg_size(&message)
      frameCount += 1
      if frameCount <= frameLimit {
        let payload = Payload(byteCount: size)
        if size > 0 {
          payload.bytes.copyMemory(from: UnsafeRawBufferPointer(start: zmq_msg_data(&message), count: size))
        }
        frames.append(payload)
      }
      guard zmq_msg_more(&message) == 0 else { continue }
      if frameCount <= frameLimit { return frames }
      frames = []
      frameCount = 0
    }
  }
}

/// Wakes a thread that is blocked in `Poller.wait`, from another thread.
package final class WakeUp: @unchecked Sendable {
  fileprivate let descriptor: Int32

  package init() throws(TransportError) {
    descriptor = eventfd(0, Int32(EFD_NONBLOCK) | Int32(EFD_CLOEXEC))
    guard descriptor >= 0 else { throw .system(call: "eventfd", reason: String(cString: strerror(errno))) }
  }

  deinit { close(descriptor) }

  package func signal() {
    var one: UInt64 = 1
    while write(descriptor, &one, 8) < 0 && errno == EINTR {}
  }

  package func clear() {
    var count: UInt64 = 0
    while read(descriptor, &count, 8) < 0 && errno == EINTR {}
  }
}

package enum Poller {
  /// Blocks until a socket has a message, a connection opens or closes, the wake-up is signalled, or the timeout
  /// has passed.
  package static func wait(
    _ sockets: [Socket], _ wake: WakeUp?, monitor: ConnectionMonitor? = nil, timeoutMilliseconds: Int
  ) {
    var items = sockets.map { zmq_pollitem_t(socket: $0.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0) }
    if let monitor {
      items.append(zmq_pollitem_t(socket: monitor.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0))
    }
    if let wake {
      items.append(zmq_pollitem_t(socket: nil, fd: wake.descriptor, events: Int16(ZMQ_POLLIN), revents: 0))
    }
    _ = zmq_poll(&items, Int32(items.count), timeoutMilliseconds)
    wake?.clear()
  }

  /// Sleeps for less than a millisecond, which `wait` cannot, or until the wake-up is signalled. A duration of zero
  /// yields the core.
  package static func nap(_ duration: Duration, _ wake: WakeUp) {
    guard duration > .zero else {
      sched_yield()
      return
    }
    var item = pollfd(fd: wake.descriptor, events: Int16(POLLIN), revents: 0)
    var time = timespec(tv_sec: 0, tv_nsec: Int(min(duration.nanoseconds, 999_999_999)))
    if ress_nap(&item, &time) > 0 { wake.clear() }
  }

  /// Makes the calling thread's naps end on time: by default the kernel may delay them by 50 µs.
  package static func sleepPrecisely() { _ = ress_sleep_precisely() }
}
