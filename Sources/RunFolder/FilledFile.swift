// Large blocks of memory into places of a file that was laid out before. The SHA-256 of the whole file is made while they are written, from
// the memory that they come from, so that nothing is read back; the disk begins early and has little left to do at the end.
//
// Measured with 600 MB beside the writing of it, read again and hashed, which it replaces: Benchmarks/README.md, "A checkpoint's time".

import CLinux
import Foundation

#if canImport(Glibc)
  import Glibc
#endif

package enum FilledFile {
  package struct Block {
    /// In bytes, from the file's beginning.
    package var place: Int
    package var bytes: UnsafeRawBufferPointer

    package init(place: Int, bytes: UnsafeRawBufferPointer) {
      self.place = place
      self.bytes = bytes
    }
  }

  /// Bytes that are written at a time, and that the disk is told of at a time.
  private static let writtenAtOnce = 4 << 20, flushedAtOnce = 32 << 20
  /// A thread for less than that costs more than it gives.
  private static let threadedFrom = 8 << 20

  /// Writes the blocks, which lie apart from each other, and flushes the file to disk.
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
      throw .system(action: "read", path: path, reason: "its own bytes did not come back")
    }
    return (digest, size)
  }

  /// The sum of the file as it will be, in the order of its bytes: blocks from memory, and from the file what lies between them.
  private final class Hash: @unchecked Sendable {
    private let descriptor: Int32
    private let size: Int
    private let blocks: [Block]
    private let ended = DispatchSemaphore(value: 0)
    /// Nil before the end, and where the file cannot be read.
    private(set) var digest: String?

    init(_ descriptor: Int32, _ size: Int, _ blocks: [Block]) {
      (self.descriptor, self.size, self.blocks) = (descriptor, size, blocks)
    }

    /// Runs beside the caller, at its priority.
    func start() {
      let thread = Thread { [self] in run() }
      thread.name = "ress-checkpoint-sum"
      thread.start()
    }

    func run() {
      digest = sum()
      ended.signal()
    }

    /// May be called again.
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

    /// What the file holds already.
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
