// Memory for numbers that are written now and read rarely: a file without a name, which the process maps. What is not
// being used need not stay in the process's memory, because the kernel writes it to the disk and reads it again.
//
// The space is reserved when the file is made, so that a full disk is an error there and not a signal at some later
// store. Rejected: calls of write and read, which would need a second way to reach the numbers of a shard.

#if canImport(Glibc)
  import Glibc
#endif

package enum UnlinkedFile {
  /// TMPDIR, else /var/tmp. /tmp is not used, because it is in memory on many systems.
  package static var folder: String {
    getenv("TMPDIR").map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 } ?? "/var/tmp"
  }

  /// Creates a file in `folder` and removes its name. The kernel removes the file when its last user closes it. Returns
  /// the descriptor, or −1 and an error in `errno`.
  package static func create(in folder: String, named name: String) -> Int32 {
    var path = Array("\(folder)/\(name)-XXXXXX".utf8CString)
    let descriptor = mkstemp(&path)
    guard descriptor >= 0 else { return descriptor }
    unlink(path)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    return descriptor
  }
}

package struct FileMemoryError: Error, Equatable, CustomStringConvertible {
  package let folder: String
  package let byteCount: Int
  package let code: Int32

  package var description: String {
    "cannot make a file of \((byteCount + (1 << 20) - 1) >> 20) MiB in \(folder): \(String(cString: strerror(code)))"
  }
}

/// A mapped file without a name, of zeros at first.
package final class FileMemory {
  package let bytes: UnsafeMutableRawPointer
  package let byteCount: Int

  package init(byteCount: Int, in folder: String = UnlinkedFile.folder) throws(FileMemoryError) {
    let byteCount = max(1, byteCount)
    func failure(_ code: Int32) -> FileMemoryError {
      FileMemoryError(folder: folder, byteCount: byteCount, code: code)
    }
    let file = UnlinkedFile.create(in: folder, named: "ress-copy")
    guard file >= 0 else { throw failure(errno) }
    defer { close(file) }
    let code = posix_fallocate(file, 0, byteCount)
    guard code == 0 else { throw failure(code) }
    guard let bytes = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), bytes != MAP_FAILED else {
      throw failure(errno)
    }
    (self.bytes, self.byteCount) = (bytes, byteCount)
  }

  deinit { munmap(bytes, byteCount) }

  /// Gives up the pages of a range: they do not count as this process's memory until they are read or written again.
  package func settle(_ range: Range<Int>) {
    let page = Int(sysconf(Int32(_SC_PAGESIZE))), first = range.lowerBound / page * page
    madvise(bytes + first, range.upperBound - first, MADV_DONTNEED)
  }
}
