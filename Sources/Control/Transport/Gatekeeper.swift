// Answers libzmq's question whether a client's key may connect (ZAP, ZeroMQ RFC 27), for all guarded sockets of a
// context. It has a thread of its own, because libzmq does not complete a handshake before it has the answer.

import CZeroMQ
import Foundation
import Synchronization
import Wire

package final class Gatekeeper: @unchecked Sendable {
  private let handle: UnsafeMutableRawPointer
  private let context: SocketContext
  private let allows: @Sendable (PublicKey) -> Bool
  private let hold: Duration
  private let stopping = Atomic<Bool>(false)
  private let ended = DispatchSemaphore(value: 0)

  /// - Parameters:
  ///   - allows: whether a key is permitted. Called on the gatekeeper's thread, once per connection and repeatedly
  ///     while it is held.
  ///   - hold: how long a connection with an unknown key waits for its answer. Two workers of a new generation
  ///     learn of each other at slightly different times, and a refused client tries again only after libzmq's
  ///     handshake interval.
  package init(
    _ context: SocketContext, hold: Duration = .zero, allows: @escaping @Sendable (PublicKey) -> Bool
  ) throws(TransportError) {
    self.context = context
    self.allows = allows
    self.hold = hold
    // A ROUTER and not a REP socket, because a REP socket cannot answer later requests before earlier ones.
    guard let handle = zmq_socket(context.handle, ZMQ_ROUTER) else {
      throw .system(call: "zmq_socket", reason: TransportError.lastReason())
    }
    self.handle = handle
    var linger: Int32 = 0
    zmq_setsockopt(handle, ZMQ_LINGER, &linger, 4)
    guard zmq_bind(handle, "inproc://zeromq.zap.01") == 0 else {
      let reason = TransportError.lastReason()
      zmq_close(handle)
      throw .cannotBind(endpoint: "inproc://zeromq.zap.01", reason: reason)
    }
    let thread = Thread { [self] in
      loop()
      zmq_close(self.handle)
      ended.signal()
    }
    thread.name = "ress-gatekeeper"
    thread.start()
  }

  /// Ends the thread, which keeps the context alive until then.
  package func close() {
    guard !stopping.exchange(true, ordering: .acquiringAndReleasing) else { return }
    ended.wait()
  }

  /// A connection attempt whose answer is delayed.
  private struct Knock {
    /// The frames before the answer: the requester's identity, an empty frame, the protocol version, the request's
    /// number.
    let envelope: [[UInt8]]
    let key: PublicKey
    let until: Instant
  }

  /// Most held attempts; further ones are refused at once.
  private static let heldLimit = 256

  private func loop() {
    var held: [Knock] = []
    while !stopping.load(ordering: .acquiring) {
      var item = zmq_pollitem_t(socket: handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0)
      if zmq_poll(&item, 1, held.isEmpty ? 50 : 10) > 0, let frames = ZAP.receive(handle) {
        take(frames, &held)
      }
      let now = MonotonicClock.now
      held.removeAll { knock in
        let isAllowed = allows(knock.key)
        guard isAllowed || knock.until <= now else { return false }
        answer(knock.envelope, isAllowed ? knock.key : nil)
        return true
      }
    }
  }

  /// Handles a request: identity, an empty frame, then version, request number, domain, address, routing identity,
  /// mechanism, key.
  private func take(_ frames: [[UInt8]], _ held: inout [Knock]) {
    guard frames.count >= 4 else { return }
    let envelope = [frames[0], frames[1], Array("1.0".utf8), frames[3]]
    let key =
      frames.count == 9 && frames[2] == envelope[2] && frames[7] == Array("CURVE".utf8)
      ? PublicKey(bytes: frames[8]) : nil
    guard let key, hold > .zero, held.count < Self.heldLimit, !allows(key) else {
      return answer(envelope, key.flatMap { allows($0) ? $0 : nil })
    }
    held.append(Knock(envelope: envelope, key: key, until: MonotonicClock.now + hold))
  }

  /// Answers a request. The key becomes the connection's user identifier, which libzmq attaches to its messages. A
  /// refusal has code 300 ("temporary"), after which the client tries again. After code 400 libzmq never would, and
  /// a worker that connects a moment before its peer knows its key would be shut out for good.
  private func answer(_ envelope: [[UInt8]], _ allowed: PublicKey?) {
    let reply =
      envelope + [
        Array((allowed == nil ? "300" : "200").utf8),
        Array((allowed == nil ? "this key is not allowed" : "welcome").utf8), allowed.map { Array($0.text.utf8) } ?? [],
        [],
      ]
    for (index, frame) in reply.enumerated() {
      _ = frame.withUnsafeBytes {
        zmq_send(handle, $0.baseAddress, $0.count, index + 1 < reply.count ? ZMQ_SNDMORE : 0)
      }
    }
  }

  private enum ZAP {
    /// The frames of the next message.
    static func receive(_ handle: UnsafeMutableRawPointer) -> [[UInt8]]? {
      var frames: [[UInt8]] = []
      while true {
        var message = zmq_msg_t()
        zmq_msg_init(&message)
        defer { zmq_msg_close(&message) }
        guard zmq_msg_recv(&message, handle, 0) >= 0 else { return nil }
        frames.append(Array(UnsafeRawBufferPointer(start: zmq_msg_data(&message), count: zmq_msg_size(&message))))
        if zmq_msg_more(&message) == 0 { return frames }
      }
    }
  }
}
