// This process among the ranks of one MPI launch: a world. It is entered once and left once, by all ranks together; a rank that dies takes
// the world with it, for MPI has no way on without it. Nothing here blocks but the entering, and the last step of leaving.

import CMPI
import Wire

#if canImport(Glibc)
  import Glibc
#endif

/// One thread at a time may use it: `MPIPort`'s.
package final class MPIWorld: @unchecked Sendable {
  package let place: MPIPlace
  /// `Open MPI v4.1.4`
  package let library: String
  private let table: UnsafePointer<ress_mpi_table>

  /// Enters, and waits for all other ranks to do so.
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

  /// `payload` must stay until the ticket is completed.
  func send(_ payload: Payload, kind: Int32, to rank: Int, ticket: UInt64) throws(MPIError) {
    try check(table.pointee.send(Int32(rank), kind, payload.bytes.baseAddress, UInt64(payload.bytes.count), ticket))
  }

  /// A message that has come; it must be received before the next probe.
  func probe() throws(MPIError) -> Arrival? {
    var arrival = ress_mpi_arrival(), isThere: Int32 = 0
    try check(table.pointee.probe(&arrival, &isThere))
    guard isThere != 0 else { return nil }
    return Arrival(source: Int(arrival.source), kind: arrival.kind, byteCount: Int(arrival.byte_count))
  }

  func receive(into payload: Payload, ticket: UInt64) throws(MPIError) {
    try check(table.pointee.receive(payload.bytes.baseAddress, UInt64(payload.bytes.count), ticket))
  }

  /// Tickets of sends and receives that have ended.
  func completed() throws(MPIError) -> UnsafeBufferPointer<UInt64> {
    var tickets: UnsafePointer<UInt64>?, count: Int32 = 0
    try check(table.pointee.completed(&tickets, &count))
    return UnsafeBufferPointer(start: tickets, count: Int(count))
  }

  /// Asked until it is true: every rank asks it, so that nobody waits for anything but the end.
  func meet() throws(MPIError) -> Bool {
    var all: Int32 = 0
    try check(table.pointee.meet(&all))
    return all != 0
  }

  /// MPI's own end waits for all ranks, and one that dies now would hold it up for ever: so this process ends soon in any case.
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

  /// It takes some milliseconds.
  private static let finishSeconds: UInt32 = 1

  private func check(_ reason: UnsafePointer<CChar>?) throws(MPIError) {
    if let reason { throw .failed(reason: String(cString: reason)) }
  }
}
