// How data travel between the workers of a generation: over ZeroMQ (`DataPort`), or over MPI (`MPIPort`). Either delivers each message
// once, and those of one sender in order; the numbers in them know nothing of the way.

import Wire

/// What a look at the data plane brings.
package enum DataArrival {
  case message(DataMessage)
  /// Something could not be read, and comes again.
  case repeated(reason: String)
  /// Something could not be read, and does not come again: whoever waits for it waits for ever.
  case damaged(reason: String)
  /// Nothing will come any more.
  case broken(reason: String)
}

package protocol DataPlane: AnyObject {
  /// Sockets on which a message may be waited for.
  var sockets: [Socket] { get }
  /// Begins with the peers of a generation; what belonged to the one before is gone.
  func open(_ assignment: Assignment) throws(TransportError)
  func close()
  func send(_ message: DataMessage, to index: Int, at now: Instant)
  /// All that has come from this generation's peers.
  func receive(at now: Instant, _ arrived: (DataArrival) -> Void)
  func tick(at now: Instant)
  var nextTick: Instant? { get }
  /// Whether all that was sent has arrived.
  var isIdle: Bool { get }
}

extension Assignment {
  /// A number for (run, generation, place), mixed so that no two share one by accident. It fences off those of other generations.
  func incarnation(_ place: Int) -> UInt64 {
    var x = run.rawValue &* 0x9E37_79B9_7F4A_7C15
    x = (x ^ UInt64(generation)) &* 0xBF58_476D_1CE4_E5B9
    x = (x ^ UInt64(place + 1)) &* 0x94D0_49BB_1331_11EB
    x ^= x >> 31
    return x == 0 ? 1 : x
  }
}
