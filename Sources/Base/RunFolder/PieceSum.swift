// The SHA-256 of a file that is put together piece by piece, computed by a second thread while the first writes.
//
// The pieces lie in a ring of buffers. The caller takes a free one, fills it, announces it with `add`, and may read it
// until it asks for the next one. Two semaphores count the buffers that are free and those that wait for the sum.

import Dispatch
import Foundation

final class PieceSum: @unchecked Sendable {
  private let buffers: [UnsafeMutableRawBufferPointer]
  /// Bytes of each buffer that count; 0 ends the thread.
  private let counts: UnsafeMutablePointer<Int>
  /// Pieces taken by the caller, and pieces that the thread has added.
  private var taken = 0, added = 0
  private let unused = DispatchSemaphore(value: 0), filled = DispatchSemaphore(value: 0)
  private let ended = DispatchSemaphore(value: 0)
  private let sum = SHA256.Running()
  private let isThreaded: Bool
  private var isFinished = false

  /// - Parameter pieces: buffers; with one there is no thread, and `add` itself computes the sum.
  init(pieces: Int, pieceBytes: Int, alignment: Int) {
    buffers = (0..<pieces).map { _ in .allocate(byteCount: pieceBytes, alignment: alignment) }
    counts = .allocate(capacity: pieces)
    counts.initialize(repeating: 0, count: pieces)
    isThreaded = pieces > 1
    // A semaphore must not end with a smaller value than it was made with, so it is made with 0.
    for _ in buffers { unused.signal() }
    guard isThreaded else { return }
    // A thread of its own and not a queue's, because it runs at the caller's priority.
    let thread = Thread { [self] in
      while addNext() {}
      ended.signal()
    }
    thread.name = "ress-checkpoint-sum"
    thread.start()
  }

  deinit {
    for buffer in buffers { buffer.deallocate() }
    counts.deallocate()
  }

  /// A buffer to fill. Blocks until the sum no longer needs it.
  func free() -> UnsafeMutableRawBufferPointer {
    unused.wait()
    taken += 1
    return buffers[(taken - 1) % buffers.count]
  }

  /// The buffer that `free` returned last holds the next `count` bytes of the file.
  func add(_ count: Int) {
    counts[(taken - 1) % buffers.count] = count
    filled.signal()
    if !isThreaded { _ = addNext() }
  }

  /// Adds the oldest piece that waits. Returns false at the end.
  private func addNext() -> Bool {
    filled.wait()
    let index = added % buffers.count
    guard counts[index] > 0 else { return false }
    sum.add(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffers[index])[..<counts[index]]))
    added += 1
    unused.signal()
    return true
  }

  /// Ends the sum and waits for it. It may be called more than once.
  func finish() {
    guard !isFinished else { return }
    isFinished = true
    guard isThreaded else { return }
    _ = free()
    counts[(taken - 1) % buffers.count] = 0
    filled.signal()
    ended.wait()
  }

  /// The SHA-256 of all pieces, as lower-case hexadecimal. Only after `finish`.
  private(set) lazy var digest: String = sum.digest()
}
