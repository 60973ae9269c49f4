// The checkpoint writer: writes large blocks of memory to known offsets of a file that HDF5 has laid out before,
// and computes the SHA-256 of the whole file in the same pass.
//
// HDF5 creates the file with empty datasets and tells at which offset each one's numbers belong. The file is then
// written again from its first byte to its last, in pieces of 4 MiB: a piece is put together from the blocks and,
// between them, from HDF5's small structures, which are read back. One thread writes the piece while another adds
// it to the SHA-256, so the time is that of the slower of the two.
//
// Pieces are written with O_DIRECT where the file system offers it: they go from memory to the disk without the
// kernel's page cache. That saves a copy, and on a node whose memory is in use it saves finding 600 MB of pages,
// which took most of a checkpoint's time, and leaves the dataset's pages in the cache. O_DIRECT wants offsets,
// lengths and addresses in multiples of the disk's block (at most 4096 bytes), hence the pieces. Elsewhere pieces are
// written through the page cache, and the kernel is asked to start writing each one, so that the final fsync has
// little left to do.
//
// Measurements with 700 MB are in Benchmarks/README.md, "Recovery".

import CLinux
import Foundation

#if canImport(Glibc)
  import Glibc
#endif

package enum FilledFile {
  /// Bytes that belong at an offset of the file.
  package struct Block {
    /// Offset in the file, in bytes.
    package var place: Int
    package var byteCount: Int
    /// Copies a range of its bytes.
    package var copy: (Range<Int>, UnsafeMutableRawPointer) -> Void

    package init(place: Int, byteCount: Int, copy: @escaping (Range<Int>, UnsafeMutableRawPointer) -> Void) {
      self.place = place
      self.byteCount = byteCount
      self.copy = copy
    }
  }

  /// Bytes of a piece, and the multiple that offsets, lengths and addresses of direct writes must have.
  private static let pieceBytes = 4 << 20, alignment = 4096

  /// Pieces that are in memory while a file of that size is written.
  private static func pieces(_ size: Int) -> Int { size > 2 * pieceBytes ? 3 : 1 }

  /// Memory that writing a file of that size takes.
  package static func bufferBytes(_ size: Int) -> Int { min(size, pieces(size) * pieceBytes) }

  /// Writes the blocks, which must not overlap, and flushes the file to disk. Returns its SHA-256 and length.
  package static func fill(_ path: String, _ blocks: [Block]) throws(FolderError) -> (digest: String, byteCount: Int) {
    let descriptor = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { throw Durable.fail("write", path) }
    defer { close(descriptor) }
    var about = stat()
    guard fstat(descriptor, &about) == 0 else { throw Durable.fail("write", path) }
    let size = Int(about.st_size)
    let blocks = blocks.sorted { $0.place < $1.place }
    var end = 0
    for block in blocks {
      guard block.place >= end, block.byteCount <= size - block.place else {
        throw .damaged(path: path, problem: "its layout has no room for \(block.byteCount) bytes at \(block.place)")
      }
      end = block.place + block.byteCount
    }
    let output = Output(path, descriptor)
    let sum = PieceSum(pieces: pieces(size), pieceBytes: pieceBytes, alignment: alignment)
    defer { sum.finish() }
    var next = 0
    for start in stride(from: 0, to: size, by: pieceBytes) {
      let piece = UnsafeMutableRawBufferPointer(rebasing: sum.free()[..<min(pieceBytes, size - start)])
      while next < blocks.count && blocks[next].place + blocks[next].byteCount <= start { next += 1 }
      try assemble(piece, at: start, blocks[next...], descriptor, path)
      sum.add(piece.count)
      if next < blocks.count && blocks[next].place < start + piece.count {
        try output.write(UnsafeRawBufferPointer(piece), at: start)
      }
    }
    while fsync(descriptor) != 0 { if errno != EINTR { throw Durable.fail("flush to disk", path) } }
    sum.finish()
    return (sum.digest, size)
  }

  /// Fills `piece` with the final bytes of the file from `start` on. `blocks` are those that end after `start`.
  private static func assemble(
    _ piece: UnsafeMutableRawBufferPointer, at start: Int, _ blocks: ArraySlice<Block>, _ descriptor: Int32,
    _ path: String
  ) throws(FolderError) {
    let end = start + piece.count
    var place = start
    for block in blocks {
      guard block.place < end else { break }
      try read(piece, at: start, place..<max(place, block.place), descriptor, path)
      let from = max(start, block.place), to = min(end, block.place + block.byteCount)
      if from < to { block.copy(from - block.place..<to - block.place, piece.baseAddress! + from - start) }
      place = to
    }
    try read(piece, at: start, place..<end, descriptor, path)
  }

  /// Reads bytes that the file holds already into the piece that begins at `start`.
  private static func read(
    _ piece: UnsafeMutableRawBufferPointer, at start: Int, _ range: Range<Int>, _ descriptor: Int32, _ path: String
  ) throws(FolderError) {
    var place = range.lowerBound
    while place < range.upperBound {
      let got = pread(descriptor, piece.baseAddress! + place - start, range.upperBound - place, off_t(place))
      if got < 0 && errno == EINTR { continue }
      guard got > 0 else {
        throw .system(action: "read", path: path, reason: "the file's structures could not be read back")
      }
      place += got
    }
  }

  /// The file as it is written: directly where that is possible, otherwise through the page cache.
  private final class Output {
    private let path: String
    private let cached: Int32
    /// Opened with O_DIRECT; -1 where the file system does not offer it.
    private var direct: Int32

    init(_ path: String, _ cached: Int32) {
      (self.path, self.cached) = (path, cached)
      direct = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | ress_direct_flag())
    }

    deinit { if direct >= 0 { close(direct) } }

    func write(_ piece: UnsafeRawBufferPointer, at start: Int) throws(FolderError) {
      var done = 0
      while done < piece.count {
        // The file's end is rarely a multiple of the disk's block, so it goes through the page cache. So does what
        // follows a direct write that was cut short at an odd place.
        let isDirect = direct >= 0 && done % alignment == 0 && piece.count - done >= alignment
        let count = isDirect ? (piece.count - done) / alignment * alignment : piece.count - done
        let written = pwrite(isDirect ? direct : cached, piece.baseAddress! + done, count, off_t(start + done))
        if written < 0 && errno == EINTR { continue }
        if written < 0 && isDirect && errno == EINVAL {
          // A file system can refuse direct writes only when they are made.
          close(direct)
          direct = -1
          continue
        }
        guard written > 0 else { throw Durable.fail("write", path) }
        if !isDirect { ress_begin_writeback(cached, start + done, written) }
        done += written
      }
    }
  }
}
