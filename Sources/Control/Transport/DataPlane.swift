// The connection between the workers of a generation, as a protocol with two implementations: over ZeroMQ
// (`DataPort`) and over MPI (`MPIPort`). Each delivers every message once, and the messages of one sender in order.
// The results of training do not depend on which is used.

import Wire

/// Something that arrived at the data plane.
package enum DataArrival {
  case message(DataMessage)
  /// A message could not be read; its sender will repeat it.
  case repeated(reason: String)
  /// A message could not be read and will not be repeated. The generation cannot continue, because a worker that
  /// waits for the message would wait forever.
  case damaged(reason: String)
  /// The data plane has failed; nothing will arrive any more.
  case broken(reason: String)
}

/// A worker's end of the data plane. Only the network thread uses it.
package protocol DataPlane: AnyObject {
  /// Sockets to poll for messages; empty where there is nothing to poll.
  var sockets: [Socket] { get }
  /// Connects to the peers of a generation. Messages of the generation before are dropped.
  func open(_ assignment: Assignment) throws(TransportError)
  func close()
  func send(_ message: DataMessage, to index: Int, at now: Instant)
  /// Passes on everything that has arrived from this generation's peers.
  func receive(at now: Instant, _ arrived: (DataArrival) -> Void)
  func tick(at now: Instant)
  var nextTick: Instant? { get }
  /// Whether everything that was sent has arrived.
  var isIdle: Bool { get }
}

extension Assignment {
  /// The incarnation of a peer in this generation: a hash of run, generation and peer index. Messages with other
  /// incarnations are dropped, which separates generations.
  func incarnation(_ place: Int) -> UInt64 {
    var x = run.rawValue &* 0x9E37_79B9_7F4A_7C15
    x = (x ^ UInt64(generation)) &* 0xBF58_476D_1CE4_E5B9
    x = (x ^ UInt64(place + 1)) &* 0x94D0_49BB_1331_11EB
    x ^= x >> 31
    return x == 0 ? 1 : x
  }
}
