// Reads a file's bytes in order, and decompresses them. The compression is recognised by the first bytes and not by
// the name. Bytes can be examined before they are read (`peek`), so that the contents of a pipe, which can be read
// only once, are recognised as well.

import CLinux

#if canImport(Glibc)
  import Glibc
#endif

/// An open file, read once from its beginning.
struct PackedFile: ~Copyable {
  /// The name in error messages.
  private let path: String
  private let descriptor: Int32
  /// Bytes of the file that are still to be decompressed.
  private var packed = [UInt8](repeating: 0, count: 1 << 17)
  private var waiting = 0..<0
  private var isAtEnd = false
  /// Nil for a plain file.
  private var unpacker: (any Unpacker)?
  /// Decompressed bytes that `peek` has returned and that are still to be read.
  private var ahead: [UInt8] = []
  /// Number of bytes read from the file, compressed as they are.
  private(set) var position = 0

  /// Whether a path means standard input.
  static func isStandardInput(_ path: String) -> Bool {
    ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"].contains(path)
  }

  /// - Parameters:
  ///   - path: a file or pipe; `-` is standard input.
  ///   - memory: most bytes that decompression may allocate.
  init(_ path: String, memory: Int = SourceOptions.standardMemory) throws(DataError) {
    self.path = PackedFile.isStandardInput(path) ? "standard input" : path
    descriptor = PackedFile.isStandardInput(path) ? ress_dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .file(action: "read", path: path, reason: String(cString: strerror(errno))) }
    unpacker = nil
    try fill()
    switch Packing(packed[waiting]) {
    case .gzip: unpacker = GzipUnpacker()
    case .zstd: unpacker = ZstdUnpacker(memory: memory)
    case .xz: unpacker = XZUnpacker(memory: memory)
    case .bzip2: unpacker = BZip2Unpacker()
    case .lz4: unpacker = LZ4Unpacker()
    case nil: break
    }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Reads the next decompressed bytes, at most as many as the buffer holds. Returns 0 at the end.
  mutating func read(into buffer: UnsafeMutableBufferPointer<UInt8>) throws(DataError) -> Int {
    guard !ahead.isEmpty else { return try unpack(into: buffer) }
    let count = min(buffer.count, ahead.count)
    for place in 0..<count { buffer[place] = ahead[place] }
    ahead.removeFirst(count)
    return count
  }

  /// Returns the next bytes, up to `count`, without consuming them.
  mutating func peek(_ count: Int) throws(DataError) -> [UInt8] {
    var buffer = [UInt8](repeating: 0, count: 1 << 14)
    while ahead.count < count {
      let made = try buffer.withUnsafeMutableBufferPointer { bytes throws(DataError) in try unpack(into: bytes) }
      if made == 0 { break }
      ahead += buffer[..<made]
    }
    return Array(ahead.prefix(count))
  }

  private mutating func unpack(into buffer: UnsafeMutableBufferPointer<UInt8>) throws(DataError) -> Int {
    while true {
      var used = 0, made = 0
      if let unpacker {
        do throws(UnpackFault) {
          (used, made) = try packed.withUnsafeBufferPointer { bytes throws(UnpackFault) in
            try unpacker.unpack(UnsafeBufferPointer(rebasing: bytes[waiting]), isLast: isAtEnd, into: buffer)
          }
        } catch { throw explain(error) }
      } else {
        let count = min(buffer.count, waiting.count)
        packed.withUnsafeBufferPointer { bytes in
          if count > 0 { buffer.baseAddress!.update(from: bytes.baseAddress! + waiting.lowerBound, count: count) }
        }
        (used, made) = (count, count)
      }
      waiting = waiting.lowerBound + used..<waiting.upperBound
      if made > 0 { return made }
      if waiting.isEmpty && !isAtEnd {
        try fill()
      } else if used == 0 {
        guard waiting.isEmpty, unpacker?.isComplete ?? true else {
          throw .file(action: "unpack", path: path, reason: "the compressed data is incomplete; the file was truncated")
        }
        return 0
      }
    }
  }

  /// Fills the buffer, or reads up to the end of the file; a pipe returns little at a time.
  private mutating func fill() throws(DataError) {
    var count = 0
    while count < packed.count {
      let room = packed.count - count
      let got = packed.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress! + count, room) }
      if got < 0 && errno == EINTR { continue }
      guard got >= 0 else { throw .file(action: "read", path: path, reason: String(cString: strerror(errno))) }
      if got == 0 {
        isAtEnd = true
        break
      }
      count += got
    }
    waiting = 0..<count
    position += count
  }

  private func explain(_ fault: UnpackFault) -> DataError {
    switch fault {
    case .damaged(let what): .file(action: "unpack", path: path, reason: what)
    case .memory(let needed):
      .file(
        action: "unpack", path: path,
        reason: needed.map {
          "it needs \(($0 + 0xFFFFF) >> 20) MiB of memory; --memory \(($0 + 0xFFFFF) >> 20) allows it"
        }
          ?? "it needs more memory than --memory allows; 2048 is the most that zstd asks for")
    }
  }
}
