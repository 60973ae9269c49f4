// Answers libzmq's question whether a key may come in (ZAP, RFC 27), for all guarded sockets of a context. It has a thread of its own:
// libzmq waits for the answer before it lets a connection say anything.

import CZeroMQ
import Foundation
import Synchronization
import Wire

package final class Gatekeeper: @unchecked Sendable {
  private let handle: UnsafeMutableRawPointer
  private let context: SocketContext
  private let allows: @Sendable (PublicKey) -> Bool
  private let stopping = Atomic<Bool>(false)
  private let ended = DispatchSemaphore(value: 0)

  /// - Parameter allows: asked on the gatekeeper's thread, once a connection.
  package init(_ context: SocketContext, allows: @escaping @Sendable (PublicKey) -> Bool) throws(TransportError) {
    self.context = context
    self.allows = allows
    guard let handle = zmq_socket(context.handle, ZMQ_REP) else {
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

  /// Ends its thread, which keeps the context alive until then.
  package func close() {
    guard !stopping.exchange(true, ordering: .acquiringAndReleasing) else { return }
    ended.wait()
  }

  private func loop() {
    while !stopping.load(ordering: .acquiring) {
      var item = zmq_pollitem_t(socket: handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0)
      guard zmq_poll(&item, 1, 50) > 0 else { continue }
      guard let frames = ZAP.receive(handle) else { continue }
      answer(frames)
    }
  }

  /// Version, request, domain, address, identity, mechanism, and the key.
  private func answer(_ frames: [[UInt8]]) {
    let request = frames.count > 1 ? frames[1] : []
    let key =
      frames.count == 7 && frames[0] == Array("1.0".utf8) && frames[5] == Array("CURVE".utf8)
      ? PublicKey(bytes: frames[6]) : nil
    let isAllowed = key.map(allows) ?? false
    // The user of a connection is its key: what it says carries that name. A refusal is "for now" (300), after which a client tries
    // again; after 400 libzmq never would, and a worker that came a moment before its peer knew of it would be shut out for good.
    let reply = [
      Array("1.0".utf8), request, Array((isAllowed ? "200" : "300").utf8),
      Array((isAllowed ? "welcome" : "this key is not allowed").utf8), isAllowed ? Array(key!.text.utf8) : [], [],
    ]
    for (index, frame) in reply.enumerated() {
      _ = frame.withUnsafeBytes {
        zmq_send(handle, $0.baseAddress, $0.count, index + 1 < reply.count ? ZMQ_SNDMORE : 0)
      }
    }
  }

  private enum ZAP {
    /// All frames of the next message.
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
