// Memory that the processes of one machine share.
//
// A process offers a file that exists in memory alone (memfd_create) and has no name. Others open it through
// /proc/PID/fd/N, which the kernel permits to processes of the same user alone. So nothing can be left behind on a
// disk, no path can be too long, and a process that cannot share memory with this one (on another machine, in another
// container, of another user) cannot open it either. Rejected: a file in /dev/shm, which a process that is killed
// leaves there, and which is often limited to 64 MB in containers.

import CLinux
import Glibc

/// What a process offers to others: a descriptor that stays the same as long as the process lives, and the newest
/// memory that it stands for. Earlier memory stays valid where it is mapped.
package final class OfferedMemory: @unchecked Sendable {
  package let descriptor: Int32

  private let name: String

  /// Nil where the system has no files in memory.
  /// - Parameter name: what /proc shows.
  package init?(name: String = "ress") {
    self.name = name
    descriptor = ress_memory_file(name, 0)
    guard descriptor >= 0 else { return nil }
  }

  deinit { close(descriptor) }

  /// Offers new memory of zeros in place of what was offered before; nil where the system refuses.
  package func offer(byteCount: Int) -> SharedMemory? {
    let file = ress_memory_file(name, byteCount)
    guard file >= 0, ress_move_descriptor(file, descriptor) == descriptor else { return nil }
    return SharedMemory(file: descriptor, byteCount: byteCount)
  }
}

/// A mapping of memory that one process offers.
package final class SharedMemory: @unchecked Sendable {
  package let bytes: UnsafeMutableRawPointer
  package let byteCount: Int

  fileprivate init?(file: Int32, byteCount: Int) {
    guard byteCount > 0, let bytes = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0),
      bytes != MAP_FAILED
    else { return nil }
    (self.bytes, self.byteCount) = (bytes, byteCount)
  }

  /// The memory that a process offers under a descriptor; nil where this process cannot open it, or where it is not a
  /// sealed file in memory of that size.
  package static func open(process: Int, descriptor: Int, byteCount: Int) -> SharedMemory? {
    // Another file may have the descriptor; opening it must neither wait nor change it.
    let file = Glibc.open("/proc/\(process)/fd/\(descriptor)", O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var status = stat()
    guard ress_is_memory_file(file) != 0, fstat(file, &status) == 0, status.st_size == byteCount else { return nil }
    return SharedMemory(file: file, byteCount: byteCount)
  }

  deinit { munmap(bytes, byteCount) }
}
