// A file's bytes in order, unpacked where it is gzip or zstd. What it is its first bytes say, not its name.

import CZlib
import CZstd

#if canImport(Glibc)
  import Glibc
#endif

/// An open file, read once from its beginning.
struct PackedFile: ~Copyable {
  private let path: String
  private let source: Source
  private var isAtEnd = false

  private enum Source {
    /// zlib hands out plain files as they are.
    case zlib(gzFile)
    case zstd(Zstd)
  }

  private final class Zstd {
    let descriptor: Int32
    let stream: OpaquePointer
    var packed = [UInt8](repeating: 0, count: 1 << 17)
    /// What of `packed` is still to be unpacked.
    var waiting = 0..<0
    /// 0 between two frames: a file that ends elsewhere was cut.
    var needed = 0

    init(_ descriptor: Int32) {
      self.descriptor = descriptor
      stream = ZSTD_createDStream()
      ZSTD_initDStream(stream)
    }

    deinit {
      ZSTD_freeDStream(stream)
      close(descriptor)
    }
  }

  init(_ path: String) throws(DataError) {
    self.path = path
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .file(action: "read", path: path, reason: String(cString: strerror(errno))) }
    var magic: UInt32 = 0
    if pread(descriptor, &magic, 4, 0) == 4, UInt32(littleEndian: magic) == 0xFD2F_B528 {
      source = .zstd(Zstd(descriptor))
    } else if let file = gzdopen(descriptor, "rb") {
      gzbuffer(file, 1 << 17)
      source = .zlib(file)
    } else {
      close(descriptor)
      throw .file(action: "read", path: path, reason: "out of memory")
    }
  }

  deinit { if case .zlib(let file) = source { gzclose(file) } }

  /// Bytes of the file that were read, packed as they are.
  var position: Int {
    switch source {
    case .zlib(let file): max(0, Int(gzoffset(file)))
    case .zstd(let zstd): Int(lseek(zstd.descriptor, 0, SEEK_CUR))
    }
  }

  /// The next bytes, at most a buffer full; 0 at the end.
  mutating func read(into buffer: UnsafeMutableBufferPointer<UInt8>) throws(DataError) -> Int {
    switch source {
    case .zlib(let file):
      let count = gzread(file, buffer.baseAddress, UInt32(min(buffer.count, 1 << 30)))
      if count == 0 || count < Int32(buffer.count) {
        // A file that was cut says so only to who asks.
        var code: Int32 = 0
        let words = gzerror(file, &code)
        guard code == Z_OK || code == Z_STREAM_END else {
          let system =
            code == Z_ERRNO ? String(cString: strerror(errno)) : words.map { String(cString: $0) } ?? "damaged"
          throw damaged(system)
        }
      }
      guard count >= 0 else { throw damaged("the gzip data cannot be unpacked") }
      return Int(count)
    case .zstd(let zstd): return try read(zstd, into: buffer)
    }
  }

  private func read(_ zstd: Zstd, into buffer: UnsafeMutableBufferPointer<UInt8>) throws(DataError) -> Int {
    var output = ZSTD_outBuffer(dst: buffer.baseAddress, size: buffer.count, pos: 0)
    while output.pos == 0 {
      if zstd.waiting.isEmpty {
        let count = Glibc.read(zstd.descriptor, &zstd.packed, zstd.packed.count)
        if count < 0 && errno == EINTR { continue }
        guard count >= 0 else { throw .file(action: "read", path: path, reason: String(cString: strerror(errno))) }
        if count == 0 {
          guard zstd.needed == 0 else { throw damaged("the zstd data ends in the middle of a frame") }
          return 0
        }
        zstd.waiting = 0..<count
      }
      let waiting = zstd.waiting
      let (needed, used) = zstd.packed.withUnsafeBytes { bytes in
        var input = ZSTD_inBuffer(src: bytes.baseAddress! + waiting.lowerBound, size: waiting.count, pos: 0)
        return (ZSTD_decompressStream(zstd.stream, &output, &input), input.pos)
      }
      guard ZSTD_isError(needed) == 0 else { throw damaged(String(cString: ZSTD_getErrorName(needed))) }
      zstd.needed = needed
      zstd.waiting = waiting.lowerBound + used..<waiting.upperBound
    }
    return output.pos
  }

  private func damaged(_ what: String) -> DataError { .file(action: "unpack", path: path, reason: what) }
}
