// The owners of libzmq's handles. One thread uses a socket; a context may be shared.

import CLinux
import CZeroMQ
import Wire

#if canImport(Glibc)
  import Glibc
#endif

/// libzmq's threads and buffers. Sockets keep their context alive.
package final class SocketContext: @unchecked Sendable {
  let handle: UnsafeMutableRawPointer

  package init() throws(TransportError) {
    guard let handle = zmq_ctx_new() else { throw .system(call: "zmq_ctx_new", reason: TransportError.lastReason()) }
    self.handle = handle
  }

  deinit {
    while zmq_ctx_term(handle) != 0 && zmq_errno() == EINTR {}
  }

  /// "4.3.4"
  package static var libraryVersion: String {
    var major: Int32 = 0, minor: Int32 = 0, patch: Int32 = 0
    zmq_version(&major, &minor, &patch)
    return "\(major).\(minor).\(patch)"
  }
}

/// A part of a message.
package enum Frame {
  case bytes([UInt8])
  /// A part of it, sent from its own memory.
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

  /// Who notices that the other end is gone.
  package enum Watch {
    /// libzmq, which asks every half second: a process that is stopped looks like one that is dead.
    case heartbeats
    /// The kernel alone: a process that ends closes its connection, a line that is cut stops acknowledging, and a process that
    /// is stopped does neither.
    case kernel
  }

  let handle: UnsafeMutableRawPointer
  private let context: SocketContext

  /// Messages that may wait in libzmq for one peer. What waits longer waits in a `ReliableLink`, whose window is smaller.
  private static let highWaterMark: Int32 = 4096
  /// What encryption adds to a frame, and more.
  private static let frameOverhead = 64 << 10
  /// No frame is larger, and libzmq closes a connection that announces one, before its key is known too: larger messages travel in pieces.
  package static let largestDataFrame = Int64(DataPiece.largest + frameOverhead)
  /// No request or answer is: a page of events, a roster of thousands.
  package static let largestControlFrame = Int64(ControlCodec.largestFrame + frameOverhead)
  /// Data that nobody acknowledges for so long closes a connection that the kernel watches.
  private static let unacknowledgedMilliseconds: Int32 = 1200

  /// - Parameter identity: how ROUTER sockets will name this one; 5 to 255 bytes, not beginning with 0.
  package init(
    _ kind: Kind, _ context: SocketContext, identity: [UInt8]? = nil, watch: Watch = .heartbeats,
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
    // Whoever connects and says nothing, or says it slowly, does not stay. Who was refused for now tries again after as long, so a
    // client waits shorter.
    set(ZMQ_HANDSHAKE_IVL, Int32(kind == .router ? 5000 : 2000))
    switch watch {
    case .heartbeats:
      // libzmq notices dead connections by itself within two seconds and connects again.
      set(ZMQ_HEARTBEAT_IVL, Int32(500))
      set(ZMQ_HEARTBEAT_TIMEOUT, Int32(2000))
    case .kernel: set(ZMQ_TCP_MAXRT, Socket.unacknowledgedMilliseconds)
    }
    set(ZMQ_RECONNECT_IVL, Int32(50))
    set(ZMQ_RECONNECT_IVL_MAX, Int32(1000))
    if kind == .router {
      // A process that connects again under its old name takes the name over.
      set(ZMQ_ROUTER_HANDOVER, Int32(1))
    }
    if let identity {
      _ = identity.withUnsafeBytes { zmq_setsockopt(handle, ZMQ_ROUTING_ID, $0.baseAddress, $0.count) }
    }
  }

  deinit { zmq_close(handle) }

  /// Closes a connection, by the number that its messages came with: libzmq finds it ended, and forgets it. A number that is another
  /// connection's by now costs that one a reconnect.
  package func cut(_ source: Int32) { shutdown(source, Int32(SHUT_RDWR)) }

  /// Bytes that the system has taken from a connection since it began; nil where it does not count them (`ipc://`).
  package static func receivedBytes(_ source: Int32) -> Int? {
    let count = ress_received_bytes(source)
    return count < 0 ? nil : count
  }

  private func set<Value>(_ option: Int32, _ value: Value) {
    let status = withUnsafeBytes(of: value) { zmq_setsockopt(handle, option, $0.baseAddress, $0.count) }
    precondition(status == 0, "zmq_setsockopt \(option): \(TransportError.lastReason())")
  }

  /// Listens, and returns the address with its actual port.
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

  /// Only where an address asks for it: otherwise libzmq reports every IPv4 address in IPv6's clothes.
  private func allowIPv6(for endpoint: String) { set(ZMQ_IPV6, Int32(endpoint.contains("[") ? 1 : 0)) }

  /// Before the socket binds or connects.
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

  /// Sends all frames or none. False where the message could not be taken now (nobody is connected, or too much waits);
  /// the reliable link repeats it.
  package func send(_ frames: [Frame]) -> Bool {
    for (index, frame) in frames.enumerated() {
      let flags = ZMQ_DONTWAIT | (index + 1 < frames.count ? ZMQ_SNDMORE : 0)
      guard send(frame, flags) else {
        // Only the first frame can be refused: libzmq takes the rest of a message it has begun.
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

  /// The connection that the last message came over, as a number of this moment; -1 where it is not known.
  package private(set) var lastSource: Int32 = -1
  /// Who said the last message: the key that its connection has proved; nil in the clear.
  package private(set) var lastUser: PublicKey?

  /// The next message's frames; nil where none waits. A message of more than `frameLimit` frames is dropped.
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
      // The name of a ROUTER's peer, in front, is libzmq's own frame and does not always carry it.
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

/// Wakes a thread that waits in `Poller.wait` from another one.
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
  /// Waits until a socket has a message, a connection begins or ends, the wake-up was signalled, or the time is over.
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

  /// Sleeps for less than `wait` can count, unless the wake-up was signalled; for no time at all it lets another thread have the core.
  package static func nap(_ duration: Duration, _ wake: WakeUp) {
    guard duration > .zero else {
      sched_yield()
      return
    }
    var item = pollfd(fd: wake.descriptor, events: Int16(POLLIN), revents: 0)
    var time = timespec(tv_sec: 0, tv_nsec: Int(min(duration.nanoseconds, 999_999_999)))
    if ress_nap(&item, &time) > 0 { wake.clear() }
  }

  /// For a thread whose naps should end when they are over.
  package static func sleepPrecisely() { _ = ress_sleep_precisely() }
}
