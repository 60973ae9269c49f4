// The checkpoint writer: writes large blocks of memory to known offsets of a file that HDF5 has laid out before,
// and computes the SHA-256 of the whole file in the same pass.
//
// HDF5 creates the file with empty datasets and tells at which offset each one's numbers belong. The numbers are
// then written with pwrite, without HDF5. Meanwhile a second thread computes the SHA-256 of the file in the order
// of its bytes, from the memory that the blocks come from, so that nothing is read back from the disk except HDF5's
// small structures between the blocks. The kernel is asked to start writing every 32 MiB, so that the final fsync
// has little left to do.
//
// It replaced writing through HDF5 and reading the file again for the sum. Measurements with 600 MB are in
// Benchmarks/README.md, "A checkpoint's time".

import CLinux
import Foundation

#if canImport(Glibc)
  import Glibc
#endif

package enum FilledFile {
  /// Memory that belongs at an offset of the file.
  package struct Block {
    /// Offset in the file, in bytes.
    package var place: Int
    package var bytes: UnsafeRawBufferPointer

    package init(place: Int, bytes: UnsafeRawBufferPointer) {
      self.place = place
      self.bytes = bytes
    }
  }

  /// Bytes per write, and bytes after which the kernel is asked to begin writing to disk.
  private static let writtenAtOnce = 4 << 20, flushedAtOnce = 32 << 20
  /// Below this size a second thread costs more than it saves.
  private static let threadedFrom = 8 << 20

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
      guard block.place >= end, block.bytes.count <= size - block.place else {
        throw .damaged(path: path, problem: "its layout has no room for \(block.bytes.count) bytes at \(block.place)")
      }
      end = block.place + block.bytes.count
    }
    let hash = Hash(descriptor, size, blocks)
    if end > threadedFrom { hash.start() } else { hash.run() }
    defer { hash.wait() }
    var flushed = 0
    for block in blocks {
      var done = 0
      while done < block.bytes.count {
        let count = min(writtenAtOnce, block.bytes.count - done)
        let written = pwrite(descriptor, block.bytes.baseAddress! + done, count, off_t(block.place + done))
        if written < 0 && errno == EINTR { continue }
        guard written > 0 else { throw Durable.fail("write", path) }
        done += written
        let ready = block.place + done
        if ready - flushed >= flushedAtOnce {
          ress_begin_writeback(descriptor, flushed, ready - flushed)
          flushed = ready
        }
      }
    }
    while fsync(descriptor) != 0 { if errno != EINTR { throw Durable.fail("flush to disk", path) } }
    hash.wait()
    guard let digest = hash.digest else {
      throw .system(action: "read", path: path, reason: "the file's structures could not be read back")
    }
    return (digest, size)
  }

  /// Computes the SHA-256 of the final file in the order of its bytes: blocks from memory, and what lies between
  /// them from the file.
  private final class Hash: @unchecked Sendable {
    private let descriptor: Int32
    private let size: Int
    private let blocks: [Block]
    private let ended = DispatchSemaphore(value: 0)
    /// Nil until the end, and where the file cannot be read.
    private(set) var digest: String?

    init(_ descriptor: Int32, _ size: Int, _ blocks: [Block]) {
      (self.descriptor, self.size, self.blocks) = (descriptor, size, blocks)
    }

    /// Starts a thread, which runs at the caller's priority.
    func start() {
      let thread = Thread { [self] in run() }
      thread.name = "ress-checkpoint-sum"
      thread.start()
    }

    func run() {
      digest = sum()
      ended.signal()
    }

    /// Blocks until the sum is computed. It may be called more than once.
    func wait() {
      ended.wait()
      ended.signal()
    }

    private func sum() -> String? {
      let sum = SHA256.Running()
      var place = 0
      for block in blocks {
        guard add(place..<block.place, sum) else { return nil }
        sum.add(block.bytes)
        place = block.place + block.bytes.count
      }
      return add(place..<size, sum) ? sum.digest() : nil
    }

    /// Adds bytes that the file holds already.
    private func add(_ range: Range<Int>, _ sum: SHA256.Running) -> Bool {
      var buffer = [UInt8](repeating: 0, count: min(1 << 20, range.count))
      var place = range.lowerBound
      while place < range.upperBound {
        let count = min(buffer.count, range.upperBound - place)
        let got = buffer.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, count, off_t(place)) }
        if got < 0 && errno == EINTR { continue }
        guard got > 0 else { return false }
        buffer.withUnsafeBytes { sum.add(UnsafeRawBufferPointer(rebasing: $0[..<got])) }
        place += got
      }
      return true
    }
  }
}
