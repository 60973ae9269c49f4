// A file for what the backward pass of a long sequence needs at each segment border: the memory as the segment
// found it, and the newest rows of its tables. It is written once in the forward pass and read once in the backward
// pass, from the last segment to the first. Disks are fast enough for that, and the memory of a training step does
// not depend on the sequence's length.

import Kernels

#if canImport(Glibc)
  import Glibc
#endif

package struct BorderFileError: Error, Equatable, CustomStringConvertible {
  package let action: String
  package let folder: String
  package let code: Int32

  package var description: String {
    "cannot \(action) the file for a long sequence in \(folder): \(String(cString: strerror(code))); "
      + "set TMPDIR to a folder with room, or training.recompute: never to keep it in memory"
  }
}

/// An unlinked file of records of equal size, one per segment. The kernel removes it when it is closed.
final class BorderFile {
  private let recordByteCount: Int
  private let folder: String
  /// −1 until the file is created.
  private var descriptor: Int32 = -1

  init(recordByteCount: Int) {
    self.recordByteCount = recordByteCount
    folder = UnlinkedFile.folder
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  private func open() throws(BorderFileError) {
    guard descriptor < 0 else { return }
    descriptor = UnlinkedFile.create(in: folder, named: "ress-sequence")
    guard descriptor >= 0 else { throw failure("create") }
  }

  private func failure(_ action: String) -> BorderFileError {
    BorderFileError(action: action, folder: folder, code: errno)
  }

  /// Writes contiguous rows into a record, `place` values after its start.
  func write(_ rows: Matrix, to record: Int, at place: Int) throws(BorderFileError) {
    guard rows.count > 0 else { return }
    try open()
    try transfer(rows, record: record, at: place, action: "write") { pwrite(descriptor, $0, $1, $2) }
  }

  /// Reads rows that `write` has written.
  func read(_ rows: Matrix, from record: Int, at place: Int) throws(BorderFileError) {
    guard rows.count > 0 else { return }
    try transfer(rows, record: record, at: place, action: "read") { pread(descriptor, $0, $1, $2) }
  }

  /// Transfers all bytes of the rows, in as many calls of `move(bytes, count, offset)` as needed.
  private func transfer(
    _ rows: Matrix, record: Int, at place: Int, action: String, _ move: (UnsafeMutableRawPointer, Int, Int) -> Int
  ) throws(BorderFileError) {
    var bytes = UnsafeMutableRawPointer(rows.pointer)
    var left = rows.count * MemoryLayout<Real>.stride
    var offset = record * recordByteCount + place * MemoryLayout<Real>.stride
    while left > 0 {
      let count = move(bytes, left, offset)
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw failure(action) }
      (bytes, left, offset) = (bytes + count, left - count, offset + count)
    }
  }
}
