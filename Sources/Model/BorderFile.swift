// What the backward of a long sequence needs from each segment border, in a file: the memory as the segment found it and the newest
// rows of its tables. Written once and read once, from the last segment to the first, so it is no loss that a disk holds it, and the
// memory of a training step stays the same for any length of sequence.

import Kernels

#if canImport(Glibc)
  import Glibc
#endif

package struct BorderFileError: Error, Equatable, CustomStringConvertible {
  package let action: String
  package let folder: String
  package let code: Int32

  package var description: String {
    "cannot \(action) what a long sequence leaves in a file of \(folder): \(String(cString: strerror(code))); "
      + "set TMPDIR to a folder with room, or training.recompute: never to keep it in memory"
  }
}

/// An unlinked file of records of equal size, one a segment. It ends with its owner.
final class BorderFile {
  private let recordByteCount: Int
  private let folder: String
  /// −1 before the first record.
  private var descriptor: Int32 = -1

  init(recordByteCount: Int) {
    self.recordByteCount = recordByteCount
    folder = getenv("TMPDIR").map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 } ?? "/var/tmp"
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  private func open() throws(BorderFileError) {
    guard descriptor < 0 else { return }
    var path = Array((folder + "/ress-sequence-XXXXXX").utf8CString)
    descriptor = mkstemp(&path)
    guard descriptor >= 0 else { throw failure("make") }
    unlink(path)
  }

  private func failure(_ action: String) -> BorderFileError {
    BorderFileError(action: action, folder: folder, code: errno)
  }

  /// Writes contiguous rows into a record, `place` values behind its start.
  func write(_ rows: Matrix, to record: Int, at place: Int) throws(BorderFileError) {
    guard rows.count > 0 else { return }
    try open()
    try transfer(rows, record, place, "write") { pwrite(descriptor, $0, $1, $2) }
  }

  /// Reads back what `write` put there.
  func read(_ rows: Matrix, from record: Int, at place: Int) throws(BorderFileError) {
    guard rows.count > 0 else { return }
    try transfer(rows, record, place, "read") { pread(descriptor, $0, $1, $2) }
  }

  /// All bytes of the rows by as many calls of `move` (bytes, count, offset) as it takes.
  private func transfer(
    _ rows: Matrix, _ record: Int, _ place: Int, _ action: String, _ move: (UnsafeMutableRawPointer, Int, Int) -> Int
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
