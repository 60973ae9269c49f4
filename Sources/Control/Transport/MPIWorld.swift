// An MPI launch (a world), seen from one of its ranks. All ranks start MPI together and end it together; MPI has no
// way to continue without a rank that has died. No call blocks except the start and the last step of the end.

import CMPI
import Wire

#if canImport(Glibc)
  import Glibc
#endif

/// Only one thread at a time may use it; `MPIPort` does.
package final class MPIWorld: @unchecked Sendable {
  package let place: MPIPlace
  /// The MPI library's name and version, for example `Open MPI v4.1.4`.
  package let library: String
  private let table: UnsafePointer<ress_mpi_table>

  /// Starts MPI, which blocks until all other ranks have started.
  package init(plugin path: String) throws(MPIError) {
    table = try MPIPlugin.load(path)
    var place = ress_mpi_place()
    if let reason = table.pointee.start(UInt64.random(in: 1...UInt64.max), &place) {
      throw .failed(reason: String(cString: reason))
    }
    self.place = MPIPlace(world: place.world, rank: Int(place.rank), size: Int(place.size))
    library = withUnsafeBytes(of: place.library) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }

  struct Arrival {
    var source: Int
    var kind: Int32
    var byteCount: Int
  }

  /// Begins to send. `payload` must be kept alive until `completed` returns the ticket.
  func send(_ payload: Payload, kind: Int32, to rank: Int, ticket: UInt64) throws(MPIError) {
    try check(table.pointee.send(Int32(rank), kind, payload.bytes.baseAddress, UInt64(payload.bytes.count), ticket))
  }

  /// Announces the next message; it must be received before the next probe. Nil where none has arrived.
  func probe() throws(MPIError) -> Arrival? {
    var arrival = ress_mpi_arrival(), isThere: Int32 = 0
    try check(table.pointee.probe(&arrival, &isThere))
    guard isThere != 0 else { return nil }
    return Arrival(source: Int(arrival.source), kind: arrival.kind, byteCount: Int(arrival.byte_count))
  }

  func receive(into payload: Payload, ticket: UInt64) throws(MPIError) {
    try check(table.pointee.receive(payload.bytes.baseAddress, UInt64(payload.bytes.count), ticket))
  }

  /// Tickets of the sends and receives that have completed since the last call.
  func completed() throws(MPIError) -> UnsafeBufferPointer<UInt64> {
    var tickets: UnsafePointer<UInt64>?, count: Int32 = 0
    try check(table.pointee.completed(&tickets, &count))
    return UnsafeBufferPointer(start: tickets, count: Int(count))
  }

  /// Whether all ranks have called this. Every rank calls it repeatedly until it is true, so that no rank blocks in
  /// it.
  func meet() throws(MPIError) -> Bool {
    var all: Int32 = 0
    try check(table.pointee.meet(&all))
    return all != 0
  }

  /// Ends MPI. MPI's own call waits for all ranks and would block forever if one died now, so a thread ends this
  /// process after a second in any case.
  func finish() throws(MPIError) {
    var thread = pthread_t()
    let status = pthread_create(
      &thread, nil,
      { _ in
        sleep(MPIWorld.finishSeconds)
        _exit(1)
      }, nil)
    precondition(status == 0, "cannot start a thread: error \(status)")
    pthread_detach(thread)
    try check(table.pointee.finish())
  }

  /// A normal end takes some milliseconds.
  private static let finishSeconds: UInt32 = 1

  private func check(_ reason: UnsafePointer<CChar>?) throws(MPIError) {
    if let reason { throw .failed(reason: String(cString: reason)) }
  }
}
